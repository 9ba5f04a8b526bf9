//! Section 4 and 6: the webhook spoken to directly, and the process itself.

mod callers;
mod hostile;
mod ports;
mod process;
mod reads;
mod reviews;
mod scope;
mod selectors;
