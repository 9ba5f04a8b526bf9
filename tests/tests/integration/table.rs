//! The table of section 3, row by row.

use pod_reloader_tests::Space;
use pod_reloader_tests::objects::{self, Kind};

#[tokio::test]
async fn c3_content_of_a_referenced_object_changes_exactly_one() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.configmap("settings", "one").await?;
    for kind in Kind::ALL {
        let name = kind.name().to_lowercase();
        let workload = objects::workload(kind, &name, serde_json::json!({objects::CONFIGMAPS: "settings"}));
        space.create(&workload).await?;
        space.expect_revisions(kind, &name, 1).await?;
    }
    space.configmap("settings", "two").await?;
    space.quiesce().await?;
    for kind in Kind::ALL {
        let name = kind.name().to_lowercase();
        space.expect_revisions(kind, &name, 2).await?;
        let notes = space.event_comes(&name, "ConfigurationChanged").await?;
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("configmap/settings"), "{notes:?}");
    }
    Ok(())
}
