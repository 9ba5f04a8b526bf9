//! Requests that the operator's account makes, or must not.

use anyhow::Context;
use http::{Method, StatusCode};
use kube::Client;
use pod_reloader_e2e::objects::{self, CONFIG_HASH, CONFIGMAPS, KindRef, OBSERVED_CONFIG, apps};
use pod_reloader_e2e::policy;
use serde_json::{Value, json};

use super::changes::{merges, merges_of};

pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";
pub(super) const JSON: &str = "application/json";
pub(super) const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(super) const OTHER_HASH: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// A workload that has opted in and all that can be changed of one.
pub(super) fn workload(kind: KindRef, name: &str, lists: &Value) -> Value {
    let mut workload = serde_json::to_value(objects::workload(kind, name, lists.clone())).unwrap_or_default();
    workload["metadata"]["labels"] = json!({"team": "shop"});
    workload["metadata"]["annotations"]["example.com/note"] = json!("theirs");
    workload["metadata"]["annotations"][OBSERVED_CONFIG] = json!("{}");
    workload["spec"]["template"]["metadata"]["annotations"] =
        json!({CONFIG_HASH: HASH, "example.com/note": "theirs"});
    workload
}

pub(super) fn path(kind: KindRef, namespace: &str, rest: &str) -> String {
    let (api_version, plural) = (kind.api_version(), kind.plural);
    format!("/apis/{api_version}/namespaces/{namespace}/{plural}{rest}")
}

pub(super) fn with_dry_run(path: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}dryRun=All")
}

/// One request: what it is for, and how it is made.
pub(super) struct Attempt {
    pub(super) what: String,
    method: Method,
    path: String,
    content_type: &'static str,
    body: Value,
}

impl Attempt {
    pub(super) fn new(
        what: &str,
        method: Method,
        path: String,
        content_type: &'static str,
        body: Value,
    ) -> Self {
        Self { what: what.to_owned(), method, path, content_type, body }
    }

    pub(super) async fn send(&self, client: &Client) -> anyhow::Result<(StatusCode, String)> {
        let path = with_dry_run(&self.path);
        policy::send(client, self.method.clone(), &path, self.content_type, &self.body)
            .await
            .with_context(|| self.what.clone())
    }
}

/// All that is tried on a workload of that kind called `app`.
pub(super) fn attempts_on_workloads(kind: KindRef, namespace: &str) -> Vec<Attempt> {
    let app = path(kind, namespace, "/app");
    let named = |what: &str| format!("{} {what}", kind.kind);
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
            "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "app"},
            "spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "b"}]}]}}}
        }),
    );
    // Nothing changes but who owns it: the owner's next apply would be a conflict.
    push(
        "claimed by another applier",
        Method::PATCH,
        path(kind, namespace, "/bare?fieldManager=evil&force=true"),
        APPLY,
        json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {
            "name": "bare", "annotations": {CONFIGMAPS: "settings"}}}),
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
    if kind != apps::DAEMON_SET {
        push("scale", Method::PATCH, format!("{app}/scale"), MERGE, json!({"spec": {"replicas": 9}}));
    }
    // What has not opted in, or is excluded, is left alone.
    let hash = json!({"spec": {"template": {"metadata": {"annotations": {CONFIG_HASH: OTHER_HASH}}}}});
    let observed = json!({"metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":1}"}}});
    for other in ["ignored", "says-no"] {
        let other_path = path(kind, namespace, &format!("/{other}"));
        push(&format!("{other}: hash"), Method::PATCH, other_path.clone(), MERGE, hash.clone());
        push(&format!("{other}: observed"), Method::PATCH, other_path, MERGE, observed.clone());
    }
    push("new: hash", Method::PATCH, path(kind, namespace, "/new"), MERGE, hash);
    all
}

/// Of workloads that say nothing of us: what is forbidden as well where no object opts in for them.
pub(super) fn attempts_on_bystanders(kind: KindRef, namespace: &str) -> Vec<Attempt> {
    let hash = json!({"spec": {"template": {"metadata": {"annotations": {CONFIG_HASH: OTHER_HASH}}}}});
    let observed = json!({"metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":1}"}}});
    let both = [("hash", hash), ("observed", observed)];
    let attempts = ["out", "blank", "new"].into_iter().flat_map(|name| {
        both.clone().map(|(what, body)| {
            let what = format!("{} {name}: {what}", kind.kind);
            Attempt::new(&what, Method::PATCH, path(kind, namespace, &format!("/{name}")), MERGE, body)
        })
    });
    attempts.collect()
}

pub(super) fn secret(name: &str, kind: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": {
        "tls.crt": "", "tls.key": ""}})
}

pub(super) fn event(controller: &str, api_version: &str, kind: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "app.1"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "ConfigurationChanged",
        "action": "Reload", "note": "n", "reportingController": controller, "reportingInstance": "replica",
        "regarding": {"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": "app"},
    })
}

pub(super) fn attempts_on_others(namespace: &str) -> Vec<Attempt> {
    let own = "/api/v1/namespaces/pod-reloader/secrets";
    let key = "/api/v1/namespaces/pod-reloader/secrets/pod-reloader-key";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/pod-reloader/leases";
    let events = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}});
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]);
    let mut token = secret("pod-reloader-key", "kubernetes.io/service-account-token");
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    let mut with_owner = secret("pod-reloader-webhook-ca", "Opaque");
    with_owner["metadata"]["ownerReferences"] = owner.clone();
    let mut with_finalizer = event("pod-reloader", "apps/v1", "Deployment", namespace);
    with_finalizer["metadata"]["finalizers"] = json!(["example.com/evil"]);
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
        ("a Secret with an owner", Method::POST, own.to_owned(), JSON, with_owner),
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
        ("an Event with a finalizer", Method::POST, events.clone(), JSON, with_finalizer),
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
pub(super) fn allowed(kind: KindRef, namespace: &str) -> Vec<Attempt> {
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
        let what = format!("{} {what}", kind.kind);
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
        own("adopted", "/new", MERGE, json!({"metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":2}"}}})),
        Attempt::new(
            "an Event",
            Method::POST,
            format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"),
            JSON,
            event("pod-reloader", &kind.api_version(), kind.kind, namespace),
        ),
        Attempt::new("a read", Method::GET, app, JSON, Value::Null),
    ]
}

pub(super) fn allowed_of_own() -> Vec<Attempt> {
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
