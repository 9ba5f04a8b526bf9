use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::admission::Baseline;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::{Context, Input, Verdict};
use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::lookup::ConfigVersion;
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_core::workload::Workload;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::evaluate::{Evaluation, Live, Tolerance, evaluate};
use pod_reloader_k8s::metrics::Metrics;
use pod_reloader_stub_api::{StubApi, objects};
use prometheus_client::registry::Registry;

use super::*;
use crate::index::Index;

/// A workload that lists `gone` and `settings` and requires `needed`, and an index that has heard of all of them.
struct Shop {
    stub: StubApi,
    reader: Arc<ConfigReader>,
    key: DigestKey,
    workload: Workload,
    target: Target,
}

impl Shop {
    /// As the workload was created, while all was there.
    async fn created() -> Self {
        let stub = StubApi::new(1);
        for name in ["gone", "settings", "needed"] {
            stub.put(objects::config_map("shop", name, &[("key", "value")]));
        }
        let web = objects::listing("shop", "web", "gone,settings", "");
        let web = objects::with_env_from(web, "ConfigMap", "needed", false);
        let metrics = Metrics::register(&mut Registry::default());
        let reader = Arc::new(ConfigReader::new(stub.client_of("reader"), Budget::new(24 << 20), metrics));
        let mut shop = Self {
            stub,
            reader,
            key: DigestKey::new("test", &[7; DigestKey::LEN]).unwrap(),
            workload: Workload::read(DEPLOYMENT, &web.to_string()).unwrap(),
            target: Target::default(),
        };
        let verdict = shop.evaluate(Context::Rollout, &shop.live()).await.decision.verdict;
        shop.target = verdict.target("shop", Baseline::default());
        assert!(shop.target.hash.is_some() && shop.target.observed.is_some());
        shop
    }

    fn live(&self) -> Live<'_> {
        Live { reader: &self.reader, deadline: Instant::now() + REQUEST_TIMEOUT }
    }

    /// What the watches have reported.
    fn snapshot(&self) -> Snapshot {
        let (mut index, now) = (Index::new(Duration::from_secs(2), true, 1000), Instant::now());
        let web = WorkloadRef { kind: DEPLOYMENT, namespace: "shop".into(), name: "web".into() };
        let web = web.into();
        index.apply_workload(&web, self.workload.clone(), now);
        for name in ["gone", "settings", "needed"] {
            let presence = match self.stub.get("configmaps", "shop", name) {
                None => Presence::Absent,
                Some(object) => {
                    let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
                    let (uid, resource_version) = (text("uid"), text("resourceVersion"));
                    Presence::Version(ConfigVersion::new(uid, resource_version).into())
                }
            };
            index.apply_object(&ConfigRef::configmap("shop", name), &presence, now);
        }
        index.snapshot(&web).unwrap()
    }

    async fn evaluate(&self, context: Context, source: &impl Source) -> Evaluation {
        let first_seen = FirstSeen::new();
        let Target { hash, observed } = &self.target;
        let input = Input {
            mode: HashMode::Content,
            key: &self.key,
            namespace: "shop",
            references: &self.workload.references,
            uses: &self.workload.template.uses,
            baseline: Baseline { hash: hash.as_deref(), observed: observed.as_deref() },
            first_seen: &first_seen,
            tolerates_unknown: false,
            context,
            moves_hash: true,
        };
        evaluate(&input, source, Tolerance::None).await
    }
}

#[tokio::test(start_paused = true)]
async fn c4_3_webhook_and_reconciler_put_the_same_into_the_decision() {
    for is_needed_there in [true, false] {
        for context in [Context::Rollout, Context::Steady] {
            let shop = Shop::created().await;
            shop.stub.delete("configmaps", "shop", "gone");
            shop.stub.put(objects::config_map("shop", "settings", &[("key", "another")]));
            if !is_needed_there {
                shop.stub.delete("configmaps", "shop", "needed");
            }
            let snapshot = shop.snapshot();
            let reads = LiveReads::new(shop.reader.clone());
            let (reader, snapshot) = (&*shop.reader, &snapshot);
            let shared = Shared { reads: &reads, reader, snapshot, not_before: Instant::now() };
            let of_webhook = shop.evaluate(context, &shop.live()).await;
            let of_reconciler = shop.evaluate(context, &shared).await;
            let from_memory = shop.evaluate(context, &Memory { reader, snapshot }).await;

            let case = format!("{context:?}, needed is there: {is_needed_there}");
            let needed = &of_webhook.reads.lookups[&ConfigRef::configmap("shop", "needed")];
            assert_eq!(*needed == Lookup::Absent, !is_needed_there, "{case}: {needed:?}");
            let is_deferred = matches!(of_webhook.decision.verdict, Verdict::Defer { .. });
            assert_eq!(is_deferred, context == Context::Steady && !is_needed_there, "{case}");
            for other in [of_reconciler, from_memory] {
                assert_eq!(other.reads, of_webhook.reads, "{case}");
                assert_eq!(other.decision, of_webhook.decision, "{case}");
            }
        }
    }
}
