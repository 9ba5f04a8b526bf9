//! The `MutatingWebhookConfiguration`: which hosts it calls, and the CAs it trusts.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, WebhookClientConfig};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::json;

use crate::pair::{normalize_host, split_bundle};

/// The hosts under which the webhooks are called.
pub(crate) fn hosts(configuration: &MutatingWebhookConfiguration) -> BTreeSet<String> {
    let webhooks = configuration.webhooks.iter().flatten();
    webhooks
        .flat_map(|webhook| hosts_of(&webhook.client_config))
        .filter_map(|host| normalize_host(&host))
        .collect()
}

/// All that the webhooks trust now.
pub(crate) fn bundle(configuration: &MutatingWebhookConfiguration) -> String {
    let webhooks = configuration.webhooks.iter().flatten();
    let bundles = webhooks.filter_map(|webhook| webhook.client_config.ca_bundle.as_ref());
    bundles.map(|bundle| String::from_utf8_lossy(&bundle.0) + "\n").collect()
}

/// Whether every webhook trusts that CA.
pub(crate) fn all_trust(configuration: &MutatingWebhookConfiguration, certificate: &str) -> bool {
    configuration.webhooks.iter().flatten().all(|webhook| {
        let bundle = webhook.client_config.ca_bundle.as_ref();
        let bundle = bundle.map(|bundle| String::from_utf8_lossy(&bundle.0)).unwrap_or_default();
        split_bundle(&bundle).iter().any(|trusted| trusted == certificate)
    })
}

fn hosts_of(client: &WebhookClientConfig) -> Vec<String> {
    if let Some(service) = &client.service {
        let name = format!("{}.{}", service.name, service.namespace);
        return vec![format!("{name}.svc"), format!("{name}.svc.cluster.local"), name];
    }
    client.url.as_deref().and_then(host_of_url).into_iter().collect()
}

fn host_of_url(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// The patch that makes every webhook trust the bundle, guarded by the version that was read; `None` if all do.
pub(crate) fn patch(configuration: &MutatingWebhookConfiguration, bundle: &str) -> Option<json_patch::Patch> {
    let wanted = ByteString(bundle.as_bytes().to_vec());
    let webhooks = configuration.webhooks.iter().flatten();
    let mut operations: Vec<_> = webhooks
        .enumerate()
        .filter(|(_, webhook)| webhook.client_config.ca_bundle.as_ref() != Some(&wanted))
        .map(|(i, _)| json!({"op": "add", "path": format!("/webhooks/{i}/clientConfig/caBundle"), "value": wanted}))
        .collect();
    if operations.is_empty() {
        return None;
    }
    let version = &configuration.metadata.resource_version;
    operations.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    Some(serde_json::from_value(operations.into()).expect("these are operations of a JSON Patch"))
}

/// The patch by which we give up the ownership of what we wrote, guarded by the version that was read; `None` if we have
/// none.
///
/// Otherwise Helm 4, which applies on the server's side, could not make the webhook trust another CA when a user
/// changes over to a certificate of their own: that would be a conflict with us, in the middle of an upgrade.
pub(crate) fn disown(
    configuration: &MutatingWebhookConfiguration,
    manager: &str,
) -> Option<json_patch::Patch> {
    let entries = configuration.metadata.managed_fields.iter().flatten();
    let is_ours = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Update")
    };
    let index = entries.into_iter().position(is_ours)?;
    let operations = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": configuration.metadata.resource_version},
        {"op": "remove", "path": format!("/metadata/managedFields/{index}")},
    ]);
    Some(serde_json::from_value(operations).expect("these are operations of a JSON Patch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> MutatingWebhookConfiguration {
        let webhook = |name: &str, client: serde_json::Value| json!({"name": name, "clientConfig": client, "admissionReviewVersions": ["v1"], "sideEffects": "None"});
        serde_json::from_value(json!({
            "metadata": {"name": "pod-reloader", "resourceVersion": "7"},
            "webhooks": [
                webhook("a", json!({"service": {"name": "svc", "namespace": "ns"}, "caBundle": "QQ=="})),
                webhook("b", json!({"url": "https://127.0.0.1:9443/mutate"})),
                webhook("c", json!({"url": "https://[::1]:9443/mutate"})),
                webhook("d", json!({"url": "https://host.example:9443/mutate"})),
                webhook("e", json!({"url": "https://[0:0:0:0:0:0:0:1]:9443/mutate"})),
                webhook("f", json!({"url": "https://HOST.example.:9443/mutate"})),
            ]
        }))
        .unwrap()
    }

    #[test]
    fn c4_7_the_certificate_is_made_for_the_hosts_that_are_called() {
        let hosts: Vec<_> = hosts(&configuration()).into_iter().collect();
        let expected =
            ["127.0.0.1", "::1", "host.example", "svc.ns", "svc.ns.svc", "svc.ns.svc.cluster.local"];
        assert_eq!(hosts, expected);
    }

    #[test]
    fn only_our_own_updates_are_disowned() {
        let mut owned = configuration();
        assert_eq!(disown(&owned, "us"), None);
        let entry = |manager: &str, operation: &str| ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            ..ManagedFieldsEntry::default()
        };
        let entries = vec![entry("helm", "Apply"), entry("us", "Apply"), entry("us", "Update")];
        owned.metadata.managed_fields = Some(entries);
        let patch = json!(disown(&owned, "us").unwrap());
        assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"}));
        assert_eq!(patch[1], json!({"op": "remove", "path": "/metadata/managedFields/2"}));
    }

    #[test]
    fn c4_7_only_what_differs_is_patched() {
        let patch_for_a = json!(patch(&configuration(), "A").unwrap());
        assert_eq!(patch_for_a.as_array().unwrap().len(), 6);
        assert_eq!(patch_for_a[0], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"}));
        assert_eq!(patch_for_a[1]["path"], "/webhooks/1/clientConfig/caBundle");
        let mut all_right = configuration();
        for webhook in all_right.webhooks.iter_mut().flatten() {
            webhook.client_config.ca_bundle = Some(ByteString(b"A".to_vec()));
        }
        assert_eq!(patch(&all_right, "A"), None);
    }
}
