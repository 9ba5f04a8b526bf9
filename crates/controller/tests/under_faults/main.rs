//! The reconciler, the webhook, the key keeper and the election under faults: over an API server in the process, in
//! paused time.
//!
//! A plain run plays a part of the histories, in seconds; `make test` plays all, with `ALL_HISTORIES` and
//! `HISTORY_SECONDS`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is a failure")]

mod agreement;
mod bystanders;
mod cell;
mod hangs;
mod histories;
mod jobs;
mod kinds;
mod on_change;
mod opting_in;
mod opting_in_late;
mod races;
mod reads;
mod recreations;
mod recreations_apart;
mod replicas;
mod reviews;
mod rivals;
mod rotation;
mod scope;
mod secrets_off;
mod starts;
mod streams;
mod support;
mod table;
mod upgrade;
mod webhookless;
mod writes;
