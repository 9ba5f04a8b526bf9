//! `CronJob`s and Jobs, and what the operator's account can do with them (9.4).

use http::Method;
use pod_reloader_core::action::RECREATE;
use pod_reloader_core::annotation::{ON_CHANGE, RECREATES, RECREATES_PHASE};
use pod_reloader_core::kind::JOBS;
use pod_reloader_core::kind::batch::{CRON_JOB, JOB};
use pod_reloader_e2e::objects::{CONFIG_HASH, CONFIGMAPS, IGNORED, KindRef, OBSERVED_CONFIG};
use serde_json::{Value, json};

use super::attempts::{APPLY, Attempt, JSON, MERGE, event, path};
use super::changes::merges;

/// What `kubectl create job --from` marks its Jobs with.
const INSTANTIATE: &str = "cronjob.kubernetes.io/instantiate";
/// As long as a `CronJob`'s name can be.
const LONG: &str = "a234567890123456789012345678901234567890123456789012";

fn job_spec() -> Value {
    json!({"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/app:1"}]}}})
}

/// One of `batch/v1` with those annotations, of which nothing runs.
#[expect(clippy::needless_pass_by_value, reason = "callers write json!({...}) in place")]
fn object(kind: KindRef, name: &str, annotations: Value) -> Value {
    let mut spec = if kind == JOB {
        job_spec()
    } else {
        json!({"schedule": "@yearly", "jobTemplate": {"spec": job_spec()}})
    };
    spec["suspend"] = json!(true);
    json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "spec": spec,
        "metadata": {"name": name, "labels": {"team": "shop"}, "annotations": annotations},
    })
}

/// The objects that are attacked.
pub(super) fn objects() -> Vec<Value> {
    let of_kind = |kind: KindRef| {
        let asked = kind.actions.asked[0].name();
        let asking = json!({CONFIGMAPS: "settings", "example.com/note": "theirs", OBSERVED_CONFIG: "{}",
            ON_CHANGE: asked});
        let mut ignored = object(kind, "ignored", asking.clone());
        ignored["metadata"]["labels"][IGNORED] = json!("true");
        [
            object(kind, "asks", asking),
            object(kind, "bare", json!({CONFIGMAPS: "settings", ON_CHANGE: asked})),
            object(kind, "asks-nothing", json!({CONFIGMAPS: "settings", OBSERVED_CONFIG: "{}"})),
            ignored,
        ]
    };
    let stand_in = object(JOB, "stand-in", json!({RECREATES: "{}"}));
    JOBS.into_iter().flat_map(of_kind).chain([stand_in]).collect()
}

/// One with as many annotations as fit, and with those environment variables.
pub(super) fn large(kind: KindRef, env: &[Value]) -> Value {
    let mut large =
        object(kind, "large", json!({CONFIGMAPS: "settings", ON_CHANGE: kind.actions.asked[0].name()}));
    for number in 0..45_000 {
        large["metadata"]["annotations"][format!("a{number:x}")] = json!("");
    }
    let template = kind.template.iter().fold(&mut large, |parent, member| &mut parent[*member]);
    template["spec"]["containers"][0]["env"] = json!(env);
    large
}

/// A Job as it is made for that `CronJob`.
fn run_of(cron_job: &str, name: &str) -> Value {
    let mut job = object(JOB, name, json!({INSTANTIATE: "manual", "example.com/note": "theirs"}));
    job["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "batch/v1", "kind": "CronJob", "name": cron_job, "uid": "1", "controller": true}
    ]);
    job["spec"]["suspend"] = json!(false);
    job
}

fn made_anew(on_change: &str) -> Value {
    let mut job = object(JOB, "anew", json!({ON_CHANGE: on_change, OBSERVED_CONFIG: "{}"}));
    job["metadata"]["finalizers"] = json!(["example.com/wait"]);
    job["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1", "kind": "App", "name": "a", "uid": "1",
        "blockOwnerDeletion": true}]);
    job["spec"]["suspend"] = json!(false);
    job
}

/// The same with another value somewhere.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, member) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(parent) = object.pointer_mut(parent) {
        match member.parse::<usize>() {
            Ok(at) if parent.is_array() => parent[at] = value,
            _ => parent[member] = value,
        }
    }
    object
}

