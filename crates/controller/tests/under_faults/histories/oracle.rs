//! What running pods saw, from all writes in their order, and what follows from it (section 3).
//!
//! Pods start right after each change of the template, or as soon as all is there that it requires. What no observer
//! could know that was not running then is forgiven; each such case says which.

use std::collections::BTreeMap;
use std::time::Duration;

use pod_reloader_stub_api::{OPERATOR_USER, Write};
use serde_json::Value;

use super::play::{Level, Play};
use super::shop::{OBJECTS, Use, Wish, wish_of};
use crate::support::webhook::hash_of;

type Contents = [Option<Value>; OBJECTS.len()];

/// A content, and from when on it was there.
type Past = [Vec<(Duration, Option<Value>)>; OBJECTS.len()];

/// The pods of a workload's latest revision.
struct Pods {
    seen: Contents,
    started: Duration,
    /// Whether they had to wait for something required.
    had_to_wait: bool,
}

struct Workload {
    wish: Wish,
    template: Value,
    hash: Option<String>,
    revised: Duration,
    /// What was there at that revision.
    at_revision: Contents,
    pods: Option<Pods>,
    /// Whether the owner changed lists or labels since.
    is_edited: bool,
}

impl Workload {
    fn could_start(&self, contents: &Contents) -> bool {
        (0..OBJECTS.len()).all(|o| self.wish.uses[o] != Use::Required || contents[o].is_some())
    }

    fn is_stale(&self, object: usize, now: Option<&Value>) -> bool {
        let seen = self.pods.as_ref().map_or(&self.at_revision, |pods| &pods.seen);
        match now {
            None => self.wish.uses[object] == Use::Optional && seen[object].is_some(),
            now => seen[object].as_ref() != now,
        }
    }
}

struct Oracle {
    level: Level,
    contents: BTreeMap<String, Contents>,
    past: BTreeMap<String, Past>,
    workloads: BTreeMap<(String, String), Workload>,
    broken: Vec<String>,
}

/// All that is wrong with the history.
pub(super) fn judge(play: &Play) -> Vec<String> {
    let mut oracle = Oracle {
        level: play.level,
        contents: BTreeMap::new(),
        past: BTreeMap::new(),
        workloads: BTreeMap::new(),
        broken: vec![],
    };
    for write in play.stub.writes() {
        oracle.see(&write);
    }
    oracle.end();
    oracle.broken
}

impl Oracle {
    /// How long a decision may take to become a patch or to be noticed as outdated.
    fn slack(&self) -> Duration {
        Duration::from_secs(match self.level {
            Level::Calm => 3,
            Level::Lagging => 8,
            Level::Rough | Level::Replicas => 120,
        })
    }

    fn see(&mut self, write: &Write) {
        let meta = &write.object["metadata"];
        let namespace = meta["namespace"].as_str().unwrap_or_default().to_owned();
        match write.resource {
            "deployments" => self.see_workload(namespace, write),
            "configmaps" | "secrets" => self.see_object(&namespace, write),
            _ => return,
        }
        for ((namespace, _), workload) in &mut self.workloads {
            let contents = self.contents.entry(namespace.clone()).or_default();
            if workload.pods.is_none() && workload.could_start(contents) {
                workload.pods = Some(Pods {
                    seen: contents.clone(),
                    started: write.at,
                    had_to_wait: write.at > workload.revised || write.resource != "deployments",
                });
            }
        }
    }

    fn see_object(&mut self, namespace: &str, write: &Write) {
        let name = write.object["metadata"]["name"].as_str().unwrap_or_default();
        let is_it = |(_, plural, of): &(&str, &str, &str)| *plural == write.resource && *of == name;
        let Some(object) = OBJECTS.iter().position(is_it) else { return };
        let content = (!write.is_deletion).then(|| write.object["data"].clone());
        let contents = self.contents.entry(namespace.to_owned()).or_default();
        if contents[object] != content {
            contents[object].clone_from(&content);
            self.past.entry(namespace.to_owned()).or_default()[object].push((write.at, content));
        }
    }

