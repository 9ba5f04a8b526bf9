//! A controller that owns Secrets, and writes them from `SealedSecrets`: what Sealed Secrets, External Secrets and the like
//! do, as far as those see it who use the Secrets.
//!
//! Sealed here means: Base64 of the value written backwards. It protects nothing.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::http::terminated;

/// How often to poll.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The time from one poll to the next. Each writes all Secrets anew.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000)]
    interval: u64,
}

/// Keeps the Secrets of its own namespace.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    // Two are compiled into some builds of the workspace.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_default().await.context("cannot make a client")?;
    let kind = GroupVersionKind::gvk("seal.example.com", "v1", "SealedSecret");
    let sealed: Api<DynamicObject> =
        Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind));
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let mut last_said = String::new();
    loop {
        let said = match write_all(&sealed, &secrets).await {
            Ok(names) => format!("wrote {}", names.join(", ")),
            Err(error) => format!("error: {error:#}"),
        };
        if said != last_said {
            println!("{said}");
            last_said = said;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(args.interval)) => {}
            ended = terminated() => return ended,
        }
    }
}

async fn write_all(sealed: &Api<DynamicObject>, secrets: &Api<Secret>) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for object in sealed.list(&ListParams::default()).await.context("cannot list SealedSecrets")? {
        let name = object.name_any();
        let secret = unseal(&object).with_context(|| format!("SealedSecret {name}"))?;
        let params = PatchParams::apply("sealed-secrets").force();
        secrets
            .patch(&name, &params, &Patch::Apply(secret))
            .await
            .with_context(|| format!("cannot write Secret {name}"))?;
        names.push(name);
    }
    Ok(names)
}

/// The Secret: owned, and never the same twice but for its data.
fn unseal(object: &DynamicObject) -> anyhow::Result<Value> {
    let encrypted = object.data["spec"]["encryptedData"].as_object().context("no spec.encryptedData")?;
    let mut data = BTreeMap::new();
    for (key, value) in encrypted {
        let sealed = value.as_str().with_context(|| format!("{key} is not text"))?;
        let bytes = BASE64_STANDARD.decode(sealed).with_context(|| format!("{key} is not Base64"))?;
        let backwards = String::from_utf8(bytes).with_context(|| format!("{key} is not UTF-8"))?;
        data.insert(key, BASE64_STANDARD.encode(backwards.chars().rev().collect::<String>()));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": object.name_any(),
            "annotations": {"seal.example.com/written": Timestamp::now().to_string()},
            "ownerReferences": [{
                "apiVersion": "seal.example.com/v1",
                "kind": "SealedSecret",
                "name": object.name_any(),
                "uid": object.metadata.uid,
                "controller": true,
            }],
        },
        "data": data,
    }))
}
