//! Where the API server is, and through which proxy (section 6).

use anyhow::Context;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::args::ConnectionArgs;
use crate::proxy::Environment;

/// The configuration of `--kubeconfig`, `KUBECONFIG`, `~/.kube/config`, or the pod's service account, in that order.
///
/// # Errors
/// If there is none of these, or one that cannot be used.
pub(crate) async fn api_config(args: &ConnectionArgs) -> anyhow::Result<Config> {
    let (mut config, own_proxy) = match &args.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
            from_kubeconfig(kubeconfig)
                .await
                .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?
        }
        None => match default_kubeconfig().await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "no kubeconfig");
                let config = Config::incluster().with_context(|| {
                    format!(
                        "no way to the API server: expected KUBECONFIG, ~/.kube/config, or a pod's service account \
                         (of the kubeconfig: {error})"
                    )
                })?;
                (config, None)
            }
        },
    };
    // A kubeconfig's own proxy counts in any case, the environment's only for servers that NO_PROXY does not cover.
    let proxy = own_proxy.or_else(|| Environment::read().proxy_for(&config.cluster_url));
    config.proxy_url = proxy.map(|url| url.parse()).transpose().context("cannot read the proxy's URL")?;
    Ok(config)
}

type Found = (Config, Option<String>);

async fn default_kubeconfig() -> Result<Found, KubeconfigError> {
    from_kubeconfig(Kubeconfig::read()?).await
}

/// The configuration of the current context, and the proxy that the kubeconfig itself names for it.
async fn from_kubeconfig(kubeconfig: Kubeconfig) -> Result<Found, KubeconfigError> {
    let proxy = own_proxy(&kubeconfig);
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok((config, proxy))
}

fn own_proxy(kubeconfig: &Kubeconfig) -> Option<String> {
    let current = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == *current)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone().filter(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_a_kubeconfigs_own_proxy_is_that_of_its_current_context() {
        let kubeconfig = |context: &str| {
            Kubeconfig::from_yaml(&format!(
                "clusters: [{{name: a, cluster: {{server: 'https://a', proxy-url: 'http://p:1'}}}}, \
                 {{name: b, cluster: {{server: 'https://b'}}}}]\n\
                 contexts: [{{name: a, context: {{cluster: a, user: u}}}}, \
                 {{name: b, context: {{cluster: b, user: u}}}}]\n\
                 users: [{{name: u, user: {{token: t}}}}]\n\
                 current-context: {context}\n"
            ))
            .unwrap()
        };
        assert_eq!(own_proxy(&kubeconfig("a")).as_deref(), Some("http://p:1"));
        assert_eq!(own_proxy(&kubeconfig("b")), None);
        assert_eq!(own_proxy(&kubeconfig("c")), None);
    }
}
