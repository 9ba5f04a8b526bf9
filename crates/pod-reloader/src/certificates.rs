//! Where the webhook's certificate comes from (4.7).

use std::sync::Arc;

use kube::Client;
use pod_reloader_certs::{Lifetimes, SelfMade};
use pod_reloader_serving::certificate::Certificates;
use pod_reloader_serving::directory;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::tasks::Tasks;

/// What keeps the certificate up to date.
pub(crate) struct Keeping<'a> {
    pub(crate) args: &'a Args,
    pub(crate) client: &'a Client,
    /// The operator's own.
    pub(crate) namespace: &'a str,
    pub(crate) certificates: &'a Arc<Certificates>,
}

impl Keeping<'_> {
    /// Follows the directory that the flags name, or makes certificates; the latter until `stop`, the former as long as
    /// anything is served.
    pub(crate) fn spawn(self, tasks: &mut Tasks, stop: &CancellationToken, stop_serving: &CancellationToken) {
        let Self { args, client, namespace, certificates } = self;
        if let Some(directory) = args.webhook_tls_directory.clone() {
            let follow = directory::follow(directory, certificates.clone(), stop_serving.clone());
            tasks.spawn("certificate directory", follow);
            return;
        }
        let self_made = SelfMade {
            client: client.clone(),
            namespace: namespace.to_owned(),
            secret_name: args.certificates_secret(),
            ca_secret_name: args.ca_secret(),
            webhook_configuration: args.webhook_configuration_name.clone(),
            default_hosts: vec![
                format!("pod-reloader.{namespace}.svc"),
                "localhost".into(),
                "127.0.0.1".into(),
                "::1".into(),
            ],
            lifetimes: Lifetimes::default(),
        };
        // Not while it winds down: whatever comes after it, another way to the certificates or another release, may have
        // the configuration trust another CA.
        tasks.spawn("self-made certificates", self_made.run(certificates.clone(), stop.clone()));
    }
}
