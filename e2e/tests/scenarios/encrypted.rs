//! docs/examples/encrypted.md: a Secret that is encrypted at rest is in clear nowhere on our path.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use pod_reloader_e2e::{RealCluster, Scenario, Testbed};
use tokio::process::Command;

#[tokio::test]
async fn a_secret_is_nowhere_in_clear() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("encrypted").await? else { return Ok(()) };
    let secrets = [unique("first")?, unique("second")?];
    let note = unique("note")?;
    let manifests = include_str!("../../../docs/examples/encrypted/1-app.yaml");
    space.apply_text(&manifests.replace("first secret", &secrets[0]).replace("in clear", &note)).await?;
    space.rolled_out("deployment/app").await?;
    space.set("secret/vault", "token", &secrets[1]).await?;
    // The application does see it, after the reload.
    let seen = |answer: &serde_json::Value| answer["at_start"]["env"]["TOKEN"] == secrets[1];
    space.get_until("app", "/", "the second token", seen).await?;
    space.rolled_out("deployment/app").await?;
    space.settle().await?;

    let forms: Vec<_> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    for place in places(&space).await? {
        ensure!(place.text.contains(&place.control), "no {} in {}", place.control, place.name);
        let found = forms.iter().find(|form| place.text.contains(*form));
        ensure!(found.is_none(), "{} shows {found:?}", place.name);
    }
    let Some(cluster) = space.bed.own_cluster() else {
        println!(
            "skipped: the files of etcd and the API server's logs are out of reach in a cluster that is given"
        );
        return Ok(());
    };
    files(&space, cluster, &forms, &note).await
}

/// A text to search, and what must be there: a search that finds nothing at all proves nothing.
struct Place {
    name: String,
    text: String,
    control: String,
}

/// What can be seen through the API server.
async fn places(space: &Scenario) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    let mut add = |name: &str, text: String, control: &str| {
        places.push(Place { name: name.to_owned(), text, control: control.to_owned() });
    };
    let objects = "deployments,replicasets,pods,configmaps";
    let objects = space.kubectl(&["get", objects, "--output=yaml", "--show-managed-fields"]).await?;
    add("the workload", objects, "pod-reloader.cs.sap.com/observed-config");
    let events = space.kubectl(&["get", "events", "--output=yaml"]).await?;
    add("Events", events, "Reload triggered: secret/vault changed");
    let operator = space.bed.installation();
    add("the operator's log", operator.logs().await?, &space.name);
    let objects = operator.kubectl(&["get", "events,leases,configmaps,pods", "--output=yaml"]).await?;
    add("the operator's namespace", objects, "pod-reloader.cs.sap.com");
    let pods = operator.pods().await?;
    ensure!(pods.len() == 2, "{pods:?}");
    for pod in pods {
        add(&format!("the metrics of {pod}"), operator.metrics(&pod).await?, "pod_reloader_");
    }
    Ok(places)
}

/// What lies on the disk of a control plane.
async fn files(space: &Scenario, cluster: &RealCluster, forms: &[String], note: &str) -> anyhow::Result<()> {
    let etcd = vec![cluster.directory().join("etcd")];
    let folder = std::fs::read_dir(cluster.directory()).context("cannot list the cluster's folder")?;
    let mut logs: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    let audit = cluster.audit().log().to_owned();
    ensure!(logs.contains(&audit), "{logs:?}");

    let encrypted = ["k8s:enc:aescbc:v1:".to_owned()];
    ensure!(!find(&encrypted, &etcd).await?.is_empty(), "etcd holds nothing that is encrypted");
    let key = [format!("/secrets/{}/vault", space.name)];
    ensure!(!find(&key, &etcd).await?.is_empty(), "etcd does not hold the Secret");
    ensure!(!find(&[note.to_owned()], &etcd).await?.is_empty(), "etcd does not hold the ConfigMap in clear");
    let request = [format!("/namespaces/{}/secrets/vault", space.name)];
    ensure!(!find(&request, &[audit]).await?.is_empty(), "the audit log does not name the Secret");

    let found = find(forms, &etcd).await?;
    ensure!(found.is_empty(), "in clear in etcd: {found:?}");
    let found = find(forms, &logs).await?;
    ensure!(found.is_empty(), "in clear in a log: {found:?}");
    Ok(())
}

/// The files that have one of `texts` in them.
async fn find(texts: &[String], paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").args(["--recursive", "--text", "--fixed-strings", "--files-with-matches"]);
    for text in texts {
        grep.arg("-e").arg(text);
    }
    let output = grep.args(paths).output().await.context("cannot run grep")?;
    match output.status.code() {
        Some(0 | 1) => {}
        _ => bail!("grep failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(|line| Path::new(line).to_owned()).collect())
}

/// A text that is nowhere else.
fn unique(name: &str) -> anyhow::Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).context("no random numbers")?;
    Ok(bytes.iter().fold(format!("{name}-"), |text, byte| format!("{text}{byte:02x}")))
}

/// A text in clear, and in base64 wherever in the encoded bytes it begins.
fn forms(text: &str) -> Vec<String> {
    let encoded = (0..3).map(|offset| {
        let bytes = [&[0; 2][..offset], text.as_bytes()].concat();
        // Characters at either end depend on the bytes beside it too.
        let own = (offset * 8).div_ceil(6)..bytes.len() * 8 / 6;
        BASE64_STANDARD_NO_PAD.encode(bytes)[own].to_owned()
    });
    std::iter::once(text.to_owned()).chain(encoded).collect()
}

#[test]
fn all_encodings_of_a_text_are_known() {
    let forms = forms("a unique secret");
    for before in ["", "x", "xx", "xxx", "some bytes"] {
        let encoded = BASE64_STANDARD_NO_PAD.encode(format!("{before}a unique secret, and more"));
        assert!(
            forms[1..].iter().any(|form| encoded.contains(form.as_str())),
            "{before}: {encoded} {forms:?}"
        );
    }
}
