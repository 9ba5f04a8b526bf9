//! What a stolen token of the operator's account is good for: everything but its own annotations and objects is tried, by
//! an account that RBAC lets do all, so that the policies alone are what refuses.

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use pod_reloader_e2e::{User, eventually};
use pod_reloader_tests::objects::{self, CONFIG_HASH, CONFIGMAPS, IGNORED, Kind, OBSERVED_CONFIG};
use pod_reloader_tests::{PATIENCE, Space, World, policy};
use serde_json::{Value, json};

const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json";
const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER_HASH: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// A world in which the operator's account may do everything, as far as RBAC goes.
async fn world() -> anyhow::Result<(World, Client)> {
    let world = World::without_operator().await?;
    let user = User::Operator.name();
    let bind = ["create", "clusterrolebinding", "all", "--clusterrole=cluster-admin"];
    world.kubectl().run(bind.iter().map(ToString::to_string).chain([format!("--user={user}")])).await?;
    policy::apply(&world).await?;
    let client = world.plane.client(User::Operator).await?;
    Ok((world, client))
}

/// A workload that has opted in and all that can be changed of one.
fn workload(kind: Kind, name: &str, lists: &Value) -> Value {
    let mut workload = serde_json::to_value(objects::workload(kind, name, lists.clone())).unwrap_or_default();
    workload["metadata"]["labels"] = json!({"team": "shop"});
    workload["metadata"]["annotations"]["example.com/note"] = json!("theirs");
    workload["metadata"]["annotations"][OBSERVED_CONFIG] = json!("{}");
    workload["spec"]["template"]["metadata"]["annotations"] =
        json!({CONFIG_HASH: HASH, "example.com/note": "theirs"});
    workload
}

fn path(kind: Kind, namespace: &str, rest: &str) -> String {
    let plural = kind.resource().plural;
    format!("/apis/apps/v1/namespaces/{namespace}/{plural}{rest}")
}

fn with_dry_run(path: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}dryRun=All")
}

/// One request: what it is for, and how it is made.
struct Attempt {
    what: String,
    method: Method,
    path: String,
    content_type: &'static str,
    body: Value,
}

impl Attempt {
    fn new(what: &str, method: Method, path: String, content_type: &'static str, body: Value) -> Self {
        Self { what: what.to_owned(), method, path, content_type, body }
    }

    async fn send(&self, client: &Client) -> anyhow::Result<(StatusCode, String)> {
        let path = with_dry_run(&self.path);
        policy::send(client, self.method.clone(), &path, self.content_type, &self.body)
            .await
            .with_context(|| self.what.clone())
    }
}

