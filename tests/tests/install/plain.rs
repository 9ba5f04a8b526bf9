//! Without Helm: the rendered manifests and the Kustomize base, as the API server sees them.

use anyhow::ensure;
use pod_reloader_e2e::{Tool, World, chart};

#[tokio::test]
async fn plain_manifests_and_the_kustomize_base_are_valid_and_the_same() -> anyhow::Result<()> {
    let world = World::without_operator().await?;
    let out = world.directory().join("manifests");
    let root = chart::folder().join("../..");
    let image = "registry.example.com:5000/team/pod-reloader:v9";
    let render = Tool::new(&root.join("charts/manifests.sh"), &root).env("OUT", &out).env("IMAGE", image);
    render.run([""; 0]).await?;
    let text = std::fs::read_to_string(out.join("install.yaml"))?;
    assert!(
        text.contains(&format!("image: \"{image}\"")) || text.contains(&format!("image: {image}")),
        "{text}"
    );
    assert!(!text.contains("Helm") && !text.contains("helm.sh"), "{text}");

    // As users do it, but that the server refuses fields that it does not know.
    let kubectl = world.kubectl().in_directory(&out);
    let applied = kubectl.run([
        "apply",
        "--server-side",
        "--force-conflicts",
        "--validate=strict",
        "-f",
        "install.yaml",
    ]);
    let applied = applied.await?;
    for kind in [
        "namespace",
        "serviceaccount",
        "role.rbac",
        "rolebinding.rbac",
        "clusterrole.rbac",
        "clusterrolebinding.rbac",
        "service/pod-reloader",
        "service/pod-reloader-metrics",
        "deployment.apps",
        "poddisruptionbudget.policy",
        "mutatingwebhookconfiguration.admissionregistration",
        "validatingadmissionpolicy.admissionregistration",
        "validatingadmissionpolicybinding.admissionregistration",
    ] {
        assert!(applied.contains(kind), "no {kind} in {applied}");
    }
    // The base says the same: nothing is left to change.
    let difference = kubectl.run(["diff", "--server-side", "--force-conflicts", "-k", "kustomize"]).await?;
    assert_eq!(difference, "");

    // Somebody's own kustomization over it: another namespace and another image.
    let overlay = out.join("overlay");
    std::fs::create_dir(&overlay)?;
    std::fs::write(
        overlay.join("kustomization.yaml"),
        "resources: [../kustomize]\nnamespace: elsewhere\nimages:\n\
         - {name: registry.example.com:5000/team/pod-reloader, newTag: v10}\n",
    )?;
    let built = kubectl.run(["kustomize", "overlay"]).await?;
    assert!(built.contains("registry.example.com:5000/team/pod-reloader:v10"), "{built}");
    assert!(!built.contains("namespace: pod-reloader"), "{built}");
    kubectl
        .run_with_input(
            ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"],
            &built,
        )
        .await?;
    let pods = kubectl.run(["-n", "elsewhere", "get", "deployment", "pod-reloader", "-o", "name"]).await?;
    ensure!(pods.contains("deployment.apps/pod-reloader"), "{pods}");
    Ok(())
}
