//! The registration of the operator's webhook with the API server: `manifests/webhook.yaml`, filled in.

use std::time::Duration;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::Kubectl;

const TEMPLATE: &str = include_str!("../manifests/webhook.yaml");
/// What comes after the line that starts so is repeated for each URL.
const ENTRIES: &str = "\nwebhooks:";

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
    /// The name that the operator looks for by default.
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

    /// The names of the webhook entries, in the order of the URLs.
    pub fn webhooks(&self) -> Vec<String> {
        match self.urls.len() {
            1 => vec!["pod-reloader.cs.sap.com".to_owned()],
            several => (1..=several).map(|number| format!("r{number}.pod-reloader.cs.sap.com")).collect(),
        }
    }

    /// The manifest.
    pub fn yaml(&self) -> anyhow::Result<String> {
        let start = TEMPLATE.find(ENTRIES).context("manifests/webhook.yaml has no line `webhooks:`")? + 1;
        let start = TEMPLATE[start..].find('\n').map(|end| start + end + 1);
        let (head, entry) = TEMPLATE.split_at(start.context("manifests/webhook.yaml has no webhook entry")?);
        let mut yaml = head.replace("${NAME}", &self.name);
        for (webhook, url) in self.webhooks().iter().zip(&self.urls) {
            for line in entry.lines() {
                if line.contains("${CA_BUNDLE}") && self.ca_bundle.is_none() {
                    continue;
                }
                let line = line
                    .replace("${WEBHOOK}", webhook)
                    .replace("${URL}", url)
                    .replace("${CA_BUNDLE}", &BASE64_STANDARD.encode(self.ca_bundle.as_deref().unwrap_or("")))
                    .replace("${FAILURE_POLICY}", &format!("{:?}", self.failure_policy))
                    .replace("${TIMEOUT_SECONDS}", &self.timeout.as_secs().to_string());
                yaml.push_str(&line);
                yaml.push('\n');
            }
        }
        Ok(yaml)
    }

    /// Creates or changes it. The API server calls (or no longer calls) the webhook a moment later: await it.
    ///
    /// It is applied by the server, so that a `caBundle` that the operator has put in stays unless one is given here.
    pub async fn apply(&self, kubectl: &Kubectl) -> anyhow::Result<()> {
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        kubectl.run_with_input(args, &self.yaml()?).await.context("cannot register the webhook")?;
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

    #[test]
    fn every_placeholder_is_filled() {
        let urls = ["https://127.0.0.1:1/mutate", "https://127.0.0.1:2/mutate"];
        let yaml = Registration::new(urls).ca_bundle("PEM").timeout(Duration::from_secs(3)).yaml().unwrap();
        assert!(!yaml.replace("; ${...}", "").contains("${"), "{yaml}");
        assert!(yaml.contains(
            "name: r2.pod-reloader.cs.sap.com\n  clientConfig:\n    url: https://127.0.0.1:2/mutate\n"
        ));
        assert!(yaml.contains("caBundle: UEVN\n"));
        assert_eq!(yaml.matches("timeoutSeconds: 3\n").count(), 2);
    }

    #[test]
    fn without_a_ca_the_field_is_left_out() {
        let registration =
            Registration::new(["https://127.0.0.1:1/mutate"]).failure_policy(FailurePolicy::Ignore);
        let yaml = registration.yaml().unwrap();
        assert!(!yaml.contains("caBundle"), "{yaml}");
        assert!(yaml.contains("failurePolicy: Ignore\n"));
        assert_eq!(registration.webhooks(), ["pod-reloader.cs.sap.com"]);
    }
}
