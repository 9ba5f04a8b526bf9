//! 4.10 and 4.11: who may call, before the real API server.

use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine;
use http::Request;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::config::AuthInfo;
use pod_reloader_e2e::objects::{self, apps};
use pod_reloader_e2e::world::webhook::{Webhook, request};
use pod_reloader_e2e::{Authority, Options, TIMEOUT, User, World, eventually};
use serde_json::json;

/// The name in the certificate that the API server shows to webhooks.
const CALLER: &str = "kube-apiserver-webhooks";

/// What the API server needs to show a certificate to every webhook: the path of its `AdmissionConfiguration`.
fn admission_configuration(callers: &Authority, folder: &Path) -> anyhow::Result<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let pair = callers.issue_client(CALLER)?;
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "users": [{
            "name": "*",
            "user": {"client-certificate": path("caller.crt"), "client-key": path("caller.key")}
        }]
    });
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{
            "name": "MutatingAdmissionWebhook",
            "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "WebhookAdmissionConfiguration",
                "kubeConfigFile": path("webhooks.kubeconfig")
            }
        }]
    });
    for (name, content) in [
        ("ca.crt", callers.pem()),
        ("caller.crt", pair.certificate),
        ("caller.key", pair.key),
        ("webhooks.kubeconfig", kubeconfig.to_string()),
        ("admission.yaml", configuration.to_string()),
    ] {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(path("admission.yaml"))
}

#[tokio::test]
async fn c4_10_the_api_server_shows_its_certificate_and_nobody_else_is_heard() -> anyhow::Result<()> {
    let callers = Authority::new("callers of webhooks")?;
    let folder = tempfile::tempdir()?;
    let configuration = admission_configuration(&callers, folder.path())?;
    let options = Options {
        api_server_args: vec![format!("--admission-control-config-file={configuration}")],
        ..Options::default()
    };
    let mut world = World::without_operator_on(options).await?;
    let ca = format!("--webhook-client-ca={}", folder.path().join("ca.crt").display());
    let names = format!("--webhook-client-names={CALLER}");
    world.start_replica("replica-1", &[&ca, &names]).await?;
    // The webhook answers the API server: a dry run gets its hash.
    world.register().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    let created = space.create(&objects::listing("web", "settings")).await?;
    assert!(objects::config_hash(&created).is_some());
    let before = space.hash(apps::DEPLOYMENT, "web").await?;
    space.configmap("settings", "two").await?;
    space.hash_changes(apps::DEPLOYMENT, "web", &before).await?;

    // Anybody else is turned away by the handshake: there is no answer of HTTP.
    let webhook = Webhook::of(&world, &world.replicas[0])?;
    let review = request("CREATE", &space.name, &json!(objects::listing("x", "settings")), None);
    let error = webhook.review(&review).await.err().context("the webhook answered a stranger")?;
    let text = format!("{error:?}");
    assert!(!text.contains("400") && text.to_lowercase().contains("alert"), "{text}");
    let refused = r#"tls_handshake_errors_total{reason="no_client_certificate"} 1"#;
    eventually("the stranger to be counted", TIMEOUT, || async {
        let metrics = world.replicas[0].metrics().await?;
        ensure!(metrics.contains(refused), "not yet");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn c4_11_the_metrics_are_for_those_whom_the_api_server_lets_get_them() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    let kubectl = world.kubectl();
    kubectl.run_with_input(["apply", "-f", "-"], RIGHTS).await?;
    world.start_replica("replica-1", &["--metrics-secure"]).await?;
    let replica = &world.replicas[0];
    assert!(replica.metrics().await.is_err(), "plain HTTP");
    let token = async |account: &str| {
        let token = kubectl.run(["create", "token", account, "--namespace=monitoring"]).await?;
        anyhow::Ok(token.trim().to_owned())
    };
    let url = format!("https://127.0.0.1:{}", replica.ports()[0]);
    let ask = async |token: Option<String>| {
        let mut config = kube::Config::new(url.parse()?);
        let pem = world.authority.pem();
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        config.root_cert = Some(vec![base64::engine::general_purpose::STANDARD.decode(der)?]);
        config.default_retry = false;
        config.auth_info = AuthInfo { token: token.map(Into::into), ..AuthInfo::default() };
        let request = Request::get("/metrics").body(Body::empty())?;
        let response = Client::try_from(config)?.send(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let prometheus = token("prometheus").await?;
    let (status, metrics) = ask(Some(prometheus.clone())).await?;
    assert_eq!(status, 200, "{metrics}");
    assert!(metrics.contains("pod_reloader_build_info"), "{metrics}");
    assert_eq!(ask(None).await?.0, 401);
    assert_eq!(ask(Some("rubbish".into())).await?.0, 401);
    assert_eq!(ask(Some(format!("{prometheus}x"))).await?.0, 401);
    assert_eq!(ask(Some(token("tenant").await?)).await?.0, 403);
    // No token is in the log.
    let log = replica.log_text()?;
    assert!(!log.contains(&prometheus) && !log.contains("rubbish"), "{log}");

    // Without the rights nobody is let in, and the log says what is missing.
    kubectl.run(["delete", "clusterrolebinding", "reviews"]).await?;
    eventually("the right to be gone", TIMEOUT, || async {
        let args = ["auth", "can-i", "create", "tokenreviews.authentication.k8s.io"];
        let can = world.plane.kubectl(User::Operator).run(args).await;
        ensure!(can.is_err(), "still there");
        Ok(())
    })
    .await?;
    assert_eq!(ask(Some(token("tenant").await?)).await?.0, 503);
    let log = world.replicas[0].log_text()?;
    assert!(log.contains("cannot be authenticated") && log.contains("tokenreviews"), "{log}");
    Ok(())
}

const RIGHTS: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: monitoring}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus, namespace: monitoring}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: tenant, namespace: monitoring}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metrics-reader}
rules:
- nonResourceURLs: [/metrics]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metrics-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics-reader}
subjects:
- {kind: ServiceAccount, name: prometheus, namespace: monitoring}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reviews}
rules:
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reviews}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reviews}
subjects:
- {kind: ServiceAccount, name: pod-reloader, namespace: pod-reloader}
";