/// Jobs that the operator never makes: somebody else's pods would run in them.
fn others() -> Vec<(&'static str, Value)> {
    let run = || run_of("asks", "asks-0123456789");
    let stand_in = || object(JOB, "asks-0123456789", json!({RECREATES: "{}"}));
    let owner = "/metadata/ownerReferences/0";
    let owner_with = |member: &str, value: Value| with(run(), &format!("{owner}/{member}"), value);
    let mut two_owners = run();
    if let Some(owners) = two_owners["metadata"]["ownerReferences"].as_array_mut() {
        owners.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "2"}));
    }
    let finalizers = json!(["example.com/evil"]);
    vec![
        ("any", with(object(JOB, "evil", json!({})), "/spec/suspend", json!(false))),
        ("any that is suspended", object(JOB, "evil", json!({}))),
        ("any in a CronJob's place", with(run(), "/metadata/annotations", json!({}))),
        ("marked otherwise", with(run(), "/metadata/annotations", json!({INSTANTIATE: "always"}))),
        ("a CronJob's of no owner", with(run(), "/metadata/ownerReferences", json!([]))),
        ("a CronJob's that it does not control", owner_with("controller", json!(false))),
        ("a CronJob's that it waits for", owner_with("blockOwnerDeletion", json!(true))),
        ("another kind's", owner_with("kind", json!("Job"))),
        ("another group's", owner_with("apiVersion", json!("example.com/v1"))),
        ("another CronJob's by its name", owner_with("name", json!("other"))),
        ("a CronJob's of two owners", two_owners),
        ("a CronJob's with a finalizer", with(run(), "/metadata/finalizers", finalizers.clone())),
        ("a CronJob's of another name", run_of("asks", "asks-evil")),
        ("a CronJob's of a short name", run_of("asks", "asks")),
        ("a stand-in that runs", with(stand_in(), "/spec/suspend", json!(false))),
        ("a stand-in with a finalizer", with(stand_in(), "/metadata/finalizers", finalizers)),
        (
            "a stand-in with an owner",
            with(
                stand_in(),
                "/metadata/ownerReferences",
                made_anew("recreate")["metadata"]["ownerReferences"].clone(),
            ),
        ),
        ("one anew that asks for nothing", made_anew("none")),
        (
            "one anew that somebody controls",
            with(made_anew("recreate"), &format!("{owner}/controller"), json!(true)),
        ),
    ]
}

/// All that is tried on those of a kind.
fn attempts_on(kind: KindRef, namespace: &str) -> Vec<Attempt> {
    let asks = path(kind, namespace, "/asks");
    let mut changes: Vec<_> = merges().into_iter().filter(|(_, body)| body.get("spec").is_none()).collect();
    changes.extend([
        ("what is done", json!({"metadata": {"annotations": {ON_CHANGE: "none"}}})),
        ("nothing to be done", json!({"metadata": {"annotations": {ON_CHANGE: null}}})),
        (
            "something recorded and a hash",
            json!({"metadata": {"annotations": {OBSERVED_CONFIG: "o", CONFIG_HASH: "h"}}}),
        ),
        ("running", json!({"spec": {"suspend": false}})),
    ]);
    if kind == JOB {
        let on_pods = |fields: Value| json!({"spec": {"template": {"spec": fields}}});
        changes.extend([
            ("parallelism", json!({"spec": {"parallelism": 9}})),
            ("activeDeadlineSeconds", json!({"spec": {"activeDeadlineSeconds": 1}})),
            ("ttlSecondsAfterFinished", json!({"spec": {"ttlSecondsAfterFinished": 1}})),
            ("nodeSelector", on_pods(json!({"nodeSelector": {"a": "b"}}))),
        ]);
    } else {
        let on_jobs = |fields: Value| json!({"spec": {"jobTemplate": fields}});
        let on_pods = |fields: Value| on_jobs(json!({"spec": {"template": fields}}));
        let image = json!([{"name": "main", "image": "example.invalid/evil:1"}]);
        changes.extend([
            ("schedule", json!({"spec": {"schedule": "* * * * *"}})),
            ("concurrencyPolicy", json!({"spec": {"concurrencyPolicy": "Replace"}})),
            ("labels of its Jobs", on_jobs(json!({"metadata": {"labels": {"a": "b"}}}))),
            ("image", on_pods(json!({"spec": {"containers": image}}))),
            ("service account", on_pods(json!({"spec": {"serviceAccountName": "admin"}}))),
            ("hash", on_pods(json!({"metadata": {"annotations": {CONFIG_HASH: super::attempts::HASH}}}))),
        ]);
    }
    let named = |what: &str| format!("{} {what}", kind.kind);
    let mut all: Vec<_> = changes
        .into_iter()
        .map(|(what, body)| Attempt::new(&named(what), Method::PATCH, asks.clone(), MERGE, body))
        .collect();
    let observed = json!({"metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":1}"}}});
    let made = object(kind, "made", json!({CONFIGMAPS: "settings"}));
    let merge = |name: &str| (Method::PATCH, path(kind, namespace, name), MERGE, observed.clone());
    let apply = |name: &str| {
        (Method::PATCH, path(kind, namespace, &format!("/{name}?fieldManager=evil&force=true")), APPLY)
    };
    let claimed = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {
        "name": "bare", "annotations": {CONFIGMAPS: "settings"}}});
    let mut push = |what: &str, (method, path, content_type, body)| {
        all.push(Attempt::new(&named(what), method, path, content_type, body));
    };
    push("asks-nothing: observed", merge("/asks-nothing"));
    push("ignored: observed", merge("/ignored"));
    push("status", merge("/asks/status"));
    let (method, at, content_type) = apply("bare");
    push("claimed by another applier", (method, at, content_type, claimed));
    let (method, at, content_type) = apply("made");
    push("created by apply", (method, at, content_type, made.clone()));
    push("created", (Method::POST, path(kind, namespace, ""), JSON, made));
    push("deleted", (Method::DELETE, path(kind, namespace, "/asks-nothing"), JSON, Value::Null));
    push("all deleted", (Method::DELETE, path(kind, namespace, ""), JSON, Value::Null));
    all
}

