//! The built operator as a child process.

use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{ports, process::Process, wait::eventually, wait::give_up};

/// How often to start over when another process takes a port first.
const ATTEMPTS: usize = 5;
const READY_DEADLINE: Duration = Duration::from_mins(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How to start the operator.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// What the log file is called after, and the process in messages.
    pub name: String,
    /// The built `pod-reloader`.
    pub binary: PathBuf,
    /// Gives it access to the API server (`KUBECONFIG`).
    pub kubeconfig: PathBuf,
    /// Holds its log.
    pub directory: PathBuf,
    /// Arguments beside the addresses, which are chosen here.
    pub args: Vec<OsString>,
    /// Further environment variables.
    pub env: Vec<(OsString, OsString)>,
}

impl OperatorOptions {
    /// An operator without further arguments, called `pod-reloader`.
    pub fn new(binary: &Path, kubeconfig: &Path, directory: &Path) -> Self {
        Self {
            name: "pod-reloader".to_owned(),
            binary: binary.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            directory: directory.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Another name, to distinguish replicas.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A running operator. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    /// Metrics, health, webhook.
    ports: [u16; 3],
}

impl Operator {
    /// Starts it and waits until `/readyz` says so.
    pub async fn spawn(options: &OperatorOptions) -> anyhow::Result<Self> {
        let mut operator = Self::spawn_unready(options).await?;
        operator.wait_ready(READY_DEADLINE).await?;
        Ok(operator)
    }

    /// Starts it and waits no longer than until its health port answers.
    pub async fn spawn_unready(options: &OperatorOptions) -> anyhow::Result<Self> {
        for _ in 1..ATTEMPTS {
            let ports = ports::free()?;
            match Self::spawn_at(options, ports).await {
                Err(error) if format!("{error:#}").to_lowercase().contains("address already in use") => {}
                result => return result,
            }
        }
        Self::spawn_at(options, ports::free()?).await
    }

    /// The same at given ports (metrics, health, webhook), to start again one that was stopped.
    pub async fn spawn_at(options: &OperatorOptions, ports: [u16; 3]) -> anyhow::Result<Self> {
        let binary = options.binary.canonicalize().with_context(|| {
            format!("{} is not there: build it first (cargo build -p pod-reloader)", options.binary.display())
        })?;
        let [metrics, health, webhook] = ports;
        let mut args: Vec<OsString> = vec![
            format!("--metrics-bind-address=127.0.0.1:{metrics}").into(),
            format!("--health-probe-bind-address=127.0.0.1:{health}").into(),
            format!("--webhook-bind-address=127.0.0.1:{webhook}").into(),
        ];
        args.extend_from_slice(&options.args);
        let kubeconfig = ("KUBECONFIG".into(), options.kubeconfig.clone().into_os_string());
        // Its log goes to a file.
        let no_color = ("NO_COLOR".into(), "1".into());
        let env = [kubeconfig, no_color].into_iter().chain(options.env.iter().cloned());
        let log = options.directory.join(format!("{}.log", options.name));
        // The log of an earlier one would show up in this one's errors.
        std::fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        let process = Process::spawn(&options.name, &binary, args, env, &log)?;
        let mut operator = Self { process, ports };
        let what = format!("{} to listen on its health port {health}", options.name);
        eventually(what, READY_DEADLINE, || {
            let running = operator.process.ensure_running();
            async move {
                running.map_err(|error| give_up(format!("{error:#}")))?;
                get(health, "/healthz").await.map(drop)
            }
        })
        .await
        .map_err(|error| operator.process.explain(&error))?;
        Ok(operator)
    }

    /// Waits until `/readyz` answers 200.
    pub async fn wait_ready(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let health = self.ports[1];
        let what = format!("{} to be ready", self.process.name());
        let process = &mut self.process;
        eventually(what, deadline, || {
            let running = process.ensure_running();
            async move {
                running.map_err(|error| give_up(format!("{error:#}")))?;
                let (status, body) = get(health, "/readyz").await?;
                ensure!(status == 200, "/readyz answered {status}: {}", body.trim());
                Ok(())
            }
        })
        .await
        .map_err(|error| self.process.explain(&error))
    }

    /// What `/readyz` answers: status and body.
    pub async fn readiness(&self) -> anyhow::Result<(u16, String)> {
        get(self.ports[1], "/readyz").await
    }

    /// The metrics in text format.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let (status, body) = get(self.ports[0], "/metrics").await?;
        ensure!(status == 200, "/metrics answered {status}: {body}");
        Ok(body)
    }

    /// The URL of its webhook.
    pub fn webhook_url(&self) -> String {
        format!("https://127.0.0.1:{}/mutate", self.ports[2])
    }

    /// The ports of metrics, health and webhook.
    pub fn ports(&self) -> [u16; 3] {
        self.ports
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// What it has logged until now.
    pub fn log_text(&self) -> anyhow::Result<String> {
        let log = self.process.log();
        let bytes = std::fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// An error with the end of its log if it no longer runs.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        self.process.ensure_running()
    }

    /// Freezes it.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.process.pause()
    }

    /// Lets it run on after [`Self::pause`].
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.process.resume()
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.kill()
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.process.terminate(deadline).await
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.process.wait(deadline).await
    }

    /// Lets it run on without us.
    pub fn detach(self) {
        self.process.detach();
    }
}

/// GET over plain HTTP on the loopback interface: status and body.
///
/// HTTP/1.0, so that the body ends with the connection and is never in chunks.
async fn get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let context = || format!("no answer from http://127.0.0.1:{port}{path}");
    let answer =
        tokio::time::timeout(REQUEST_TIMEOUT, exchange).await.with_context(context)?.with_context(context)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the answer has no status")?;
    Ok((status, body.to_owned()))
}
