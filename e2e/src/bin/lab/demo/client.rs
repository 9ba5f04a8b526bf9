//! What a client of the application sees, where there is a node: its pods, and what they answer.

use anyhow::ensure;
use pod_reloader_e2e::{SeenPod, Space, eventually};
use serde_json::Value;

use super::{
    environment::{DEADLINE, Environment},
    output::Output,
};

/// Compares the pods of the demo's Deployment from step to step.
pub(super) struct Client<'a> {
    space: &'a Space,
    pods: Vec<SeenPod>,
}

impl<'a> Client<'a> {
    /// Begins when the application runs. `None` without a node, where no pods run.
    pub(super) async fn start(
        environment: &'a Environment,
        output: &mut Output,
    ) -> anyhow::Result<Option<Self>> {
        if !environment.has_node() {
            return Ok(None);
        }
        let space = &environment.space;
        let mut client = Self { space, pods: vec![] };
        client.sees(output, "first password", "first setting").await?;
        space.kubectl(&["apply", "-f", "../../../docs/examples/load.yaml"]).await?;
        space.kubectl(&["rollout", "status", "deployment/load", "--timeout=120s"]).await?;
        Output::note("From now on a client sends requests to the Service all the time.");
        Ok(Some(client))
    }

    /// All pods were replaced, by some that were started with this configuration, and no request has failed.
    pub(super) async fn sees(
        &mut self,
        output: &mut Output,
        password: &str,
        setting: &str,
    ) -> anyhow::Result<()> {
        self.space.kubectl(&["rollout", "status", "deployment/my-deployment", "--timeout=120s"]).await?;
        // A Service is heard of a moment after its pods.
        let answer = eventually("the Service to answer", DEADLINE, || self.get("app")).await?;
        Output::note(&format!("a client of the application sees: {}", answer["at_start"]));
        let env = &answer["at_start"]["env"];
        let pods = self.space.pods("my-app").await?;
        let replaced = pods.len() == 3 && pods.iter().all(|pod| !self.pods.contains(pod));
        output.expect(
            replaced && env["KEY_FROM_SECRET"] == password && env["KEY_FROM_CONFIGMAP"] == setting,
            &format!("three pods were started with \"{password}\" and \"{setting}\""),
            &format!("three new pods should see {password} and {setting}: {pods:?} answer {answer}"),
        );
        if !self.pods.is_empty() {
            self.nothing_failed(output).await?;
        }
        self.pods = pods;
        Ok(())
    }

    /// The pods are those that ran before, and were not restarted.
    pub(super) async fn sees_nothing(&self, output: &mut Output) -> anyhow::Result<()> {
        let pods = self.space.pods("my-app").await?;
        output.expect(
            pods == self.pods,
            "the same three pods run on",
            &format!("the pods should run on, but {:?} became {pods:?}", self.pods),
        );
        Ok(())
    }

    async fn nothing_failed(&self, output: &mut Output) -> anyhow::Result<()> {
        let counts = self.get("load").await?;
        output.expect(
            counts["failed"] == 0 && counts["requests"].as_u64() > Some(0),
            &format!("{} requests were answered meanwhile, none failed", counts["requests"]),
            &format!("no request should have failed: {counts}"),
        );
        Ok(())
    }

    async fn get(&self, service: &str) -> anyhow::Result<Value> {
        let answer = self.space.get_from_service(service, "/").await?;
        ensure!(answer.is_object(), "{answer}");
        Ok(answer)
    }
}
