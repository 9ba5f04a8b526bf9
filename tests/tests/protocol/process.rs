//! Section 6: the process and its command line.

use std::process::Command;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use pod_reloader_e2e::{TIMEOUT, World, eventually, operator_binary};

#[tokio::test]
async fn c6_flags_that_are_wrong_end_with_2_and_say_what_would_be_right() -> anyhow::Result<()> {
    for (arg, hint) in [
        ("--leader-elekt", "--leader-elect"),
        ("--settle-window=2", "2s"),
        ("-hash=md5", "content"),
        ("--webhook-bind-address=9443", "[HOST]:PORT"),
    ] {
        let output = Command::new(operator_binary()?).arg(arg).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arg}: {text}");
        assert!(text.contains(hint), "{arg}: {text}");
    }
    let output = Command::new(operator_binary()?).arg("--version").output()?;
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("pod-reloader "));
    Ok(())
}

#[tokio::test]
async fn c6_without_a_cluster_it_says_so() -> anyhow::Result<()> {
    let output = Command::new(operator_binary()?)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .args([
            "--webhook-bind-address=127.0.0.1:0",
            "--metrics-bind-address=0",
            "--health-probe-bind-address=0",
        ])
        .output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("KUBECONFIG"));
    Ok(())
}

#[tokio::test]
async fn c6_sigterm_releases_the_lease_and_ends_with_0() -> anyhow::Result<()> {
    let mut world =
        World::own(&["-leader-elect", "--zap-log-level=debug", "-zap-encoder", "console"]).await?;
    let leases = Api::<Lease>::namespaced(world.admin().await?, "pod-reloader");
    let holder = || async {
        let lease = leases.get("pod-reloader.cs.sap.com").await?;
        anyhow::Ok(lease.spec.and_then(|spec| spec.holder_identity))
    };
    eventually("somebody to lead", TIMEOUT, || async {
        anyhow::ensure!(holder().await?.is_some(), "nobody");
        Ok(())
    })
    .await?;
    let metrics = world.replicas[0].metrics().await?;
    for name in [
        "pod_reloader_build_info{",
        "pod_reloader_leader 1",
        "pod_reloader_workloads ",
        "pod_reloader_references ",
        "pod_reloader_admission_requests_total{",
        "pod_reloader_admission_duration_seconds_bucket{",
        "pod_reloader_reconcile_duration_seconds_bucket{",
        "pod_reloader_change_to_patch_seconds_bucket{",
        "pod_reloader_certificate_expiry_timestamp_seconds ",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} is missing: {metrics}");
    }
    let status = world.replicas[0].terminate(TIMEOUT).await?;
    assert_eq!(status.code(), Some(0));
    // As client-go leaves it.
    assert_eq!(holder().await?.as_deref(), Some(""));
    Ok(())
}

/// With the settings that `allocator.rs` gives it, which count from before the process's `main`.
#[tokio::test]
async fn c5_2_the_allocator_gives_back_what_is_freed() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let environment = std::fs::read(format!("/proc/{}/environ", world.replicas[0].id()))?;
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("MALLOC_MMAP_THRESHOLD_="), "it did not start itself again");
    Ok(())
}
