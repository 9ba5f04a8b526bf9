//! Reviews straight to the webhook, larger and more than the API server sends.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::DynamicObject;
use pod_reloader_e2e::objects::{CONFIGMAPS, SECRETS};
use pod_reloader_e2e::world::webhook::{Webhook, request};
use serde_json::{Value, json};

use super::objects::{config, create_all, filled, listing};
use super::stage::{Outcome, Stage};
use super::tenants::mebibytes;

/// A review of 7.3 MiB, alone and 30 at once.
pub(super) async fn large_reviews() -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    space.configmap("settings", "one").await?;
    let update = large_update(&space.name);
    stage.start().await?;
    let webhook = stage.webhook()?;
    let alone = send_all(&webhook, std::slice::from_ref(&update)).await;
    let many = send_all(&webhook, &vec![update.clone(); 30]).await;
    let note = format!("{:.1} MiB; alone: {alone}; 30 at once: {many}", mebibytes(update.len()));
    stage.finish("reviews of 7.3 MiB, alone and 30 at once", note).await
}

/// 30 bodies of 8 MiB that are no reviews.
pub(super) async fn large_bodies() -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    stage.start().await?;
    let webhook = stage.webhook()?;
    let body = format!("[\"{}\"]", "x".repeat((8 << 20) - 4));
    let strings = send_all(&webhook, &vec![body; 30]).await;
    let error = format!(r#"{{"request":"{}"}}"#, "x".repeat((8 << 20) - 20));
    let error = send_all(&webhook, &vec![error; 30]).await;
    let escapes = format!(r#"{{"request":{{"uid":"{}"}}}}"#, "\\n".repeat((4 << 20) - 20));
    let escapes = send_all(&webhook, &vec![escapes; 30]).await;
    let mut numbers = "[".to_owned() + &"1,".repeat((4 << 20) - 1);
    numbers.push(']');
    let numbers = send_all(&webhook, &vec![numbers; 30]).await;
    stage
        .finish(
            "30 bodies of 8 MiB",
            format!("strings: {strings}; misplaced: {error}; escapes: {escapes}; numbers: {numbers}"),
        )
        .await
}

/// 64 reviews at once that need eight large objects each.
pub(super) async fn large_objects() -> anyhow::Result<Outcome> {
    const OBJECTS: usize = 64;
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    let value = "x".repeat(1_000_000);
    let configmaps: Vec<ConfigMap> =
        (0..OBJECTS).map(|i| config(&format!("c{i}"), &value)).collect::<anyhow::Result<_>>()?;
    create_all(&space.configmaps(), configmaps).await?;
    let secrets: Vec<Secret> =
        (0..OBJECTS).map(|i| config(&format!("s{i}"), &value)).collect::<anyhow::Result<_>>()?;
    create_all(&space.secrets(), secrets).await?;
    let namespace = space.name.clone();
    let creates: Vec<String> = (0..64).map(|i| review(&create(&namespace, i, OBJECTS))).collect();
    stage.start().await?;
    let webhook = stage.webhook()?;
    let first = send_all(&webhook, &creates).await;
    let second = send_all(&webhook, &creates).await;
    let note = format!("at first: {first}; again: {second}");
    stage.finish("64 reviews of eight objects of 1 MB each", note).await
}

/// The first eighth of the objects is needed by many, the rest by few.
fn create(namespace: &str, i: usize, objects: usize) -> Value {
    let some = |prefix: &str| {
        let names: Vec<String> = (0..4).map(|j| format!("{prefix}{}", (i * 2 + j) % objects)).collect();
        names.join(",")
    };
    let mut workload = listing(&format!("app-{i}"), &some("c"));
    workload
        .metadata
        .annotations
        .get_or_insert_default()
        .extend([(CONFIGMAPS.to_owned(), some("c")), (SECRETS.to_owned(), some("s"))]);
    request("CREATE", namespace, &json!(workload), None)
}

fn large_update(namespace: &str) -> String {
    let object = |image: &str| -> DynamicObject {
        let workload = filled(listing("app", "settings"), "x", 3_800_000);
        pod_reloader_e2e::objects::image(workload, image)
    };
    let (old, new) = (object("one"), object("two"));
    review(&request("UPDATE", namespace, &json!(new), Some(&json!(old))))
}

fn review(request: &Value) -> String {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string()
}

/// Sends all at once; tells how many got which answer, and how long it took.
async fn send_all(webhook: &Webhook, bodies: &[String]) -> String {
    let send = |body: &String| {
        let (webhook, body) = (webhook.clone(), body.clone());
        tokio::spawn(async move { webhook.send("POST", "/mutate?timeout=10s", body).await })
    };
    let begin = Instant::now();
    let answers = futures::future::join_all(bodies.iter().map(send).collect::<Vec<_>>()).await;
    let took: Duration = begin.elapsed();
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for answer in answers {
        let what = match answer {
            Ok(Ok((200, body))) if body.contains("\"patch\"") => "patched".to_owned(),
            Ok(Ok((200, _))) => "passed on".to_owned(),
            Ok(Ok((status, _))) => status.to_string(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        };
        *counts.entry(what).or_default() += 1;
    }
    let counts: Vec<String> = counts.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
    format!("{} in {:.1} s", counts.join(", "), took.as_secs_f64())
}
