//! A program under test: our own operator, or a peer that is described in a file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use http::Method;
use pod_reloader_e2e::objects::CONFIGMAPS;
use pod_reloader_e2e::process::Process;
use pod_reloader_e2e::{Registration, TIMEOUT, User, eventually, give_up, operator_binary, ports};
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::peer::{self, Description, Port, Ready};
use super::raw::{APPLY_PATCH, Endpoint, Outgoing};
use super::resources::Resources;
use super::stage::{LONG, Stage, delete, deployment, deployments};

/// How long a program has to end in good order.
const END_DEADLINE: Duration = Duration::from_secs(15);
/// How often readiness and metrics are asked for while a start is timed.
const START_POLL: Duration = Duration::from_millis(5);
const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// See the module.
pub(super) struct Subject {
    description: Description,
    /// Whether metrics are there to be asked, and counts to be checked.
    pub(super) is_ours: bool,
    /// As whom it talks to the API server.
    pub(super) user: User,
}

impl Subject {
    /// The operator of this repository, with its default rights.
    pub(super) fn ours() -> anyhow::Result<Self> {
        let args = [
            "--metrics-bind-address=127.0.0.1:{metrics_port}",
            "--health-probe-bind-address=127.0.0.1:{health_port}",
            "--webhook-bind-address=127.0.0.1:{webhook_port}",
            "--webhook-tls-directory={tls_directory}",
            "--leader-election-namespace=pod-reloader",
            "--shutdown-delay=0",
        ];
        let binary = operator_binary()?;
        let binary = binary.canonicalize().with_context(|| format!("{} is not there", binary.display()))?;
        let command = std::iter::once(binary.display().to_string()).chain(args.map(str::to_owned)).collect();
        let description = Description {
            name: "pod-reloader".to_owned(),
            command,
            env: [("NO_COLOR".to_owned(), "1".to_owned())].into(),
            ready: Some(Ready { port: Port::Health, path: "/readyz".to_owned() }),
            workload_annotations: [(CONFIGMAPS.to_owned(), "{configmap}".to_owned())].into(),
            webhook_path: Some("/mutate".to_owned()),
            manifests: vec![],
        };
        Ok(Self { description, is_ours: true, user: User::Operator })
    }

    /// The program of a description, as a user who may do everything.
    pub(super) fn peer(description: Description) -> Self {
        Self { description, is_ours: false, user: User::Editor }
    }

    /// What it is called in tables.
    pub(super) fn name(&self) -> &str {
        &self.description.name
    }

    /// Where its workloads are.
    pub(super) fn namespace(&self) -> String {
        format!("bench-{}", self.name())
    }

    /// What a workload that follows these `ConfigMaps` is annotated with.
    pub(super) fn annotations(&self, configmaps: &str) -> Value {
        let annotations = &self.description.workload_annotations;
        let filled = annotations
            .iter()
            .map(|(key, value)| (key.clone(), Value::String(value.replace("{configmap}", configmaps))));
        Value::Object(filled.collect::<Map<_, _>>())
    }

    /// What only our own program understands; nothing for peers.
    pub(super) fn arguments(&self, ours: &'static [&'static str]) -> &'static [&'static str] {
        if self.is_ours { ours } else { &[] }
    }

    /// Starts it, without waiting for anything.
    pub(super) fn spawn(&self, stage: &Stage, args: &[&str]) -> anyhow::Result<Running> {
        let kubeconfig = stage.plane().kubeconfig(self.user);
        self.spawn_with(stage, args, &kubeconfig)
    }

    /// The same with another way to the API server.
    pub(super) fn spawn_with(
        &self,
        stage: &Stage,
        args: &[&str],
        kubeconfig: &Path,
    ) -> anyhow::Result<Running> {
        let [webhook, metrics, health] = ports::free()?;
        let description = &self.description;
        let tls = stage.world.directory().join(self.name());
        if !tls.exists() {
            stage.world.authority.issue(&["localhost", "127.0.0.1"])?.write(&tls)?;
        }
        let fill = |text: &str| {
            text.replace("{kubeconfig}", &kubeconfig.display().to_string())
                .replace("{tls_directory}", &tls.display().to_string())
                .replace("{webhook_port}", &webhook.to_string())
                .replace("{metrics_port}", &metrics.to_string())
                .replace("{health_port}", &health.to_string())
                .replace("{namespace}", "pod-reloader")
        };
        let (program, rest) = description.command.split_first().context("the command is empty")?;
        let args = rest.iter().map(|arg| fill(arg)).chain(args.iter().map(|arg| (*arg).to_owned()));
        let own = [("KUBECONFIG".to_owned(), kubeconfig.display().to_string())];
        let env = description.env.iter().map(|(name, value)| (name.clone(), fill(value))).chain(own);
        let log: PathBuf = stage.world.directory().join(format!("{}.log", self.name()));
        // The log of an earlier one would show up in this one's errors.
        std::fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        let process = Process::spawn(self.name(), Path::new(program), args, env, &log)?;
        let ready = description.ready.as_ref().map(|ready| {
            let port = match ready.port {
                Port::Health => health,
                Port::Metrics => metrics,
            };
            (port, ready.path.clone())
        });
        Ok(Running { process, metrics, webhook, ready, has_metrics: self.is_ours })
    }

    /// Starts it and waits until it is ready and, where it has a webhook, until the API server calls that.
    pub(super) async fn start(&self, stage: &Stage, args: &[&str]) -> anyhow::Result<Running> {
        for manifest in &self.description.manifests {
            let path = manifest.display().to_string();
            stage.world.kubectl().run(["apply", "--server-side", "-f", &path]).await?;
        }
        let mut running = self.spawn(stage, args)?;
        running.ready().await?;
        if let Some(path) = &self.description.webhook_path {
            self.register(stage, running.webhook, path).await?;
        }
        Ok(running)
    }

    /// Ends it, and takes back its registration.
    pub(super) async fn stop(&self, stage: &Stage, mut running: Running) -> anyhow::Result<()> {
        running.process.ensure_running()?;
        if self.description.webhook_path.is_some() {
            stage.admin.request(&delete(format!("{REGISTRATIONS}/{}", self.name()))).await?;
        }
        running.end().await
    }

    async fn register(&self, stage: &Stage, port: u16, path: &str) -> anyhow::Result<()> {
        let ca = stage.world.authority.pem();
        let url = format!("https://127.0.0.1:{port}{path}");
        let manifest = if self.is_ours {
            Registration::new([url]).name(self.name()).ca_bundle(ca).manifest().await?
        } else {
            peer::registration(self.name(), &url, &ca)
        };
        let apply = format!("{REGISTRATIONS}/{}?fieldManager=lab&force=true", self.name());
        let apply = Outgoing::new(Method::PATCH, apply, APPLY_PATCH, manifest.to_string());
        stage.admin.request(&apply).await?;
        if !self.is_ours {
            return Ok(());
        }
        let probe = deployment("probe", self.annotations("probe"))?;
        let probe = Outgoing::post(format!("{}?dryRun=All", deployments("default")), &probe);
        eventually("the webhook to be called", TIMEOUT, || async {
            let created = stage.admin.request(&probe).await?;
            let annotations = &created["spec"]["template"]["metadata"]["annotations"];
            ensure!(annotations.is_object(), "no config hash was set");
            Ok(())
        })
        .await
    }
}

