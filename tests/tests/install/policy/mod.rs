//! What a stolen token of the operator's account is good for: everything but its own annotations and objects is tried, by
//! an account that RBAC lets do all, so that the policies alone are what refuses.

mod attempts;
mod changes;
mod jobs;
mod rollouts;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use pod_reloader_core::dialect::own::AUTO;
use pod_reloader_core::kind::JOBS;
use pod_reloader_e2e::objects::{self, BUILT_IN, CONFIG_HASH, CONFIGMAPS, IGNORED, OBSERVED_CONFIG, apps};
use pod_reloader_e2e::{Space, TIMEOUT, User, World, eventually, policy};
use serde_json::json;

use attempts::{
    Attempt, JSON, MERGE, OTHER_HASH, allowed, allowed_of_own, attempts_on_bystanders, attempts_on_others,
    attempts_on_workloads, path, secret, with_dry_run, workload,
};

/// A world in which the operator's account may do everything, as far as RBAC goes.
async fn world() -> anyhow::Result<(World, Client)> {
    let world = World::without_operator().await?;
    let user = User::Operator.name();
    let bind = ["create", "clusterrolebinding", "all", "--clusterrole=cluster-admin"];
    world.kubectl().run(bind.iter().map(ToString::to_string).chain([format!("--user={user}")])).await?;
    policy::apply(&world.kubectl(), &world.plane.client(User::Operator).await?).await?;
    let client = world.plane.client(User::Operator).await?;
    Ok((world, client))
}

/// The objects that are attacked.
async fn furnish(world: &World, space: &Space) -> anyhow::Result<()> {
    let mut items = vec![];
    for kind in BUILT_IN {
        let listed = json!({CONFIGMAPS: "settings"});
        items.push(workload(kind, "app", &listed));
        items.push(workload(kind, "out", &json!({})));
        items.push(workload(kind, "blank", &json!({CONFIGMAPS: " , "})));
        let mut ignored = workload(kind, "ignored", &listed);
        ignored["metadata"]["labels"][IGNORED] = json!("true");
        items.push(ignored);
        items.push(workload(kind, "says-no", &json!({AUTO: "false"})));
        let mut new = workload(kind, "new", &json!({}));
        if let Some(annotations) = new["metadata"]["annotations"].as_object_mut() {
            annotations.remove(OBSERVED_CONFIG);
        }
        items.push(new);
        let mut triggered = workload(kind, "triggered", &listed);
        triggered["metadata"]["annotations"][CONFIG_HASH] = json!("SAP's");
        items.push(triggered);
        // Nothing that may be absent is there.
        items.push(serde_json::to_value(objects::workload(kind, "bare", listed))?);
    }
    items.extend(jobs::objects());
    for item in &mut items {
        item["metadata"]["namespace"] = json!(space.name);
    }
    for name in ["pod-reloader-key", "theirs"] {
        let mut item = secret(name, "Opaque");
        item["metadata"]["namespace"] = json!("pod-reloader");
        items.push(item);
    }
    for name in ["pod-reloader.cs.sap.com", "theirs"] {
        items.push(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {
            "name": name, "namespace": "pod-reloader"}}));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    // As GitOps tools do, so that there is somebody who applied the fields.
    world.kubectl().run_with_input(["apply", "--server-side", "-f", "-"], &list.to_string()).await?;
    Ok(())
}

