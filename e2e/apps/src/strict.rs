//! Runs only with the right secret, and shows three ways of an application to deal with a wrong one.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use axum::{Router, http::StatusCode, routing::get};
use clap::ValueEnum;
use serde_json::json;

use crate::http::{Instance, Listen, answer, serve, terminated};

/// Where the secret comes from, and what becomes of a wrong one.
#[derive(Debug, clap::Args)]
#[group(id = "source", required = true, multiple = false, args = ["secret", "env", "file"])]
pub(crate) struct Args {
    #[command(flatten)]
    listen: Listen,
    /// The right secret.
    #[arg(long, default_value = "4321")]
    expected: String,
    /// The secret itself.
    #[arg(long)]
    secret: Option<String>,
    /// The variable that holds it.
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// The file that holds it.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// What to do while it is wrong.
    #[arg(long, value_enum, default_value = "exit")]
    when_wrong: WhenWrong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhenWrong {
    /// End with an error, so that the container is started again.
    Exit,
    /// Read it again every second until it is right.
    Retry,
}

impl Args {
    fn read(&self) -> anyhow::Result<String> {
        let secret = match (&self.secret, &self.env, &self.file) {
            (Some(secret), ..) => secret.clone(),
            (_, Some(name), _) => std::env::var(name).with_context(|| format!("no variable {name}"))?,
            (.., Some(path)) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            _ => bail!("no secret is given"),
        };
        Ok(secret.trim().to_owned())
    }
}

/// Serves `/` and `/ready` once the secret is right.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let instance = Instance::new();
    let mut looks = 1_u64;
    while args.read()? != args.expected {
        if args.when_wrong == WhenWrong::Exit {
            bail!("the secret is wrong");
        }
        println!("the secret is wrong: looking again in a second");
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => looks += 1,
            ended = terminated() => return ended,
        }
    }
    println!("the secret is right, at look {looks}");
    let mut body = instance.to_json();
    body["looks"] = json!(looks);
    let show = async move || answer(StatusCode::OK, &body);
    let router = Router::new().route("/", get(show)).route("/ready", get(async || "ready\n"));
    serve(&args.listen, router).await
}
