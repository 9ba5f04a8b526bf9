//! The real `helm`, and a real OCI registry to install from.

use std::{ffi::OsStr, path::Path, time::Duration};

use anyhow::Context as _;

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
        Ok(Self { tool })
    }

    /// Runs it and gives what it printed; an error with its message if it failed.
    pub async fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> anyhow::Result<String> {
        self.tool.run(args).await
    }

    /// `helm upgrade --install` of a chart, wherever it is, with further arguments. Gives what it printed.
    pub async fn upgrade(
        &self,
        release: &str,
        chart: &str,
        namespace: &str,
        args: &[&str],
    ) -> anyhow::Result<String> {
        let fixed = ["upgrade", "--install", release, chart, "--namespace", namespace, "--create-namespace"];
        self.run(fixed.iter().chain(args)).await
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
