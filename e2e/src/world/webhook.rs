//! Speaks to the webhook as the API server does, and as nobody should.

use anyhow::Context;
use base64::Engine;
use http::Request;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::World;
use crate::Operator;

/// A client of one replica's webhook.
#[derive(Clone)]
pub struct Webhook(Client);

impl Webhook {
    /// A client that trusts the world's certificates.
    pub fn of(world: &World, replica: &Operator) -> anyhow::Result<Self> {
        let url = replica.webhook_url().replace("/mutate", "");
        let mut config = kube::Config::new(url.parse()?);
        let pem = world.authority.pem();
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        config.root_cert = Some(vec![base64::engine::general_purpose::STANDARD.decode(body)?]);
        config.default_retry = false;
        Ok(Self(Client::try_from(config)?))
    }

    /// The status and the body of the answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Vec<u8>>,
    ) -> anyhow::Result<(u16, String)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body.into()))?;
        let response = self.0.send(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The response to a review, which must be a proper one.
    pub async fn review(&self, request: &Value) -> anyhow::Result<Value> {
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let (status, body) = self.send("POST", "/mutate?timeout=10s", review.to_string()).await?;
        anyhow::ensure!(status == 200, "{status}: {body}");
        let review: Value = serde_json::from_str(&body)?;
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(review["kind"], "AdmissionReview");
        assert_eq!(review["response"]["uid"], request["uid"]);
        assert_eq!(review["response"]["allowed"], true);
        for warning in review["response"]["warnings"].as_array().into_iter().flatten() {
            assert!(warning.as_str().is_some_and(|warning| warning.len() < 120), "{warning}");
        }
        Ok(review["response"].clone())
    }

    /// The object as the patch of the response makes it, and the warnings.
    pub async fn mutate(&self, request: &Value) -> anyhow::Result<(Value, Vec<String>)> {
        let response = self.review(request).await?;
        let mut object = request["object"].clone();
        if let Some(patch) = response["patch"].as_str() {
            assert_eq!(response["patchType"], "JSONPatch");
            let patch = base64::engine::general_purpose::STANDARD.decode(patch)?;
            let patch: json_patch::Patch = serde_json::from_slice(&patch)?;
            json_patch::patch(&mut object, &patch).context("the patch does not fit the object")?;
        }
        let warnings = response["warnings"].as_array().into_iter().flatten();
        Ok((object, warnings.filter_map(|warning| warning.as_str().map(str::to_owned)).collect()))
    }
}

/// A request of a review.
pub fn request(operation: &str, namespace: &str, object: &Value, old: Option<&Value>) -> Value {
    json!({
        "uid": "b2fc9ad7", "operation": operation, "namespace": namespace, "dryRun": false,
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "userInfo": {"username": "somebody", "groups": ["system:authenticated"]},
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "UpdateOptions", "fieldManager": "kubectl"},
        "object": object, "oldObject": old
    })
}
