//! The real webhook, as the stub's admission hook or asked by itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use pod_reloader_core::annotation::OBSERVED_CONFIG as OBSERVED;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::dialect::own::{AUTO, Auto};
use pod_reloader_core::dialect::{self, Effect, Place};
use pod_reloader_core::name::ConfigRef;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::metrics::Metrics as ApiMetrics;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_k8s::reader::ConfigReader;
use pod_reloader_stub_api::{Admission, OPERATOR_USER, StubApi};
use pod_reloader_webhook::admit::Admitter;
use pod_reloader_webhook::caller::Turns;
use pod_reloader_webhook::http::router;
use pod_reloader_webhook::metrics::Metrics;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt;

use super::replica::{Replica, client};

pub(crate) const HASH: &str = "pod-reloader.cs.sap.com/config-hash";

#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) budget: Budget,
    router: Router,
}

/// What a review came to.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) object: Value,
    pub(crate) warnings: Value,
    pub(crate) took: Duration,
}

impl Admitted {
    pub(crate) fn hash(&self) -> Option<&str> {
        hash_of(&self.object)
    }
}

pub(crate) fn hash_of(workload: &Value) -> Option<&str> {
    workload.pointer("/spec/template/metadata/annotations")?[HASH].as_str()
}

impl Webhook {
    /// A webhook whose reads are those of that client.
    pub(crate) fn new(stub: &StubApi, name: &str, key: KeyReader) -> Self {
        Self::within(stub, name, key, Scope::default())
    }

    /// Likewise, of an installation that is limited.
    pub(crate) fn within(stub: &StubApi, name: &str, key: KeyReader, scope: Scope) -> Self {
        let budget = Budget::new(24 << 20);
        let mut registry = Registry::default();
        let api_metrics = ApiMetrics::register(&mut registry);
        let reader = ConfigReader::new(client(stub, name), budget.clone(), api_metrics);
        let reader = if scope.secrets { reader } else { reader.without_secrets() };
        let own = ConfigRef::secret("pod-reloader", "pod-reloader-key");
        Self::over(Arc::new(reader.keeping([own])), key, scope, budget)
    }

    /// The webhook of that replica, which remembers in the same place what it reads.
    pub(crate) fn of(replica: &Replica) -> Self {
        let Replica { reader, key, budget, .. } = replica;
        Self::over(reader.clone(), key.clone(), Scope::default(), budget.clone())
    }

    fn over(reader: Arc<ConfigReader>, key: KeyReader, scope: Scope, budget: Budget) -> Self {
        let mut registry = Registry::default();
        let admitter = Admitter {
            turns: Turns::default(),
            reader,
            key,
            own_user: watch::channel(Some(OPERATOR_USER.to_owned())).1,
            mode: HashMode::Content,
            scope,
            budget: budget.clone(),
            metrics: Metrics::register(&mut registry),
        };
        Self { budget, router: router(Arc::new(admitter)) }
    }

    /// Has the stub ask it for each write of a workload that has opted in, as the match conditions do.
    pub(crate) fn install(&self, stub: &StubApi) {
        let (webhook, namespaces) = (self.clone(), stub.clone());
        stub.on_write(move |admission| {
            let webhook = webhook.clone();
            let label = label_of(&namespaces, &admission.new);
            async move {
                let is_recorded = |old: &Value| !old["metadata"]["annotations"][OBSERVED].is_null();
                let concerns = |old: &Value| is_opted_in(old) || is_recorded(old);
                let is_meant = label.is_some()
                    || concerns(&admission.new)
                    || admission.old.as_ref().is_some_and(concerns);
                if is_meant {
                    Ok(webhook.admit_in(label.as_deref(), &admission).await.object)
                } else {
                    Ok(admission.new)
                }
            }
        });
    }

    pub(crate) async fn admit(&self, admission: &Admission) -> Admitted {
        self.admit_in(None, admission).await
    }

    /// Asks it for a workload in a namespace with that label (7.4).
    async fn admit_in(&self, label: Option<&str>, admission: &Admission) -> Admitted {
        let began = Instant::now();
        let entry = label.map(|label| format!("/auto-{label}")).unwrap_or_default();
        let body = Body::from(review(admission).to_string());
        let request = Request::post(format!("/mutate{entry}?timeout=10s")).body(body);
        let response = self.router.clone().oneshot(request.unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        let mut object = admission.new.clone();
        if let Some(patch) = answer["response"].get("patch") {
            let ByteString(patch) = serde_json::from_value(patch.clone()).unwrap();
            let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
            json_patch::patch(&mut object, &patch).unwrap();
        }
        Admitted { object, warnings: answer["response"]["warnings"].clone(), took: began.elapsed() }
    }
}

fn is_opted_in(workload: &Value) -> bool {
    let annotations = &workload["metadata"]["annotations"];
    let on_template = &workload["spec"]["template"]["metadata"]["annotations"];
    let mut keys = dialect::ALL.iter().flat_map(|dialect| dialect.keys());
    keys.any(|key| match (key.effect, key.place) {
        (Effect::OptsIn(_) | Effect::Switches(_), Place::Annotation) => !annotations[key.name].is_null(),
        (Effect::Switches(_), Place::TemplateAnnotation) => !on_template[key.name].is_null(),
        _ => false,
    })
}

/// The label by which the workload's namespace opts in for it.
fn label_of(stub: &StubApi, workload: &Value) -> Option<String> {
    let namespace = stub.get("namespaces", "", workload["metadata"]["namespace"].as_str()?)?;
    let label = namespace["metadata"]["labels"][AUTO].as_str()?;
    Auto::VALUES.contains(&label).then(|| label.to_owned())
}

fn review(admission: &Admission) -> Value {
    let Admission { old, new, user, manager, is_dry_run, .. } = admission;
    let (group, version) = new["apiVersion"].as_str().and_then(|it| it.split_once('/')).unwrap();
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": group, "version": version, "kind": new["kind"]},
            "name": new["metadata"]["name"], "namespace": new["metadata"]["namespace"],
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": {"username": user},
            "object": new, "oldObject": old,
            "dryRun": is_dry_run,
            "options": {"fieldManager": manager},
        },
    })
}
