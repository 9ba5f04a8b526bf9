//! Admission reviews as bytes, made before they are sent, of objects as the API server has them.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::Method;
use pod_reloader_e2e::objects::OBSERVED_CONFIG;
use pod_reloader_e2e::world::webhook;
use serde_json::{Value, json};

use super::raw::{JSON, Outgoing};
use super::stage::{Stage, create_configmap, create_named, deployment, deployments};
use super::subject::Subject;

/// The most `ConfigMaps` that workloads with references of their own refer to.
const CONFIGMAPS: usize = 2000;
/// The most workloads that have references of their own.
const MOST_WORKLOADS: usize = 64;

/// What is reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An UPDATE with another image.
    Template,
    /// An UPDATE of a label.
    Unchanged,
    /// A CREATE.
    Create,
}

impl Kind {
    /// For tables.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Template => "template changed",
            Self::Unchanged => "label changed",
            Self::Create => "CREATE",
        }
    }
}

/// Makes the `ConfigMaps` `c0`, `c1`, ... of a namespace.
pub(super) async fn create_configmaps(stage: &Stage, namespace: &str, count: usize) -> anyhow::Result<()> {
    let namespace = namespace.to_owned();
    stage.create_all(count, move |i| create_configmap(&namespace, &format!("c{i}"), "value")).await
}

/// The names of so many of them, from one on.
pub(super) fn names(from: usize, count: usize, all: usize) -> String {
    let names: Vec<String> = (from..from + count).map(|i| format!("c{}", i % all)).collect();
    names.join(",")
}

/// Makes a namespace with the `ConfigMaps` that are referred to and no others, creates workloads with so many
/// references there through the webhook, and gives them as they are: one, or some whose references differ.
pub(super) async fn workloads(
    stage: &Stage,
    ours: &Subject,
    references: usize,
    differ: bool,
) -> anyhow::Result<Vec<Value>> {
    let namespace = namespace(ours, references, differ);
    stage.namespace(&namespace).await?;
    let count = if differ { (CONFIGMAPS / references).clamp(2, MOST_WORKLOADS) } else { 1 };
    let all = count * references;
    create_configmaps(stage, &namespace, all).await?;
    let mut created = vec![];
    let mut connection = stage.admin.connect().await?;
    for index in 0..count {
        let listed = names(index * references, references, all);
        let model = deployment("model", ours.annotations(&listed))?;
        let name = format!("app-{index}");
        connection.send(&create_named(&namespace, &model, &name)).await?;
        let path = format!("{}/{name}", deployments(&namespace));
        let object = connection.send(&Outgoing::get(path, JSON)).await?;
        created.push(serde_json::from_slice(&object).context("a Deployment is JSON")?);
    }
    Ok(created)
}

/// Where the workloads with so many references are.
pub(super) fn namespace(ours: &Subject, references: usize, differ: bool) -> String {
    let whose = if differ { "own" } else { "same" };
    format!("{}-{references}-{whose}", ours.namespace())
}

/// The reviews of that kind for these workloads.
pub(super) fn reviews(kind: Kind, workloads: &[Value]) -> Arc<Vec<Outgoing>> {
    Arc::new(workloads.iter().map(|workload| review(kind, workload)).collect())
}

fn review(kind: Kind, workload: &Value) -> Outgoing {
    let mut new = workload.clone();
    let namespace = workload["metadata"]["namespace"].as_str().unwrap_or_default();
    let request = match kind {
        Kind::Template => {
            new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.invalid/app:2");
            webhook::request("UPDATE", namespace, &new, Some(workload))
        }
        Kind::Unchanged => {
            new["metadata"]["labels"] = json!({"touched": "1"});
            webhook::request("UPDATE", namespace, &new, Some(workload))
        }
        Kind::Create => {
            // What the server and the webhook add is not there yet.
            if let Some(annotations) = new["metadata"]["annotations"].as_object_mut() {
                annotations.remove(OBSERVED_CONFIG);
            }
            new["spec"]["template"]["metadata"]["annotations"] = Value::Null;
            if let Some(metadata) = new["metadata"].as_object_mut() {
                metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "annotations"));
            }
            webhook::request("CREATE", namespace, &new, None)
        }
    };
    of_request(&request)
}

/// A review with the request's uid first, as the API server writes it.
pub(super) fn of_request(request: &Value) -> Outgoing {
    let mut rest = request.clone();
    let uid = rest.as_object_mut().and_then(|request| request.remove("uid")).unwrap_or_default();
    let rest = rest.to_string();
    let body = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":{uid},{}}}"#,
        rest.trim_start_matches('{')
    );
    Outgoing::new(Method::POST, "/mutate?timeout=10s", JSON, body)
}

/// Whether an answer allows the request.
pub(super) fn is_allowed(answer: &Bytes) -> bool {
    const ALLOWED: &[u8] = br#""allowed":true"#;
    answer.windows(ALLOWED.len()).any(|window| window == ALLOWED)
}
