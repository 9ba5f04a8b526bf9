//! The chart's policies on what the operator's account may write, for operators that the chart did not install.

use anyhow::{bail, ensure};
use http::{Method, Request, StatusCode};
use kube::Client;
use serde_json::{Value, json};

use crate::{Kubectl, TIMEOUT, chart, eventually};

/// What every refusal begins with.
pub const SENTENCE: &str = "pod-reloader may";

/// Renders the policies for [`crate::User::Operator`].
pub async fn render(values: &[&str]) -> anyhow::Result<String> {
    chart::render(&["admissionpolicy.yaml"], values).await
}

/// Applies the policies, and returns when the API server holds the operator's account, whose client is given, to them.
pub async fn apply(kubectl: &Kubectl, operator: &Client) -> anyhow::Result<()> {
    let policies = render(&[]).await?;
    kubectl.run_with_input(["apply", "-f", "-"], &policies).await?;
    is_in_force(kubectl, operator).await
}

/// Waits until each of the policies refuses something that this client tries. The API server takes them up one by one.
pub async fn is_in_force(kubectl: &Kubectl, client: &Client) -> anyhow::Result<()> {
    let probe = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "policy-probe", "namespace": "default"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "policy-probe"}},
            "template": {
                "metadata": {"labels": {"app": "policy-probe"}},
                "spec": {"containers": [{"name": "main", "image": "example.invalid/app:1"}]}
            }
        }
    });
    kubectl.run_with_input(["apply", "-f", "-"], &probe.to_string()).await?;
    eventually("the policies to be in force", TIMEOUT, || async {
        let path = "/apis/apps/v1/namespaces/default/deployments/policy-probe?dryRun=All";
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        let (_, said) = send(client, Method::PATCH, path, "application/merge-patch+json", &label).await?;
        ensure!(said.contains(SENTENCE), "a label could be changed: {said}");
        let path = "/apis/events.k8s.io/v1/namespaces/default/events?dryRun=All";
        // Valid, but about nothing: what is not valid is refused before policies are asked.
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "probe"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Probe", "action": "Probe",
            "reportingController": "probe", "reportingInstance": "probe",
            "regarding": {"kind": "Node", "namespace": "default", "name": "probe"}
        });
        let (_, said) = send(client, Method::POST, path, "application/json", &event).await?;
        ensure!(said.contains(SENTENCE), "an Event could be made: {said}");
        Ok(())
    })
    .await?;
    kubectl.run(["-n", "default", "delete", "deployment", "policy-probe"]).await?;
    Ok(())
}

/// Sends a request as it is, and gives the status and what was answered.
pub async fn send(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &str,
    body: &Value,
) -> anyhow::Result<(StatusCode, String)> {
    let request = Request::builder().method(method).uri(path).header("content-type", content_type);
    let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
    let response = client.send(request.body(kube::client::Body::from(body))?).await?;
    let status = response.status();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
    let Ok(text) = String::from_utf8(bytes.to_vec()) else { bail!("an answer that is no text") };
    Ok((status, text))
}
