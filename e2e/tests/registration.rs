//! Which writes the chart's registration sends to the webhook, asked of a real API server: nothing listens at the URL
//! and the failure policy is `Fail`, so that a write is refused exactly if it is sent (docs/behaviour.md 1.3, 1.4).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows #[test] functions only, not what they share"
)]

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use pod_reloader_e2e::{ControlPlane, Options, Registration, User, eventually, ports};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const CONFIGMAPS: &str = "pod-reloader.cs.sap.com/configmaps";
const SECRETS: &str = "pod-reloader.cs.sap.com/secrets";
const IGNORED: &str = "pod-reloader.cs.sap.com/ignored";
const DISABLED: &str = "pod-reloader.cs.sap.com/disabled";
/// Namespaces with this label are beyond the webhook, so that old objects can be of any kind.
const UNWATCHED: &str = "e2e-unwatched";

/// What a workload's annotations and labels are, `null` for no map at all.
#[derive(Clone, Debug)]
struct State {
    annotations: Value,
    labels: Value,
}

fn state(annotations: Value, labels: Value) -> State {
    State { annotations, labels }
}

fn plain() -> State {
    state(Value::Null, Value::Null)
}

fn opted_in() -> State {
    state(json!({ CONFIGMAPS: "settings" }), Value::Null)
}

fn workload(kind: &str, name: &str, state: &State) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": { "name": name, "annotations": state.annotations, "labels": state.labels },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "main", "image": "ubuntu" }] },
            },
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!("web");
    }
    object
}

struct Cluster {
    control_plane: ControlPlane,
}

impl Cluster {
    /// A control plane with the registration in force.
    async fn start() -> Self {
        let control_plane = ControlPlane::start(Options::default()).await.unwrap();
        let [closed] = ports::free().unwrap();
        let registration = Registration::new([format!("https://127.0.0.1:{closed}/mutate")]);
        let kubectl = control_plane.kubectl(User::Admin);
        registration.apply(&kubectl).await.unwrap();
        // Not part of what users install: a way past the webhook for these tests alone.
        let selector = json!([{ "op": "add", "path": "/webhooks/0/namespaceSelector", "value":
            { "matchExpressions": [{ "key": UNWATCHED, "operator": "DoesNotExist" }] } }]);
        let patch = selector.to_string();
        let args = [
            "patch",
            "mutatingwebhookconfiguration",
            Registration::DEFAULT_NAME,
            "--type=json",
            "-p",
            &patch,
        ];
        kubectl.run(args).await.unwrap();
        let cluster = Self { control_plane };
        eventually("the registration to be in force", Duration::from_secs(20), || async {
            let sent = cluster.create("default", "Deployment", &opted_in(), true).await?;
            anyhow::ensure!(sent, "an opted-in Deployment was not sent to the webhook");
            Ok(())
        })
        .await
        .unwrap();
        // The same for the selector.
        cluster.toggle("default", true).await;
        eventually("the selector to be in force", Duration::from_secs(20), || async {
            let sent = cluster.create("default", "Deployment", &opted_in(), true).await?;
            anyhow::ensure!(!sent, "it was sent to the webhook");
            Ok(())
        })
        .await
        .unwrap();
        cluster
    }

    async fn client(&self) -> Client {
        self.control_plane.client_without_retries(User::Editor).await.unwrap()
    }

    /// Puts a namespace beyond the webhook, or back.
    async fn toggle(&self, ns: &str, unwatched: bool) {
        let namespaces: Api<Namespace> = Api::all(self.client().await);
        let value = if unwatched { json!("true") } else { Value::Null };
        let patch = json!({ "metadata": { "labels": { UNWATCHED: value } } });
        namespaces.patch(ns, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    async fn make_namespace(&self, ns: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client().await);
        let object = serde_json::from_value(json!({ "metadata": { "name": ns } })).unwrap();
        namespaces.create(&PostParams::default(), &object).await.unwrap();
    }

    /// Whether a creation is sent to the webhook; any other failure is an error.
    async fn create(&self, ns: &str, kind: &str, state: &State, dry_run: bool) -> anyhow::Result<bool> {
        let query = if dry_run { "?dryRun=All" } else { "" };
        let path = format!("/apis/apps/v1/namespaces/{ns}/{}s{query}", kind.to_lowercase());
        let body = workload(kind, "web", state).to_string().into_bytes();
        let request = http::Request::post(path).header("content-type", "application/json").body(body)?;
        is_sent(self.client().await.request::<Value>(request).await)
    }

    /// Whether an update from one state to another is sent to the webhook.
    async fn update(&self, ns: &str, old: &State, new: &State) -> bool {
        let deployments: Api<Deployment> = Api::namespaced(self.client().await, ns);
        self.toggle(ns, true).await;
        // Without a resource version: the Deployment controller writes the status at the same time.
        eventually("the old state to be written", Duration::from_secs(20), || async {
            let object = serde_json::from_value(workload("Deployment", "web", old))?;
            if deployments.get_opt("web").await?.is_some() {
                deployments.replace("web", &PostParams::default(), &object).await?;
            } else {
                deployments.create(&PostParams::default(), &object).await?;
            }
            Ok(())
        })
        .await
        .unwrap();
        self.toggle(ns, false).await;
        // Admission learns of the label a moment later.
        eventually("the namespace to be back", Duration::from_secs(20), || async {
            anyhow::ensure!(self.create(ns, "DaemonSet", &opted_in(), true).await?, "it is not");
            Ok(())
        })
        .await
        .unwrap();
        let mut object = workload("Deployment", "web", new);
        // Something must differ for the write to mean anything.
        object["spec"]["minReadySeconds"] = json!(1);
        let object = serde_json::from_value(object).unwrap();
        is_sent(
            deployments.replace("web", &PostParams { dry_run: true, ..PostParams::default() }, &object).await,
        )
        .unwrap()
    }
}

/// Refused because the webhook could not be asked, and for no other reason.
fn is_sent<T>(result: kube::Result<T>) -> anyhow::Result<bool> {
    match result {
        Ok(_) => Ok(false),
        Err(kube::Error::Api(status)) if status.message.contains("failed calling webhook") => Ok(true),
        Err(error) => Err(error.into()),
    }
}

async fn cluster() -> &'static Cluster {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    SHARED.get_or_init(Cluster::start).await
}

