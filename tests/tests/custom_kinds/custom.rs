//! Every kind gets its hash at its creation, one patch for each change of configuration, and keeps it whoever writes it.

use std::time::Instant;

use anyhow::{Context, ensure};
use pod_reloader_e2e::{TIMEOUT, eventually};

use crate::setup::{Installed, create, custom, hash, hash_of, listing, named, observed, put_bare, smallest};

#[tokio::test]
async fn c9_1_every_kind_has_its_hash_at_once_and_one_patch_for_each_change() -> anyhow::Result<()> {
    let kinds = custom();
    let Some(installed) = Installed::with(&kinds).await? else { return Ok(()) };
    let space = installed.world.space().await?;
    let start = installed.world.audit().mark().await?;
    space.configmap("settings", "one").await?;
    let mut before = vec![];
    for kind in &kinds {
        let created = create(&space, *kind, &listing(*kind, "app", "settings")).await?;
        let hash = hash_of(*kind, &created).with_context(|| format!("{kind:?} has no hash: {created}"))?;
        ensure!(observed(&created).is_some(), "{kind:?} has no record: {created}");
        before.push(hash);
    }
    for kind in &kinds {
        let writes = installed.writes(start, &space, *kind, "app").await?;
        ensure!(writes.is_empty(), "{kind:?}: what the webhook has set needs no patch: {writes:?}");
    }

    let change = installed.world.audit().mark().await?;
    space.configmap("settings", "two").await?;
    for (kind, before) in kinds.iter().zip(&before) {
        eventually(format!("another hash of {kind:?}"), TIMEOUT, || async {
            ensure!(hash(&space, *kind, "app").await? != *before, "the same");
            Ok(())
        })
        .await?;
    }
    // What is changed after them has been seen after them.
    space.settle().await?;
    for kind in &kinds {
        let writes = installed.writes(change, &space, *kind, "app").await?;
        ensure!(writes.len() == 1, "{kind:?}: {writes:?}");
    }
    let forbidden = installed.forbidden(start).await?;
    ensure!(forbidden.is_empty(), "{forbidden:#?}");
    let reasons =
        space.kubectl(&["get", "events.events.k8s.io", "-o", "jsonpath={.items[*].regarding.kind}"]).await?;
    for kind in &kinds {
        ensure!(reasons.split(' ').any(|it| it == kind.kind), "no Event about a {kind:?}: {reasons}");
    }
    Ok(())
}

/// An owner that writes its bare object as fast as it can: each write has the hash, and a change of configuration is one
/// change of it.
#[tokio::test]
async fn c9_3_an_owner_that_writes_its_bare_object_over_and_over_has_one_reload_for_each_change()
-> anyhow::Result<()> {
    let kinds = ["databases", "servers", "rollouts"].map(named);
    let Some(installed) = Installed::with(&custom()).await? else { return Ok(()) };
    let space = installed.world.space().await?;
    space.configmap("settings", "0").await?;
    for kind in kinds {
        let bare = listing(kind, "app", "settings");
        let created = create(&space, kind, &bare).await?;
        let mut hashes = vec![hash_of(kind, &created).context("no hash")?];
        for change in 1..=3 {
            space.configmap("settings", &format!("{kind:?} {change}")).await?;
            let deadline = Instant::now() + TIMEOUT;
            // A while longer than it takes, so that a second change would be seen.
            let mut after = 0;
            while after < 50 {
                ensure!(
                    Instant::now() < deadline,
                    "{kind:?}: no other hash after {change} changes: {hashes:?}"
                );
                let Some(written) = put_bare(&space, kind, &bare).await? else { continue };
                let hash =
                    hash_of(kind, &written).with_context(|| format!("{kind:?} lost its hash: {written}"))?;
                if hashes.last() != Some(&hash) {
                    hashes.push(hash);
                }
                after += usize::from(hashes.len() > change);
            }
            ensure!(hashes.len() == change + 1, "{kind:?}: {hashes:?}");
        }
    }
    Ok(())
}

/// The objects are the users' own, and so are the odd ones: what the webhook cannot read passes as it is. (Most projects'
/// definitions would refuse these, after the webhook.)
#[tokio::test]
async fn c9_1_odd_objects_are_neither_blocked_nor_changed() -> anyhow::Result<()> {
    let Some(installed) = Installed::with_as(&custom(), |kind| Ok(smallest(kind))).await? else {
        return Ok(());
    };
    let space = installed.world.space().await?;
    for kind in custom() {
        for (number, spec) in
            [serde_json::json!("none"), serde_json::json!([]), serde_json::json!(null), serde_json::json!({})]
                .into_iter()
                .enumerate()
        {
            for annotated in [false, true] {
                let name = format!("odd-{number}-{annotated}");
                let mut object = listing(kind, &name, "settings");
                object["spec"] = spec.clone();
                if !annotated {
                    object["metadata"].as_object_mut().context("metadata")?.remove("annotations");
                }
                create(&space, kind, &object).await.with_context(|| format!("{kind:?}: {object}"))?;
                space.kubectl(&["delete", &format!("{}.{}/{name}", kind.plural, kind.group)]).await?;
            }
        }
    }
    Ok(())
}