/// Changes of a workload by merge patches; each with what it is.
fn merges() -> Vec<(&'static str, Value)> {
    let container = |fields: Value| {
        let mut container = json!({"name": "main", "image": "example.invalid/app:1"});
        for (key, value) in fields.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    };
    let pod = |fields: Value| json!({"spec": {"template": {"spec": fields}}});
    let on_template = |fields: Value| json!({"spec": {"template": {"metadata": fields}}});
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]);
    vec![
        ("image", container(json!({"image": "example.invalid/evil:1"}))),
        ("env", container(json!({"env": [{"name": "A", "value": "b"}]}))),
        ("command", container(json!({"command": ["sh"]}))),
        ("privileges", container(json!({"securityContext": {"allowPrivilegeEscalation": true}}))),
        (
            "a second container",
            json!({"spec": {"template": {"spec": {"containers": [
                {"name": "main", "image": "example.invalid/app:1"}, {"name": "evil", "image": "example.invalid/evil:1"}
            ]}}}}),
        ),
        ("service account", pod(json!({"serviceAccountName": "admin"}))),
        ("host network", pod(json!({"hostNetwork": true}))),
        ("volumes", pod(json!({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}))),
        (
            "init containers",
            pod(json!({"initContainers": [{"name": "evil", "image": "example.invalid/evil:1"}]})),
        ),
        ("grace period", pod(json!({"terminationGracePeriodSeconds": 1}))),
        ("template labels", on_template(json!({"labels": {"app": "app", "evil": "true"}}))),
        ("another template annotation", on_template(json!({"annotations": {"example.com/evil": "true"}}))),
        ("a changed template annotation", on_template(json!({"annotations": {"example.com/note": "ours"}}))),
        ("a removed template annotation", on_template(json!({"annotations": {"example.com/note": null}}))),
        ("no template annotations", on_template(json!({"annotations": null}))),
        ("SAP's other name on the template", on_template(json!({"annotations": {OBSERVED_CONFIG: "{}"}}))),
        ("a hash that is none", on_template(json!({"annotations": {CONFIG_HASH: "$(evil)"}}))),
        ("a hash in upper case", on_template(json!({"annotations": {CONFIG_HASH: HASH.to_uppercase()}}))),
        ("a hash and more", on_template(json!({"annotations": {CONFIG_HASH: format!("{HASH}\n{HASH}")}}))),
        ("a short hash", on_template(json!({"annotations": {CONFIG_HASH: "0123"}}))),
        ("no hash", on_template(json!({"annotations": {CONFIG_HASH: null}}))),
        ("finalizers of the template", on_template(json!({"finalizers": ["example.com/evil"]}))),
        ("labels", json!({"metadata": {"labels": {"evil": "true"}}})),
        ("a removed label", json!({"metadata": {"labels": {"team": null}}})),
        ("the label that excludes", json!({"metadata": {"labels": {IGNORED: "true"}}})),
        ("another annotation", json!({"metadata": {"annotations": {"example.com/evil": "true"}}})),
        ("a changed annotation", json!({"metadata": {"annotations": {"example.com/note": "ours"}}})),
        ("a removed annotation", json!({"metadata": {"annotations": {"example.com/note": null}}})),
        ("the lists", json!({"metadata": {"annotations": {CONFIGMAPS: "other"}}})),
        ("no lists", json!({"metadata": {"annotations": {CONFIGMAPS: null}}})),
        ("SAP's trigger", json!({"metadata": {"annotations": {CONFIG_HASH: HASH}}})),
        ("finalizers", json!({"metadata": {"finalizers": ["example.com/evil"]}})),
        ("owners", json!({"metadata": {"ownerReferences": owner}})),
        (
            "a change behind an allowed one",
            json!({
                "metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":1}"}, "labels": {"evil": "true"}},
                "spec": {"template": {"metadata": {"annotations": {CONFIG_HASH: OTHER_HASH}}}}
            }),
        ),
    ]
}

/// What is particular to a kind.
fn merges_of(kind: Kind) -> Vec<(&'static str, Value)> {
    match kind {
        Kind::Deployment => vec![
            ("replicas", json!({"spec": {"replicas": 0}})),
            ("paused", json!({"spec": {"paused": true}})),
            ("strategy", json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}})),
            ("minReadySeconds", json!({"spec": {"minReadySeconds": 9}})),
            ("revisionHistoryLimit", json!({"spec": {"revisionHistoryLimit": 0}})),
            // On a DaemonSet the API server keeps it.
            (
                "DaemonSets' annotation",
                json!({"metadata": {"annotations": {"deprecated.daemonset.template.generation": "9"}}}),
            ),
            ("progressDeadlineSeconds", json!({"spec": {"progressDeadlineSeconds": 9}})),
        ],
        Kind::StatefulSet => vec![
            ("replicas", json!({"spec": {"replicas": 0}})),
            ("ordinals", json!({"spec": {"ordinals": {"start": 5}}})),
            (
                "updateStrategy",
                json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}),
            ),
        ],
        Kind::DaemonSet => vec![
            (
                "updateStrategy",
                json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}),
            ),
            ("minReadySeconds", json!({"spec": {"minReadySeconds": 9}})),
        ],
    }
}