#[tokio::test]
async fn c1_4_creations_are_sent_if_they_opt_in() {
    let cluster = cluster().await;
    cluster.make_namespace("creations").await;
    let long = " ,".repeat(1_000_000);
    let many: serde_json::Map<_, _> =
        (0..2000).map(|number| (format!("example.com/{number}"), json!("x".repeat(100)))).collect();
    let rows = [
        ("nothing", plain(), false),
        ("empty maps", state(json!({}), json!({})), false),
        ("other annotations", state(json!({ "example.com/a": "b" }), json!({ "app": "web" })), false),
        ("many other annotations", state(Value::Object(many), Value::Null), false),
        ("a ConfigMap", opted_in(), true),
        ("a Secret", state(json!({ SECRETS: "credentials" }), Value::Null), true),
        ("both", state(json!({ CONFIGMAPS: "a", SECRETS: "b" }), Value::Null), true),
        ("an empty value", state(json!({ CONFIGMAPS: "" }), Value::Null), false),
        ("a null value", state(json!({ CONFIGMAPS: null, SECRETS: null }), Value::Null), false),
        (
            "blanks and commas",
            state(json!({ CONFIGMAPS: " , \t,\n,\r\n", SECRETS: ",," }), Value::Null),
            false,
        ),
        ("a name among blanks", state(json!({ CONFIGMAPS: " \n, a ,," }), Value::Null), true),
        ("a name after a blank one", state(json!({ CONFIGMAPS: " ", SECRETS: "\t\n,b" }), Value::Null), true),
        ("not a name", state(json!({ CONFIGMAPS: "../Ünï \u{0} \\ ' \" {{ }} ${x}" }), Value::Null), true),
        ("another alphabet", state(json!({ SECRETS: "名前" }), Value::Null), true),
        ("the largest value allowed", state(json!({ CONFIGMAPS: &long[..255 * 1024] }), Value::Null), false),
        ("only an odd label", state(Value::Null, json!({ IGNORED: "maybe" })), false),
        ("ignored", state(json!({ CONFIGMAPS: "a" }), json!({ IGNORED: "true" })), false),
        ("disabled", state(json!({ CONFIGMAPS: "a" }), json!({ DISABLED: "true" })), false),
        ("ignored, but not so", state(json!({ CONFIGMAPS: "a" }), json!({ IGNORED: "false" })), true),
        ("ignored in other letters", state(json!({ CONFIGMAPS: "a" }), json!({ IGNORED: "True" })), true),
        (
            "one of the two labels",
            state(json!({ CONFIGMAPS: "a" }), json!({ IGNORED: "", DISABLED: "true" })),
            false,
        ),
        ("an annotation for a label", state(json!({ CONFIGMAPS: "a", IGNORED: "true" }), Value::Null), true),
    ];
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        for (what, state, expected) in &rows {
            let sent = cluster.create("creations", kind, state, true).await;
            let sent = sent.unwrap_or_else(|error| panic!("{kind} with {what}: {error:#}"));
            assert_eq!(sent, *expected, "{kind} with {what}");
        }
    }
    // Beyond what the server allows: refused for that, not because a condition cost too much.
    let state = state(json!({ CONFIGMAPS: long }), Value::Null);
    let error = cluster.create("creations", "Deployment", &state, true).await.unwrap_err();
    assert!(error.to_string().contains("metadata.annotations: Too long"), "{error:#}");
    // And for good, not only as a dry run.
    assert!(!cluster.create("creations", "Deployment", &plain(), false).await.unwrap());
}

#[tokio::test]
async fn c1_3_updates_are_sent_if_they_opt_in_or_out() {
    let cluster = cluster().await;
    cluster.make_namespace("updates").await;
    let annotated = || json!({ CONFIGMAPS: "settings" });
    let blank = || state(json!({ CONFIGMAPS: " ,\n" }), Value::Null);
    let ignored = || state(annotated(), json!({ IGNORED: "true" }));
    let disabled = || state(annotated(), json!({ DISABLED: "true" }));
    let rows = [
        ("never ours", plain(), plain(), false),
        ("blank stays blank", blank(), blank(), false),
        ("opting in", plain(), opted_in(), true),
        ("staying", opted_in(), opted_in(), true),
        ("opting out", opted_in(), plain(), true),
        ("opting out with blanks", opted_in(), blank(), true),
        ("setting the label", opted_in(), ignored(), true),
        ("keeping the label", ignored(), ignored(), false),
        ("changing one label for the other", ignored(), disabled(), false),
        ("removing the label", ignored(), opted_in(), true),
        ("removing label and annotations", ignored(), plain(), true),
        ("label without annotations", state(Value::Null, json!({ IGNORED: "true" })), plain(), false),
        (
            "opting out, ignored before and after",
            ignored(),
            state(Value::Null, json!({ IGNORED: "true" })),
            false,
        ),
    ];
    for (what, old, new, expected) in rows {
        assert_eq!(cluster.update("updates", &old, &new).await, expected, "{what}");
    }
}
