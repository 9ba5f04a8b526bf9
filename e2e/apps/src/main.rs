//! The applications of the scenarios in `docs/examples`, all in one static program.
//!
//! Each serves over HTTP when its process started and what configuration it saw then, so that a client sees exactly
//! which pods restarted. Configuration is read as in any application: from the environment, files and arguments.

mod api;
mod frontend;
mod http;
mod load;
mod sealed_secrets;
mod strict;
mod web;

use std::process::ExitCode;

use clap::Parser;

/// Small applications whose pods read ConfigMaps and Secrets.
#[derive(Debug, Parser)]
enum Application {
    /// Shows the configuration that it saw at its start, and what it would see now.
    Web(web::Args),
    /// Runs only with the right secret.
    Strict(strict::Args),
    /// Sends requests all the time, and counts those that fail.
    Load(load::Args),
    /// Keeps items in PostgreSQL.
    Api(api::Args),
    /// Makes the table of the API, and ends.
    Migrate(api::Connection),
    /// Shows what the API answers.
    Frontend(frontend::Args),
    /// A controller that owns Secrets, and writes them from `SealedSecrets`.
    SealedSecrets(sealed_secrets::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let application = Application::parse();
    let outcome = match application {
        Application::Web(args) => web::run(args).await,
        Application::Strict(args) => strict::run(args).await,
        Application::Load(args) => load::run(args).await,
        Application::Api(args) => api::run(args).await,
        Application::Migrate(connection) => api::migrate(&connection).await,
        Application::Frontend(args) => frontend::run(args).await,
        Application::SealedSecrets(args) => sealed_secrets::run(args).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