/// All that is tried on a workload of that kind called `app`.
fn attempts_on_workloads(kind: Kind, namespace: &str) -> Vec<Attempt> {
    let app = path(kind, namespace, "/app");
    let named = |what: &str| format!("{} {what}", kind.name());
    let mut all: Vec<_> = merges()
        .into_iter()
        .chain(merges_of(kind))
        .map(|(what, body)| Attempt::new(&named(what), Method::PATCH, app.clone(), MERGE, body))
        .collect();
    let mut push = |what: &str, method, path: String, content_type, body| {
        all.push(Attempt::new(&named(what), method, path, content_type, body));
    };
    push(
        "command, strategic",
        Method::PATCH,
        app.clone(),
        STRATEGIC,
        json!({"spec": {"template": {"spec": {
        "containers": [{"name": "main", "command": ["sh"]}]}}}}),
    );
    push(
        "all annotations replaced, strategic",
        Method::PATCH,
        app.clone(),
        STRATEGIC,
        json!({"metadata": {
        "annotations": {"$patch": "replace", CONFIGMAPS: "settings"}}}),
    );
    push(
        "image, JSON",
        Method::PATCH,
        app.clone(),
        JSON_PATCH,
        json!([
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example.invalid/evil:1"}]),
    );
    push(
        "annotations removed, JSON",
        Method::PATCH,
        app.clone(),
        JSON_PATCH,
        json!([
        {"op": "remove", "path": "/metadata/annotations"}]),
    );
    push(
        "env, apply",
        Method::PATCH,
        format!("{app}?fieldManager=evil&force=true"),
        APPLY,
        json!({
            "apiVersion": "apps/v1", "kind": kind.name(), "metadata": {"name": "app"},
            "spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "b"}]}]}}}
        }),
    );
    let mut whole = workload(kind, "app", &json!({CONFIGMAPS: "settings"}));
    whole["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.invalid/evil:1");
    push("image, PUT", Method::PUT, app.clone(), JSON, whole);
    let made = workload(kind, "made", &json!({CONFIGMAPS: "settings"}));
    push("created", Method::POST, path(kind, namespace, ""), JSON, made.clone());
    push(
        "created by apply",
        Method::PATCH,
        path(kind, namespace, "/made?fieldManager=evil&force=true"),
        APPLY,
        made,
    );
    push("deleted", Method::DELETE, app.clone(), JSON, Value::Null);
    let status = json!({"metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":1}"}}});
    push("status", Method::PATCH, format!("{app}/status"), MERGE, status);
    if kind != Kind::DaemonSet {
        push("scale", Method::PATCH, format!("{app}/scale"), MERGE, json!({"spec": {"replicas": 9}}));
    }
    // What has not opted in, or is excluded, is left alone.
    let hash = json!({"spec": {"template": {"metadata": {"annotations": {CONFIG_HASH: OTHER_HASH}}}}});
    let observed = json!({"metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":1}"}}});
    for other in ["out", "blank", "ignored"] {
        push(
            &format!("{other}: hash"),
            Method::PATCH,
            path(kind, namespace, &format!("/{other}")),
            MERGE,
            hash.clone(),
        );
        push(
            &format!("{other}: observed"),
            Method::PATCH,
            path(kind, namespace, &format!("/{other}")),
            MERGE,
            observed.clone(),
        );
    }
    all
}

fn secret(name: &str, kind: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": {
        "tls.crt": "", "tls.key": ""}})
}

fn event(controller: &str, api_version: &str, kind: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "app.1"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "ConfigurationChanged",
        "action": "Reload", "note": "n", "reportingController": controller, "reportingInstance": "replica",
        "regarding": {"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": "app"},
    })
}

fn attempts_on_others(namespace: &str) -> Vec<Attempt> {
    let own = "/api/v1/namespaces/pod-reloader/secrets";
    let key = "/api/v1/namespaces/pod-reloader/secrets/pod-reloader-key";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/pod-reloader/leases";
    let events = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}});
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]);
    let mut token = secret("pod-reloader-key", "kubernetes.io/service-account-token");
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    let mut owned = secret("pod-reloader-webhook-ca", "Opaque");
    owned["metadata"]["ownerReferences"] = owner.clone();
    let core_event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "app.1"}, "reason": "Evil", "message": "m",
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "app"},
    });
    let cases = [
        ("a Secret of another name", Method::POST, own.to_owned(), JSON, secret("evil", "Opaque")),
        (
            "a Secret elsewhere",
            Method::POST,
            format!("/api/v1/namespaces/{namespace}/secrets"),
            JSON,
            secret("pod-reloader-key", "Opaque"),
        ),
        (
            "a Secret with a generated name",
            Method::POST,
            own.to_owned(),
            JSON,
            json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": "pod-reloader-key"}}),
        ),
        ("a Secret that asks for a token", Method::POST, own.to_owned(), JSON, token),
        ("a Secret with an owner", Method::POST, own.to_owned(), JSON, owned),
        ("somebody's Secret", Method::PATCH, format!("{own}/theirs"), MERGE, json!({"data": {"a": "Yg=="}})),
        (
            "the key's finalizers",
            Method::PATCH,
            key.to_owned(),
            MERGE,
            json!({"metadata": {"finalizers": ["example.com/evil"]}}),
        ),
        (
            "the key's owners",
            Method::PATCH,
            key.to_owned(),
            MERGE,
            json!({"metadata": {"ownerReferences": owner}}),
        ),
        ("an immutable key", Method::PATCH, key.to_owned(), MERGE, json!({"immutable": true})),
        ("the key deleted", Method::DELETE, key.to_owned(), JSON, Value::Null),
        ("all Secrets deleted", Method::DELETE, own.to_owned(), JSON, Value::Null),
        ("a Lease of another name", Method::POST, leases.to_owned(), JSON, lease("evil")),
        (
            "another's Lease",
            Method::PATCH,
            format!("{leases}/theirs"),
            MERGE,
            json!({"spec": {"holderIdentity": "evil"}}),
        ),
        (
            "the Lease's finalizers",
            Method::PATCH,
            format!("{leases}/pod-reloader.cs.sap.com"),
            MERGE,
            json!({"metadata": {"finalizers": ["example.com/evil"]}}),
        ),
        ("the Lease deleted", Method::DELETE, format!("{leases}/pod-reloader.cs.sap.com"), JSON, Value::Null),
        (
            "an Event of somebody else's",
            Method::POST,
            events.clone(),
            JSON,
            event("kubelet", "apps/v1", "Deployment", namespace),
        ),
        (
            "an Event about a Pod",
            Method::POST,
            events.clone(),
            JSON,
            event("pod-reloader", "v1", "Pod", namespace),
        ),
        (
            "an Event about another namespace",
            Method::POST,
            events.clone(),
            JSON,
            event("pod-reloader", "apps/v1", "Deployment", "default"),
        ),
        (
            "an Event of the older API",
            Method::POST,
            format!("/api/v1/namespaces/{namespace}/events"),
            JSON,
            core_event,
        ),
    ];
    cases
        .into_iter()
        .map(|(what, method, path, kind, body)| Attempt::new(what, method, path, kind, body))
        .collect()
}

