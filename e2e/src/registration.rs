//! The registration of the operator's webhook with the API server: the chart's, with URLs in place of the Service.

use std::time::Duration;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{chart, kubectl::Kubectl};

/// What the API server does with a request when the webhook cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The request is refused.
    Fail,
    /// The request goes on without the webhook.
    Ignore,
}

/// A `MutatingWebhookConfiguration` for the operator.
#[derive(Debug, Clone)]
pub struct Registration {
    name: String,
    urls: Vec<String>,
    ca_bundle: Option<String>,
    failure_policy: FailurePolicy,
    timeout: Duration,
}

impl Registration {
    /// The name that the operator uses by default.
    pub const DEFAULT_NAME: &str = "pod-reloader";

    /// One webhook entry per URL (`https://127.0.0.1:PORT/mutate`), failure policy `Fail`, 10 s for an answer.
    pub fn new<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Self {
        Self {
            name: Self::DEFAULT_NAME.to_owned(),
            urls: urls.into_iter().map(Into::into).collect(),
            ca_bundle: None,
            failure_policy: FailurePolicy::Fail,
            timeout: Duration::from_secs(10),
        }
    }

    /// Another name than [`Self::DEFAULT_NAME`].
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The CA that signed the webhook's certificate, in PEM. Without it the field is left to the operator.
    #[must_use]
    pub fn ca_bundle(mut self, pem: impl Into<String>) -> Self {
        self.ca_bundle = Some(pem.into());
        self
    }