pub(super) fn attempts(namespace: &str) -> Vec<Attempt> {
    let mut all: Vec<_> = JOBS.into_iter().flat_map(|kind| attempts_on(kind, namespace)).collect();
    let jobs = path(JOB, namespace, "");
    all.extend(
        others()
            .into_iter()
            .map(|(what, job)| Attempt::new(&format!("Job: {what}"), Method::POST, jobs.clone(), JSON, job)),
    );
    let cron_job = path(CRON_JOB, namespace, "/asks");
    all.push(Attempt::new("CronJob that asks deleted", Method::DELETE, cron_job, JSON, Value::Null));
    let forged = json!({"metadata": {"annotations": {RECREATES: "{\"name\":\"theirs\"}"}}});
    let stand_in = path(JOB, namespace, "/stand-in");
    all.push(Attempt::new("what a stand-in says", Method::PATCH, stand_in, MERGE, forged));
    let asks = path(JOB, namespace, "/asks");
    all.push(Attempt::new("a phase of a Job", Method::PATCH, asks, MERGE, phase()));
    all
}

fn phase() -> Value {
    json!({"metadata": {"annotations": {RECREATES_PHASE: "deleting"}}})
}

/// What the operator does, which must be allowed.
pub(super) fn allowed(namespace: &str) -> Vec<Attempt> {
    let mut all = vec![];
    for kind in JOBS {
        let mut patch = |what: &str, name: &str, annotations: Value| {
            let what = format!("{} {what}", kind.kind);
            let body = json!({"metadata": {"annotations": annotations}});
            all.push(Attempt::new(&what, Method::PATCH, path(kind, namespace, name), MERGE, body));
        };
        patch("recorded", "/asks", json!({OBSERVED_CONFIG: "{\"v\":1}", CONFIG_HASH: null}));
        patch("recorded first", "/bare", json!({OBSERVED_CONFIG: "{\"v\":1}"}));
        patch("opted out", "/asks", json!({OBSERVED_CONFIG: null}));
        patch("that asks for nothing any more", "/asks-nothing", json!({OBSERVED_CONFIG: null}));
        patch("that is ignored now", "/ignored", json!({OBSERVED_CONFIG: null}));
        let events = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let body = event("pod-reloader", &kind.api_version(), kind.kind, namespace);
        all.push(Attempt::new(&format!("an Event about a {}", kind.kind), Method::POST, events, JSON, body));
    }
    let stand_in = path(JOB, namespace, "/stand-in");
    all.push(Attempt::new("a phase of a stand-in", Method::PATCH, stand_in, MERGE, phase()));
    let long = format!("{LONG}-0123456789");
    let mut bare = made_anew(RECREATE.name());
    bare["metadata"] = json!({"name": "anew", "annotations": {ON_CHANGE: RECREATE.name()}});
    for (what, job) in [
        ("a run", run_of("asks", "asks-0123456789")),
        ("a run of a long name", run_of(LONG, &long)),
        ("a run of a longer name than there is room for", run_of(&format!("{LONG}-and-more"), &long)),
        ("a stand-in", object(JOB, "asks-0123456789", json!({RECREATES: "{}"}))),
        ("one anew", made_anew("recreate")),
        ("one anew, with blanks", made_anew(" recreate\n")),
        ("one anew that has nothing recorded", bare),
    ] {
        all.push(Attempt::new(what, Method::POST, path(JOB, namespace, ""), JSON, job));
    }
    let foreground = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"});
    for name in ["asks", "stand-in"] {
        let what = format!("{name} deleted");
        let path = path(JOB, namespace, &format!("/{name}"));
        all.push(Attempt::new(&what, Method::DELETE, path, JSON, foreground.clone()));
    }
    all
}
