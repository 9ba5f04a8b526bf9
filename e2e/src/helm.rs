//! The real `helm`, and a real OCI registry to install from.

use std::{ffi::OsStr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{
    paths, ports,
    process::Process,
    tool::Tool,
    wait::{eventually, give_up},
};

const START_DEADLINE: Duration = Duration::from_mins(1);

/// Runs `helm` as one user, with nothing of the person's who runs the tests.
#[derive(Debug, Clone)]
pub struct Helm {
    tool: Tool,
    /// Only held.
    _home: Option<Arc<TempDir>>,
}

impl Helm {
    /// `name` is `helm` or `helm3`; caches and configuration lie in `directory`.
    ///
    /// # Errors
    /// If it has not been built.
    pub fn new(name: &str, kubeconfig: &Path, directory: &Path) -> anyhow::Result<Self> {
        let home = directory.join(format!("{name}-home"));
        let tool = Tool::new(&paths::tool(name)?, directory)
            .env("KUBECONFIG", kubeconfig)
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"));
        Ok(Self { tool, _home: None })
    }

    /// The same without a cluster, to render, lint and package; `name` may be `helm-unittest`, too.
    ///
    /// # Errors
    /// If it has not been built.
    pub fn offline(name: &str) -> anyhow::Result<Self> {
        let home = tempfile::tempdir().context("cannot make a temporary folder")?;
        let Self { tool, .. } = Self::new(name, Path::new("/dev/null"), home.path())?;
        // With a cluster, its credentials may be found by HOME.
        Ok(Self { tool: tool.env("HOME", home.path()), _home: Some(Arc::new(home)) })
    }

    /// Runs it and gives what it printed; an error with its message if it failed.
    pub async fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> anyhow::Result<String> {
        self.tool.run(args).await
    }

    /// `helm upgrade --install` of a chart, wherever it is, with further arguments. Gives what it printed. The namespace
    /// is only made with `--create-namespace`, which takes a right that not every user has.
    pub async fn upgrade(
        &self,
        release: &str,
        chart: impl AsRef<OsStr>,
        namespace: &str,
        args: &[&str],
    ) -> anyhow::Result<String> {
        self.with_chart(&["upgrade", "--install"], release, chart, namespace, args).await
    }

    /// `helm template` of a chart, with further arguments. Gives the manifests.
    pub async fn template<A: AsRef<OsStr>>(
        &self,
        release: &str,
        chart: impl AsRef<OsStr>,
        namespace: &str,
        args: &[A],
    ) -> anyhow::Result<String> {
        self.with_chart(&["template"], release, chart, namespace, args).await
    }

    async fn with_chart<A: AsRef<OsStr>>(
        &self,
        command: &[&str],
        release: &str,
        chart: impl AsRef<OsStr>,
        namespace: &str,
        args: &[A],
    ) -> anyhow::Result<String> {
        let command = command.iter().map(OsStr::new);
        let fixed = [OsStr::new(release), chart.as_ref(), "--namespace".as_ref(), namespace.as_ref()];
        self.run(command.chain(fixed).chain(args.iter().map(AsRef::as_ref))).await
    }
}

/// An OCI registry on loopback. Dropping it stops it.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    address: String,
}

impl Registry {
    /// Starts an empty registry with its data below `directory`, and waits until it answers.
    ///
    /// # Errors
    /// If it has not been built, or does not start.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        let program = paths::tool("registry")?;
        let [port] = ports::free()?;
        let address = format!("127.0.0.1:{port}");
        let config = directory.join("registry.yaml");
        let data = directory.join("registry");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
                data.display()
            ),
        )
        .context("cannot write the registry's configuration")?;
        let args = [OsStr::new("serve"), config.as_os_str()];
        let env = [("OTEL_TRACES_EXPORTER", "none")];
        let log = directory.join("registry.log");
        let mut registry = Self { process: Process::spawn("registry", &program, args, env, &log)?, address };
        let address = registry.address.clone();
        eventually("the registry to answer", START_DEADLINE, || {
            let running = registry.process.ensure_running().map_err(|error| give_up(format!("{error:#}")));
            let address = &address;
            async move {
                running?;
                tokio::net::TcpStream::connect(address).await?;
                Ok(())
            }
        })
        .await?;
        Ok(registry)
    }

    /// Host and port; there is no TLS (`--plain-http`).
    pub fn address(&self) -> &str {
        &self.address
    }
}
