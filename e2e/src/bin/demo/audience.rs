//! What the users of the application see, where there is a node: its pods, and what they answer.

use anyhow::{Context as _, ensure};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use pod_reloader_e2e::{SeenPod, eventually};
use serde_json::Value;

use crate::{
    narrator::Narrator,
    stage::{DEADLINE, Stage},
};

/// Looks at the pods of the story's Deployment through all of its chapters.
pub(crate) struct Audience {
    client: Client,
    pods: Vec<SeenPod>,
}

impl Audience {
    /// Takes its seat when the application runs. Nobody, where no pods do.
    pub(crate) async fn of(stage: &Stage, narrator: &mut Narrator) -> anyhow::Result<Option<Self>> {
        let Some(bed) = stage.node() else { return Ok(None) };
        let mut audience = Self { client: bed.client().await?, pods: vec![] };
        audience.sees(stage, narrator, "first password", "first setting").await?;
        stage.kubectl.run(["apply", "-f", "../../../docs/examples/hammer.yaml"]).await?;
        stage.kubectl.run(["rollout", "status", "deployment/hammer", "--timeout=120s"]).await?;
        Narrator::note("From now on a client sends requests to the Service all the time.");
        Ok(Some(audience))
    }

    /// All pods were replaced, by some that were started with this configuration, and no request has failed.
    pub(crate) async fn sees(
        &mut self,
        stage: &Stage,
        narrator: &mut Narrator,
        password: &str,
        setting: &str,
    ) -> anyhow::Result<()> {
        stage.kubectl.run(["rollout", "status", "deployment/my-deployment", "--timeout=120s"]).await?;
        // A Service is heard of a moment after its pods.
        let answer = eventually("the Service to answer", DEADLINE, || self.get("app")).await?;
        Narrator::note(&format!("a client of the application sees: {}", answer["at_start"]));
        let env = &answer["at_start"]["env"];
        let pods = self.look().await?;
        let replaced = pods.len() == 3 && pods.iter().all(|pod| !self.pods.contains(pod));
        narrator.expect(
            replaced && env["KEY_FROM_SECRET"] == password && env["KEY_FROM_CONFIGMAP"] == setting,
            &format!("three pods were started with \"{password}\" and \"{setting}\""),
            &format!("three new pods should see {password} and {setting}: {pods:?} answer {answer}"),
        );
        if !self.pods.is_empty() {
            self.nothing_failed(narrator).await?;
        }
        self.pods = pods;
        Ok(())
    }

    /// The pods are those that ran before, and were not restarted.
    pub(crate) async fn sees_nothing(&self, narrator: &mut Narrator) -> anyhow::Result<()> {
        let pods = self.look().await?;
        narrator.expect(
            pods == self.pods,
            "the same three pods run on",
            &format!("the pods should run on, but {:?} became {pods:?}", self.pods),
        );
        Ok(())
    }

    async fn nothing_failed(&self, narrator: &mut Narrator) -> anyhow::Result<()> {
        let counts = self.get("hammer").await?;
        narrator.expect(
            counts["failed"] == 0 && counts["requests"].as_u64() > Some(0),
            &format!("{} requests were answered meanwhile, none failed", counts["requests"]),
            &format!("no request should have failed: {counts}"),
        );
        Ok(())
    }

    async fn look(&self) -> anyhow::Result<Vec<SeenPod>> {
        let pods = Api::<Pod>::default_namespaced(self.client.clone());
        let pods = pods.list(&ListParams::default().labels("app=my-app")).await?;
        let staying = pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let mut seen: Vec<_> = staying.map(SeenPod::of).collect();
        seen.sort();
        Ok(seen)
    }

    async fn get(&self, service: &str) -> anyhow::Result<Value> {
        let uri = format!("/api/v1/namespaces/default/services/{service}:80/proxy/");
        let request = Request::get(uri).body(vec![]).context("a bad path")?;
        let answer: Value = self.client.request(request).await?;
        ensure!(answer.is_object(), "{answer}");
        Ok(answer)
    }
}