    /// What happens while the webhook cannot be asked.
    #[must_use]
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.failure_policy = policy;
        self
    }

    /// How long the API server waits for an answer: 1 to 30 whole seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The names of the webhook entries for workloads that opt in themselves, in the order of the URLs.
    pub fn webhooks(&self) -> Vec<String> {
        match self.urls.len() {
            1 => vec!["pod-reloader.cs.sap.com".to_owned()],
            several => (1..=several).map(|number| format!("r{number}.pod-reloader.cs.sap.com")).collect(),
        }
    }

    /// The manifest: the chart's rules, match conditions and policies.
    ///
    /// # Errors
    /// If the chart cannot be rendered.
    pub async fn manifest(&self) -> anyhow::Result<Value> {
        self.adapt(chart::webhook().await?.clone())
    }

    /// Each of the chart's entries once per URL: outside a cluster there is no Service that would choose among the replicas.
    /// What the Service's path has beyond `/mutate` is appended to the URL.
    fn adapt(&self, mut configuration: Value) -> anyhow::Result<Value> {
        let chart = configuration["webhooks"].as_array().cloned().unwrap_or_default();
        anyhow::ensure!(!chart.is_empty(), "the chart has no webhook entry");
        let replicas = self.webhooks().into_iter().zip(&self.urls);
        let entries = replicas.flat_map(|replica| chart.iter().map(move |entry| (replica.clone(), entry)));
        let entries = entries.map(|((name, url), entry)| {
            let mut entry = entry.clone();
            let of_label = entry["name"].as_str().and_then(|it| it.strip_suffix("pod-reloader.cs.sap.com"));
            let name = format!("{}{name}", of_label.unwrap_or_default());
            let path = entry["clientConfig"]["service"]["path"].as_str().unwrap_or_default();
            let url = format!("{url}{}", path.strip_prefix("/mutate").unwrap_or_default());
            entry["name"] = json!(name);
            entry["clientConfig"] = json!({ "url": url });
            if let Some(pem) = &self.ca_bundle {
                entry["clientConfig"]["caBundle"] = json!(BASE64_STANDARD.encode(pem));
            }
            entry["failurePolicy"] = json!(format!("{:?}", self.failure_policy));
            entry["timeoutSeconds"] = json!(self.timeout.as_secs());
            entry
        });
        configuration["webhooks"] = entries.collect();
        configuration["metadata"]["name"] = json!(self.name);
        Ok(configuration)
    }

    /// Creates or changes it. The API server calls (or no longer calls) the webhook a moment later: await it.
    ///
    /// It is applied by the server, so that a `caBundle` that the operator has put in stays unless one is given here.
    pub async fn apply(&self, kubectl: &Kubectl) -> anyhow::Result<()> {
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        kubectl
            .run_with_input(args, &self.manifest().await?.to_string())
            .await
            .context("cannot register the webhook")?;
        Ok(())
    }

    /// Deletes it if it is there.
    pub async fn delete(&self, kubectl: &Kubectl) -> anyhow::Result<()> {
        let args = ["delete", "mutatingwebhookconfiguration", &self.name, "--ignore-not-found"];
        kubectl.run(args).await.context("cannot delete the webhook's registration")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered() -> Value {
        json!({
            "metadata": { "name": "pod-reloader", "labels": { "a": "b" } },
            "webhooks": [{
                "name": "pod-reloader.cs.sap.com",
                "clientConfig": { "service": { "name": "pod-reloader" } },
                "failurePolicy": "Fail",
                "timeoutSeconds": 10,
                "rules": ["as they are"],
            }],
        })
    }

    #[test]
    fn each_url_has_an_entry_with_what_was_chosen() {
        let urls = ["https://127.0.0.1:1/mutate", "https://127.0.0.1:2/mutate"];
        let registration =
            Registration::new(urls).name("other").ca_bundle("PEM").timeout(Duration::from_secs(3));
        let manifest = registration.adapt(rendered()).unwrap();
        assert_eq!(manifest["metadata"], json!({ "name": "other", "labels": { "a": "b" } }));
        let [first, second] = &manifest["webhooks"].as_array().unwrap()[..] else { panic!("{manifest}") };
        assert_eq!(second["name"], "r2.pod-reloader.cs.sap.com");
        let client = json!({ "url": "https://127.0.0.1:2/mutate", "caBundle": "UEVN" });
        assert_eq!(second["clientConfig"], client);
        for entry in [first, second] {
            assert_eq!((&entry["timeoutSeconds"], &entry["failurePolicy"]), (&json!(3), &json!("Fail")));
            assert_eq!(entry["rules"], json!(["as they are"]));
        }
    }

    #[test]
    fn without_a_ca_the_field_is_left_out() {
        let registration =
            Registration::new(["https://127.0.0.1:1/mutate"]).failure_policy(FailurePolicy::Ignore);
        let manifest = registration.adapt(rendered()).unwrap();
        let entry = &manifest["webhooks"][0];
        assert_eq!(entry["clientConfig"], json!({ "url": "https://127.0.0.1:1/mutate" }));
        assert_eq!(entry["failurePolicy"], "Ignore");
        assert_eq!(registration.webhooks(), ["pod-reloader.cs.sap.com"]);
    }

    #[test]
    fn entries_for_labelled_namespaces_have_their_path() {
        let mut chart = rendered();
        let labelled = json!({
            "name": "auto-true.pod-reloader.cs.sap.com",
            "clientConfig": { "service": { "name": "pod-reloader", "path": "/mutate/auto-true" } },
        });
        chart["webhooks"].as_array_mut().unwrap().push(labelled);
        let urls = ["https://127.0.0.1:1/mutate", "https://127.0.0.1:2/mutate"];
        let manifest = Registration::new(urls).adapt(chart).unwrap();
        let entries = manifest["webhooks"].as_array().unwrap().iter();
        let entries: Vec<_> = entries
            .map(|it| (it["name"].as_str().unwrap(), it["clientConfig"]["url"].as_str().unwrap()))
            .collect();
        assert_eq!(
            entries,
            [
                ("r1.pod-reloader.cs.sap.com", "https://127.0.0.1:1/mutate"),
                ("auto-true.r1.pod-reloader.cs.sap.com", "https://127.0.0.1:1/mutate/auto-true"),
                ("r2.pod-reloader.cs.sap.com", "https://127.0.0.1:2/mutate"),
                ("auto-true.r2.pod-reloader.cs.sap.com", "https://127.0.0.1:2/mutate/auto-true"),
            ]
        );
    }
}
