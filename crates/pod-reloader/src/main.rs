//! The operator's binary: see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    pod_reloader::allocator::return_what_is_freed();
    // One crypto provider for kube and the webhook, before either needs it.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: a TLS provider was installed already");
        return ExitCode::FAILURE;
    }
    pod_reloader::main()
}
