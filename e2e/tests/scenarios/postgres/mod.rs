//! docs/examples/postgres.md: a database, an API and a frontend, and a controller that owns the Secret.

mod immutable;
mod rotation;
mod sealed_secrets;
mod shop;
