//! What the TLS ports speak, and with which clients (4.10, 4.11).

use std::sync::Arc;

use anyhow::Context;
use pod_reloader_serving::certificate::Certificates;
use pod_reloader_serving::clients::{ClientAuthority, POLL};
use pod_reloader_serving::metrics::Metrics;
use pod_reloader_serving::server::Transport;
use pod_reloader_serving::tls::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::args::TlsArgs;
use crate::tasks::Tasks;

/// TLS for the webhook: with `--webhook-client-ca` only callers with a certificate of that CA get through the handshake.
///
/// # Errors
/// If that CA's file is unusable.
pub(crate) async fn webhook_tls(
    args: &TlsArgs,
    certificates: &Arc<Certificates>,
    metrics: &Metrics,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<Arc<ServerConfig>> {
    let clients = match &args.webhook_client_ca {
        None => None,
        Some(file) => {
            let names = args.webhook_client_names.clone();
            let clients = ClientAuthority::load(file.clone(), names.clone(), metrics.clone())
                .await
                .context("--webhook-client-ca")?;
            tracing::info!(file = %file.display(), ?names, "the webhook takes callers with a certificate only");
            tasks.spawn("client CA", clients.clone().follow(POLL, stop.clone()));
            Some(clients)
        }
    };
    args.policy().server_config(certificates, clients).context("cannot set up TLS for the webhook")
}

/// How the metrics are served: with `--metrics-secure` over TLS with the webhook's certificate.
///
/// # Errors
/// If TLS cannot be set up.
pub(crate) fn metrics_transport(
    args: &TlsArgs,
    certificates: &Arc<Certificates>,
) -> anyhow::Result<Transport> {
    if !args.metrics_secure {
        return Ok(Transport::Plain);
    }
    let tls = args.policy().server_config(certificates, None).context("cannot set up TLS for the metrics")?;
    Ok(Transport::Tls(tls))
}
