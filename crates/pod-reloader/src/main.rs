//! The operator's binary: see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    pod_reloader::allocator::return_what_is_freed();
    // One crypto provider for kube and the webhook, before either needs it.
    if let Err(error) = pod_reloader_serving::provider::install() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    pod_reloader::main()
}