    fn see_workload(&mut self, namespace: String, write: &Write) {
        let name = write.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = (namespace.clone(), name);
        if write.is_deletion {
            self.workloads.remove(&key);
            return;
        }
        let (wish, template) = (wish_of(&write.object), write.object["spec"]["template"].clone());
        let is_ours = write.author.user == OPERATOR_USER;
        let before = self.workloads.get(&key);
        let is_revision = before.is_none_or(|before| before.template != template);
        if let Some(before) = before
            && is_revision
            && is_ours
        {
            self.explain(&key, before, write).unwrap_or_else(|needless| self.broken.push(needless));
        }
        let contents = self.contents.entry(namespace).or_default().clone();
        let is_edited = before.is_some_and(|before| {
            before.is_edited || before.wish.listed != wish.listed || before.wish.is_ignored != wish.is_ignored
        });
        let hash = hash_of(&write.object).map(str::to_owned);
        let workload = match self.workloads.remove(&key) {
            Some(before) if !is_revision => Workload { wish, is_edited, ..before },
            _ => Workload {
                wish,
                template,
                hash,
                revised: write.at,
                at_revision: contents,
                pods: None,
                is_edited: is_edited && !is_revision,
            },
        };
        self.workloads.insert(key, workload);
    }

    /// Whether something of content explains a revision of the reconciler's.
    fn explain(&self, key: &(String, String), before: &Workload, write: &Write) -> Result<(), String> {
        if before.hash.is_none() || before.is_edited {
            return Ok(());
        }
        // Pods that had to wait: what came back with other content than was recorded is reloaded once more than the
        // principle asks (the table says so).
        if before.pods.as_ref().is_none_or(|pods| pods.had_to_wait) {
            return Ok(());
        }
        let nothing = Past::default();
        let past = self.past.get(&key.0).unwrap_or(&nothing);
        let since = write.at.saturating_sub(self.slack());
        for object in (0..OBJECTS.len()).filter(|object| before.wish.listed[*object]) {
            let present = past[object].iter().rposition(|(at, _)| *at <= since).unwrap_or_default();
            let mut contents = past[object].get(present..).unwrap_or_default().iter();
            // What was there when it was decided, or some content that came back: what pods of a rollout saw that had
            // to wait is not known exactly.
            if contents.any(|(_, content)| before.is_stale(object, content.as_ref())) {
                return Ok(());
            }
            // Something appeared in one content and has another now, and the pods may have started with either: a guess.
            let since_revision = past[object].iter().filter(|(at, _)| *at >= before.revised);
            if before.wish.uses[object] == Use::Required && since_revision.count() > 1 {
                return Ok(());
            }
        }
        Err(format!("{key:?}: nothing explains revision #{} at {:?}", write.version, write.at))
    }

    fn end(&mut self) {
        let slack = self.slack();
        for (key, workload) in &self.workloads {
            let Workload { wish, pods, .. } = workload;
            if !wish.is_opted_in || wish.is_ignored {
                continue;
            }
            let Some(pods) = pods else {
                self.broken.push(format!("{key:?}: its pods could not start"));
                continue;
            };
            let contents = &self.contents[&key.0];
            for object in (0..OBJECTS.len()).filter(|object| wish.listed[*object]) {
                let now = contents[object].as_ref();
                let past = &self.past[&key.0][object];
                if workload.is_stale(object, now) && !self.is_forgiven(workload, pods, object, past, slack) {
                    let (_, plural, name) = OBJECTS[object];
                    self.broken.push(format!(
                        "{key:?}: pods of {:?}, started at {:?}, saw {:?} of {plural}/{name}, which is {now:?}",
                        workload.revised, pods.started, pods.seen[object]
                    ));
                }
            }
        }
    }

    /// Whether no replica could know.
    fn is_forgiven(
        &self,
        workload: &Workload,
        pods: &Pods,
        object: usize,
        past: &[(Duration, Option<Value>)],
        slack: Duration,
    ) -> bool {
        let Pods { seen, started, had_to_wait } = pods;
        // Pods that start later than their template was made may miss what it does not name: as with every pod that
        // starts on its own, the record keeps the last digest.
        if *had_to_wait && seen[object].is_none() && workload.wish.uses[object] != Use::Required {
            return true;
        }
        // A change that is taken back within the window, and pods that started in it (3.2).
        let now = past.last().and_then(|(_, content)| content.as_ref());
        let held = |from: Duration, to: Duration| {
            past.iter().enumerate().any(|(i, (at, content))| {
                let end = past.get(i + 1).map_or(Duration::MAX, |(at, _)| *at);
                content.as_ref() == now && *at <= to && end >= from
            })
        };
        let began = if *had_to_wait { workload.revised } else { *started };
        if held(began.saturating_sub(slack), *started) && held(*started, *started + slack) {
            return true;
        }
        // It appeared and changed while no replica ran that could see the first content.
        let was_absent = workload.at_revision[object].is_none();
        self.level.is_rough() && workload.wish.uses[object] == Use::Required && was_absent
    }
}
