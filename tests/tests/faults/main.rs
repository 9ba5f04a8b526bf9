//! Section 5: what must not be lost or doubled when something fails. Each test has a control plane of its own.

mod answers;
mod certificates;
mod failover;
mod fan_out;
mod leases;
mod outage;
mod rivals;
mod secrecy;
mod silence;