/// Waits for the policies that `policy::apply` does not wait for: the API server takes them up one by one.
async fn is_in_force(attempts: &[Attempt], operator: &Client) -> anyhow::Result<()> {
    for what in ["CronJob labels", "Job: any"] {
        let attempt = attempts.iter().find(|attempt| attempt.what == what).context("no such attempt")?;
        eventually(format!("{what} to be refused"), TIMEOUT, || async {
            let (status, said) = attempt.send(operator).await?;
            ensure!(said.contains(policy::SENTENCE), "{status}: {said:.300}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn c5_5_the_operators_account_can_change_its_own_annotations_and_nothing_else() -> anyhow::Result<()> {
    let (world, operator) = world().await?;
    let space = world.space().await?;
    furnish(&world, &space).await?;
    let admin = world.admin().await?;

    let mut attempts = attempts_on_others(&space.name);
    let mut good = allowed_of_own();
    for kind in BUILT_IN {
        attempts.extend(attempts_on_workloads(kind, &space.name));
        good.extend(allowed(kind, &space.name));
    }
    let on_jobs = jobs::attempts(&space.name);
    is_in_force(&on_jobs, &operator).await?;
    attempts.extend(on_jobs);
    good.extend(jobs::allowed(&space.name));
    assert!(attempts.len() > 200, "{} attempts", attempts.len());
    let mut missed = vec![];
    let mut refusals = String::new();
    for attempt in &attempts {
        let (status, said) = attempt.send(&operator).await?;
        if status != StatusCode::FORBIDDEN || !said.contains(policy::SENTENCE) {
            missed.push(format!("{}: {status}: {said:.300}", attempt.what));
        }
        refusals += &said;
        // No one else is concerned.
        let (_, said) = attempt.send(&admin).await?;
        if said.contains("ValidatingAdmissionPolicy") {
            missed.push(format!("{}, by another account: {said:.300}", attempt.what));
        }
    }
    for attempt in &good {
        let (status, said) = attempt.send(&operator).await?;
        if !status.is_success() {
            missed.push(format!("{} should be allowed: {status}: {said:.500}", attempt.what));
        }
    }
    // Each of the policies' sentences was the reason for something.
    for policy in Api::<ValidatingAdmissionPolicy>::all(admin).list(&ListParams::default()).await? {
        for validation in policy.spec.and_then(|spec| spec.validations).unwrap_or_default() {
            let sentence = validation.message.unwrap_or_default();
            if sentence.is_empty() || !refusals.contains(&sentence) {
                missed.push(format!("nothing was refused because {sentence:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
    Ok(())
}

#[tokio::test]
async fn c5_5_where_no_object_opts_in_for_others_workloads_have_to_say_so_themselves() -> anyhow::Result<()> {
    let (world, operator) = world().await?;
    let space = world.space().await?;
    furnish(&world, &space).await?;
    let strict = policy::render(&["--set=optIn.objects=false,optIn.namespaces=false"]).await?;
    world.kubectl().run_with_input(["apply", "-f", "-"], &strict).await?;
    for kind in BUILT_IN {
        for attempt in attempts_on_bystanders(kind, &space.name) {
            eventually(format!("{} to be refused", attempt.what), TIMEOUT, || async {
                let (status, said) = attempt.send(&operator).await?;
                ensure!(
                    status == StatusCode::FORBIDDEN && said.contains(policy::SENTENCE),
                    "{status}: {said:.300}"
                );
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn c5_5_where_jobs_are_not_looked_at_nothing_of_them_is_written() -> anyhow::Result<()> {
    let (world, operator) = world().await?;
    let space = world.space().await?;
    furnish(&world, &space).await?;
    for kind in ["validatingadmissionpolicy", "validatingadmissionpolicybinding"] {
        world.kubectl().run(["delete", kind, "pod-reloader-jobs", "pod-reloader-made-jobs"]).await?;
    }
    let without = policy::render(&["--set=jobs.enabled=false"]).await?;
    world.kubectl().run_with_input(["apply", "-f", "-"], &without).await?;
    for attempt in jobs::allowed(&space.name) {
        eventually(format!("{} to be refused", attempt.what), TIMEOUT, || async {
            let (status, said) = attempt.send(&operator).await?;
            ensure!(
                status == StatusCode::FORBIDDEN && said.contains(policy::SENTENCE),
                "{status}: {said:.300}"
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn c5_5_odd_workloads_are_evaluated_without_an_error_and_within_the_budget() -> anyhow::Result<()> {
    let (world, operator) = world().await?;
    let space = world.space().await?;
    // As many annotations as fit into the 256 KiB of a workload, and as many environment variables.
    let mut large = workload(apps::DEPLOYMENT, "large", &json!({CONFIGMAPS: "settings"}));
    for number in 0..45_000 {
        large["metadata"]["annotations"][format!("a{number:x}")] = json!("");
        large["spec"]["template"]["metadata"]["annotations"][format!("a{number:x}")] = json!("");
    }
    let env: Vec<_> = (0..5_000).map(|number| json!({"name": format!("A{number}"), "value": "b"})).collect();
    large["spec"]["template"]["spec"]["containers"][0]["env"] = json!(env.clone());
    let create = path(apps::DEPLOYMENT, &space.name, "");
    let (status, said) = policy::send(&world.admin().await?, Method::POST, &create, JSON, &large).await?;
    ensure!(status.is_success(), "{status}: {said:.500}");
    let hash = json!({"spec": {"template": {"metadata": {"annotations": {CONFIG_HASH: OTHER_HASH}}}}});
    let large = with_dry_run(&path(apps::DEPLOYMENT, &space.name, "/large"));
    let (status, said) = policy::send(&operator, Method::PATCH, &large, MERGE, &hash).await?;
    ensure!(status.is_success(), "{status}: {said:.500}");
    for kind in JOBS {
        let large = jobs::large(kind, &env);
        let create = path(kind, &space.name, "");
        let (status, said) = policy::send(&world.admin().await?, Method::POST, &create, JSON, &large).await?;
        ensure!(status.is_success(), "{kind:?}: {status}: {said:.500}");
        let observed = json!({"metadata": {"annotations": {OBSERVED_CONFIG: "{}"}}});
        let at = with_dry_run(&path(kind, &space.name, "/large"));
        let (status, said) = policy::send(&operator, Method::PATCH, &at, MERGE, &observed).await?;
        ensure!(status.is_success(), "{kind:?}: {status}: {said:.500}");
    }
    Ok(())
}

/// The API server checks the types of what the expressions name, and says what it finds.
#[tokio::test]
async fn c5_5_the_policies_are_sound_to_the_api_server() -> anyhow::Result<()> {
    let world = World::without_operator().await?;
    let policies = policy::render(&[]).await?;
    world.kubectl().run_with_input(["apply", "--validate=strict", "-f", "-"], &policies).await?;
    let api = Api::<ValidatingAdmissionPolicy>::all(world.admin().await?);
    eventually("the policies to be checked", TIMEOUT, || async {
        let found = api.list(&ListParams::default()).await?;
        ensure!(found.items.len() == 6, "{} policies", found.items.len());
        for policy in found {
            let status = policy.status.clone().unwrap_or_default();
            ensure!(status.observed_generation.is_some(), "{} is not checked yet", policy.name_any());
            let warnings = status.type_checking.and_then(|checking| checking.expression_warnings);
            ensure!(warnings.unwrap_or_default().is_empty(), "{}: {:?}", policy.name_any(), policy.status);
        }
        Ok(())
    })
    .await
}