/// A program that was started. Dropping it kills it.
pub(super) struct Running {
    process: Process,
    metrics: u16,
    webhook: u16,
    ready: Option<(u16, String)>,
    has_metrics: bool,
}

impl Running {
    /// What it takes.
    pub(super) fn resources(&self) -> Resources {
        Resources::of(self.process.id())
    }

    /// Its webhook, as the API server reaches it.
    pub(super) fn webhook(&self, stage: &Stage) -> anyhow::Result<Endpoint> {
        Endpoint::webhook(self.webhook, &stage.world.authority.pem())
    }

    /// Waits until it says that it is ready; at once where it has nothing to say that with.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let Some((port, path)) = self.ready.clone() else { return Ok(()) };
        self.poll("to be ready", move |_| {
            let path = path.clone();
            async move {
                let (status, body) = get(port, &path).await?;
                ensure!(status == 200, "{path} was answered {status}: {}", body.trim());
                Ok(())
            }
        })
        .await
    }

    /// Waits until it knows exactly so many workloads and has nothing to do; at once for peers.
    pub(super) async fn settled(&mut self, workloads: usize) -> anyhow::Result<()> {
        if !self.has_metrics {
            return Ok(());
        }
        self.poll("to settle", move |port| async move {
            let (_, metrics) = get(port, "/metrics").await?;
            let value = |name| metric(&metrics, name);
            let (known, queued) = (value("pod_reloader_workloads"), value("pod_reloader_queue_length"));
            ensure!(
                known == Some(workloads) && queued == Some(0),
                "it knows {known:?} of {workloads} workloads, {queued:?} are in the queue"
            );
            Ok(())
        })
        .await
    }

    /// Ends it, by force if it takes long: what a program does with a signal is not what is measured.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.process.ensure_running()?;
        if self.process.terminate(END_DEADLINE).await.is_err() {
            self.process.kill()?;
        }
        Ok(())
    }

    /// Its metrics as text.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        let (status, body) = get(self.metrics, "/metrics").await?;
        ensure!(status == 200, "/metrics was answered {status}: {body}");
        Ok(body)
    }

    /// Like [`eventually`], but often enough to time a start with.
    async fn poll<F>(&mut self, what: &str, condition: impl Fn(u16) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let end = Instant::now() + LONG;
        loop {
            self.process.ensure_running().map_err(|error| give_up(format!("{error:#}")))?;
            let Err(error) = condition(self.metrics).await else { return Ok(()) };
            if Instant::now() > end {
                bail!(
                    "waited {LONG:?} for {} {what}: {error:#}; {}",
                    self.process.name(),
                    self.process.log_tail()
                );
            }
            tokio::time::sleep(START_POLL).await;
        }
    }
}

/// The sum of a metric over those of its labels that are wanted.
pub(super) fn metric_where(metrics: &str, name: &str, label: &str) -> usize {
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

/// A metric without labels.
fn metric(metrics: &str, name: &str) -> Option<usize> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// GET over plain HTTP/1.0 on this machine: status and body.
async fn get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = vec![];
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), exchange).await.context("no answer")??;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    Ok((status, body.to_owned()))
}
