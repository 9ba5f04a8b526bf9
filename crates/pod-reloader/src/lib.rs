//! pod-reloader, wired together: flags, logging, the connection to the API server, and the tasks that run.
//!
//! ```text
//! main -> command -> logging --+-- run --+-- KeyKeeper          the digest key and its Secret
//!                              |         +-- identity           the operator's own user name
//!                              |         +-- serving            certificates, and the accept loop of every port
//!                              |         +-- leader             the Lease
//!                              |         +-- controller         while this replica leads
//!                              |         +-- admin              /healthz, /readyz, /metrics
//!                              +-- self_test, and other subcommands
//! ```
//!
//! Every task runs as long as the process: one that ends by itself ends the process, so that none dies unnoticed.

pub mod admin;
pub mod allocator;
pub mod args;
mod certificates;
mod command;
mod connection;
mod go_flags;
mod identity;
mod logging;
mod ports;
mod proxy;
mod readiness;
mod serving;
mod signals;
mod tasks;
mod terms;

use std::num::NonZero;
use std::process::ExitCode;

/// Each thread may have an arena of the allocator to itself, with what was freed there: a node's many cores must not
/// decide how much memory that is.
const MAX_WORKER_THREADS: usize = 4;
const MAX_BLOCKING_THREADS: usize = 8;

/// Runs the operator, or the subcommand that the process's arguments name, until it is done or stopped.
pub fn main() -> ExitCode {
    let invocation = command::Invocation::parse(go_flags::normalize(std::env::args_os()));
    let invocation = invocation.unwrap_or_else(|error| error.exit());
    let line_limit = logging::init(&invocation.logging);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MAX_WORKER_THREADS))
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(invocation.run(line_limit)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "fatal error");
            ExitCode::FAILURE
        }
    }
}
