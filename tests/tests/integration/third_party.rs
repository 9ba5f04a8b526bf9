//! docs/examples/third-party-chart.md: what a public chart renders, followed through the mark on its Secret (7.4).

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use pod_reloader_e2e::objects::{self, apps};
use pod_reloader_e2e::{TIMEOUT, World, eventually};
use serde_json::json;

const RENDERED: &str = include_str!("../../../docs/examples/third-party-chart/grafana.yaml");
const NAME: &str = "grafana";

#[tokio::test]
async fn c7_4_grafanas_chart_is_followed_through_the_mark_on_its_secret_key_by_key() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.with_input(&["apply", "-f", "-"], RENDERED).await?;
    space.expect_revisions(apps::DEPLOYMENT, NAME, 1).await?;
    space.kubectl(&["annotate", "secret", NAME, "pod-reloader.cs.sap.com/auto=true"]).await?;
    eventually("the keys that its container reads to be recorded", TIMEOUT, || async {
        let observed = objects::observed(&space.get(apps::DEPLOYMENT, NAME).await?).unwrap_or_default();
        let followed = &observed["followed"];
        ensure!(followed["secrets"][NAME]["keys"] == json!(["admin-password", "admin-user"]), "{observed}");
        ensure!(followed["configmaps"].is_null(), "{observed}");
        Ok(())
    })
    .await?;
    space.expect_new_revisions(apps::DEPLOYMENT, NAME, 0, || async { Ok(()) }).await?;
    for (key, revisions) in [("ldap-toml", 0), ("admin-password", 1)] {
        let change = || async {
            let patch = json!({"stringData": {key: "second"}});
            space.secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
            Ok(())
        };
        space.expect_new_revisions(apps::DEPLOYMENT, NAME, revisions, change).await?;
    }
    // The chart once more, with that password, as GitOps tools apply it again and again.
    let again = || async {
        space.with_input(&["apply", "-f", "-"], &RENDERED.replace("Zmlyc3Q=", "c2Vjb25k")).await?;
        space.settle().await
    };
    space.expect_new_revisions(apps::DEPLOYMENT, NAME, 0, again).await
}
