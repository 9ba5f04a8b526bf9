//! Section 5: what must not be lost or doubled when something fails. Each test has a control plane of its own.

mod certificates;
mod failover;
mod outage;
mod secrecy;