/// What the operator does, which must be allowed.
fn allowed(kind: Kind, namespace: &str) -> Vec<Attempt> {
    let app = path(kind, namespace, "/app");
    let reload = json!({
        "metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":1}", CONFIG_HASH: null}},
        "spec": {"template": {"metadata": {"annotations": {CONFIG_HASH: OTHER_HASH}}}}
    });
    let guarded = json!([
        {"op": "test", "path": "/metadata/annotations/example.com~1note", "value": "theirs"},
        {"op": "replace", "path": "/metadata/annotations/pod-reloader.cs.sap.com~1observed-config", "value": "{\"v\":1}"},
        {"op": "replace", "path": "/spec/template/metadata/annotations/pod-reloader.cs.sap.com~1config-hash", "value": OTHER_HASH},
    ]);
    let forgotten = json!({"metadata": {"annotations": {OBSERVED_CONFIG: null, CONFIG_HASH: null}}});
    let own = |what: &str, name: &str, kind_of_patch, body| {
        let what = format!("{} {what}", kind.name());
        Attempt::new(&what, Method::PATCH, path(kind, namespace, name), kind_of_patch, body)
    };
    vec![
        own("reloaded", "/app", MERGE, reload.clone()),
        own("reloaded under guard", "/app", JSON_PATCH, guarded),
        own("recorded", "/app", MERGE, json!({"metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":2}"}}})),
        own("without observed-config", "/app", MERGE, forgotten.clone()),
        own("without a change", "/app", MERGE, json!({"metadata": {"labels": {"team": "shop"}}})),
        own("triggered by SAP's", "/triggered", MERGE, reload.clone()),
        own("first hash", "/bare", MERGE, reload),
        own("opted out", "/out", MERGE, forgotten),
        Attempt::new(
            "an Event",
            Method::POST,
            format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"),
            JSON,
            event("pod-reloader", "apps/v1", kind.name(), namespace),
        ),
        Attempt::new("a read", Method::GET, app, JSON, Value::Null),
    ]
}

fn allowed_of_own() -> Vec<Attempt> {
    let own = "/api/v1/namespaces/pod-reloader/secrets".to_owned();
    let key = "/api/v1/namespaces/pod-reloader/secrets/pod-reloader-key".to_owned();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/pod-reloader/leases";
    let annotate = json!({"metadata": {"annotations": {"pod-reloader.cs.sap.com/standing-down-until": "x"}}});
    let lease = format!("{leases}/pod-reloader.cs.sap.com");
    vec![
        Attempt::new(
            "certificates",
            Method::POST,
            own.clone(),
            JSON,
            secret("pod-reloader-webhook-certificates", "kubernetes.io/tls"),
        ),
        Attempt::new("the CAs' keys", Method::POST, own, JSON, secret("pod-reloader-webhook-ca", "Opaque")),
        Attempt::new("another key", Method::PATCH, key.clone(), MERGE, json!({"data": {"key": "Yg=="}})),
        Attempt::new("standing down", Method::PATCH, key, MERGE, annotate),
        Attempt::new("leading", Method::PATCH, lease, MERGE, json!({"spec": {"holderIdentity": "replica"}})),
    ]
}

/// The objects that are attacked.
async fn furnish(world: &World, space: &Space<'_>) -> anyhow::Result<()> {
    let mut items = vec![];
    for kind in Kind::ALL {
        let listed = json!({CONFIGMAPS: "settings"});
        items.push(workload(kind, "app", &listed));
        items.push(workload(kind, "out", &json!({})));
        items.push(workload(kind, "blank", &json!({CONFIGMAPS: " , "})));
        let mut ignored = workload(kind, "ignored", &listed);
        ignored["metadata"]["labels"][IGNORED] = json!("true");
        items.push(ignored);
        let mut triggered = workload(kind, "triggered", &listed);
        triggered["metadata"]["annotations"][CONFIG_HASH] = json!("SAP's");
        items.push(triggered);
        // Nothing that may be absent is there.
        items.push(serde_json::to_value(objects::workload(kind, "bare", listed))?);
    }
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
    world.kubectl().run_with_input(["apply", "-f", "-"], &list.to_string()).await?;
    Ok(())
}

#[tokio::test]
async fn c5_5_the_operators_account_can_change_its_own_annotations_and_nothing_else() -> anyhow::Result<()> {
    let (world, operator) = world().await?;
    let space = Space::within(&world).await?;
    furnish(&world, &space).await?;
    let admin = world.admin().await?;

    let mut attempts = attempts_on_others(&space.name);
    let mut good = allowed_of_own();
    for kind in Kind::ALL {
        attempts.extend(attempts_on_workloads(kind, &space.name));
        good.extend(allowed(kind, &space.name));
    }
    assert!(attempts.len() > 150, "{} attempts", attempts.len());
    let mut missed = vec![];
    for attempt in &attempts {
        let (status, said) = attempt.send(&operator).await?;
        if status != StatusCode::FORBIDDEN || !said.contains(policy::SENTENCE) {
            missed.push(format!("{}: {status}: {said:.300}", attempt.what));
        }
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
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
    Ok(())
}

#[tokio::test]
async fn c5_5_odd_workloads_are_evaluated_without_an_error_and_within_the_budget() -> anyhow::Result<()> {
    let (world, operator) = world().await?;
    let space = Space::within(&world).await?;
    // As many annotations as fit into the 256 KiB of a workload, and as many environment variables.
    let mut large = workload(Kind::Deployment, "large", &json!({CONFIGMAPS: "settings"}));
    for number in 0..45_000 {
        large["metadata"]["annotations"][format!("a{number:x}")] = json!("");
        large["spec"]["template"]["metadata"]["annotations"][format!("a{number:x}")] = json!("");
    }
    let env: Vec<_> = (0..5_000).map(|number| json!({"name": format!("A{number}"), "value": "b"})).collect();
    large["spec"]["template"]["spec"]["containers"][0]["env"] = json!(env);
    let create = path(Kind::Deployment, &space.name, "");
    let (status, said) = policy::send(&world.admin().await?, Method::POST, &create, JSON, &large).await?;
    ensure!(status.is_success(), "{status}: {said:.500}");
    let hash = json!({"spec": {"template": {"metadata": {"annotations": {CONFIG_HASH: OTHER_HASH}}}}});
    let large = with_dry_run(&path(Kind::Deployment, &space.name, "/large"));
    let (status, said) = policy::send(&operator, Method::PATCH, &large, MERGE, &hash).await?;
    ensure!(status.is_success(), "{status}: {said:.500}");
    Ok(())
}

/// The API server checks the types of what the expressions name, and says what it finds.
#[tokio::test]
async fn c5_5_the_policies_are_sound_to_the_api_server() -> anyhow::Result<()> {
    let world = World::without_operator().await?;
    let policies = policy::render(world.directory(), &[]).await?;
    world.kubectl().run_with_input(["apply", "--validate=strict", "-f", "-"], &policies).await?;
    let api = Api::<ValidatingAdmissionPolicy>::all(world.admin().await?);
    eventually("the policies to be checked", PATIENCE, || async {
        let found = api.list(&ListParams::default()).await?;
        ensure!(found.items.len() == 4, "{} policies", found.items.len());
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
