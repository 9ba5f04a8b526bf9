//! What happens in a history.

mod edits;

use std::fmt::Write;
use std::time::Duration;

use pod_reloader_core::digest::DigestKey;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_stub_api::{Fault, FaultRule, Random, RequestKind, StubApi};
use tokio::time::sleep;

use super::shop::{NAMESPACES, OBJECTS, WORKLOADS, Wish};
use crate::support::replica::{Options, Replica};
use crate::support::server;
use crate::support::webhook::Webhook;

/// How rough it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Nothing goes wrong.
    Calm,
    /// Watches lag.
    Lagging,
    /// Faults, restarts, connections that hang.
    Rough,
    /// The same with two replicas.
    Replicas,
}

impl Level {
    pub(super) fn of(seed: u64) -> Self {
        match seed % 10 {
            0..=3 => Self::Calm,
            4..=5 => Self::Lagging,
            6..=8 => Self::Rough,
            _ => Self::Replicas,
        }
    }

    pub(super) fn is_rough(self) -> bool {
        matches!(self, Self::Rough | Self::Replicas)
    }
}

pub(super) struct Play {
    pub(super) stub: StubApi,
    pub(super) level: Level,
    random: Random,
    key: KeyReader,
    replicas: [Option<Replica>; 2],
    wishes: Vec<Vec<Option<Wish>>>,
    serial: u64,
    /// What was done, and when.
    notes: Vec<(Duration, String)>,
}

impl Play {
    pub(super) fn new(seed: u64, level: Level) -> Self {
        let stub = server(seed);
        let mut random = Random::new(seed);
        stub.set_watch_list(random.chance(0.7));
        let key = KeyReader::fixed(DigestKey::new("test", &[7; DigestKey::LEN]).unwrap());
        Webhook::new(&stub, "webhook", key.clone()).install(&stub);
        Self {
            level,
            random,
            key,
            replicas: [None, None],
            wishes: vec![vec![None; WORKLOADS.len()]; NAMESPACES.len()],
            serial: 0,
            notes: vec![],
            stub,
        }
    }

    fn note(&mut self, what: String) {
        self.notes.push((self.stub.elapsed(), what));
    }

    /// What was done and what came of it, in order.
    pub(super) fn transcript(&self) -> String {
        let mut lines = self.notes.clone();
        for write in self.stub.writes() {
            let what = match write.resource {
                "configmaps" | "secrets" | "deployments" => {
                    let meta = &write.object["metadata"];
                    let hash = &write.object["spec"]["template"]["metadata"]["annotations"];
                    let hash = hash[crate::support::webhook::HASH].as_str().map(|hash| &hash[..6]);
                    format!(
                        "  #{} {} {}/{} {} by {} {} {}",
                        write.version,
                        write.resource,
                        meta["namespace"].as_str().unwrap_or_default(),
                        meta["name"].as_str().unwrap_or_default(),
                        if write.is_deletion {
                            "deleted".to_owned()
                        } else {
                            write.object["data"].to_string()
                        },
                        write.author.manager,
                        hash.unwrap_or_default(),
                        if write.resource == "deployments" {
                            format!(
                                "{} {}",
                                meta["annotations"],
                                write.object["spec"]["template"]["spec"]["containers"][0]["envFrom"]
                            )
                        } else {
                            String::new()
                        },
                    )
                }
                _ => continue,
            };
            lines.push((write.at, what));
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.iter().fold(String::new(), |mut text, (at, what)| {
            let _ = writeln!(text, "{:>9.3} {what}", at.as_secs_f64());
            text
        })
    }

    pub(super) async fn run(&mut self) {
        for namespace in 0..NAMESPACES.len() {
            for object in 0..OBJECTS.len() {
                if self.random.chance(0.6) {
                    self.put(namespace, object);
                }
            }
            for workload in 0..WORKLOADS.len() {
                if self.random.chance(0.6) {
                    self.create(namespace, workload).await;
                }
            }
        }
        self.start_replicas();
        sleep(Duration::from_secs(5)).await;
        if self.level == Level::Lagging {
            let lag = Duration::from_millis(self.random.below(3_000));
            self.note(format!("watches lag {lag:?}"));
            self.stub.set_watch_lag(lag);
        }
        for _ in 0..10 + self.random.below(40) {
            self.event().await;
            let pause = match self.random.below(4) {
                0 => 200 + self.random.below(300),
                1 => self.random.below(1_500) + 200,
                2 => self.random.below(5_000) + 200,
                _ => self.random.below(500) + 200,
            };
            sleep(Duration::from_millis(pause)).await;
        }
        self.recover().await;
    }

    async fn recover(&mut self) {
        self.note("no more faults from here on".into());
        self.stub.heal_all();
        self.stub.set_watch_lag(Duration::ZERO);
        self.start_replicas();
        let pause = Duration::from_secs(if self.level.is_rough() { 180 } else { 20 });
        sleep(pause).await;
        // What is required is there in the end.
        for namespace in 0..NAMESPACES.len() {
            for object in 0..OBJECTS.len() {
                if self.content(namespace, object).is_none() {
                    self.put(namespace, object);
                }
            }
        }
        sleep(Duration::from_secs(30)).await;
    }

    fn start_replicas(&mut self) {
        let key = Some(self.key.clone());
        if self.level == Level::Replicas {
            for (i, name) in ["replica", "second"].into_iter().enumerate() {
                if self.replicas[i].is_none() {
                    let options = Options { fixed_key: key.clone(), ..Options::electing(name) };
                    self.replicas[i] = Some(Replica::start(&self.stub, options));
                }
            }
        } else if self.replicas[0].is_none() {
            let options = Options { fixed_key: key, ..Options::new("replica") };
            self.replicas[0] = Some(Replica::start(&self.stub, options));
        }
    }

    fn any(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).unwrap()
    }

    async fn event(&mut self) {
        let (namespace, object) = (self.any(NAMESPACES.len()), self.any(OBJECTS.len()));
        let workload = self.any(WORKLOADS.len());
        let gap = Duration::from_millis(200 + self.random.below(2_500));
        match self.random.below(if self.level.is_rough() { 26 } else { 20 }) {
            0..=4 => self.put(namespace, object),
            5..=6 => {
                self.put(namespace, object);
                sleep(gap / 2).await;
                self.put(namespace, object);
            }
            7..=8 => self.change_back(namespace, object, gap).await,
            9 => self.rewrite(namespace, object),
            10..=12 => {
                let (_, plural, name) = OBJECTS[object];
                self.stub.delete(plural, NAMESPACES[namespace], name);
            }
            13..=14 => self.edit_template(namespace, workload).await,
            15 => self.edit(namespace, workload, "lists", Wish::list_anew).await,
            16 => self.opt(namespace, workload).await,
            17 => self.undo(namespace, workload).await,
            18 => {
                // Helm: first the configuration, then the workload.
                self.put(namespace, object);
                self.edit_template(namespace, workload).await;
            }
            19 => self.create_or_delete(namespace, workload).await,
            20..=21 => self.restart().await,
            22..=24 => self.fail(),
            _ if self.random.chance(0.5) => {
                self.note("connections hang".into());
                self.stub.hang_open_connections();
            }
            _ => {
                self.note("the server restarts and forgets".into());
                self.stub.compact();
                self.stub.restart();
            }
        }
    }

    async fn restart(&mut self) {
        let chosen = self.any(2);
        let Some(replica) = self.replicas[chosen].take() else { return self.start_replicas() };
        if self.random.chance(0.5) {
            self.note(format!("replica {chosen} is killed"));
        } else {
            self.note(format!("replica {chosen} is stopped"));
            replica.stop().await;
        }
        if self.random.chance(0.7) {
            sleep(Duration::from_millis(self.random.below(3_000))).await;
            self.note("replicas start".into());
            self.start_replicas();
        }
    }

    fn fail(&mut self) {
        let fault = Fault::ALL[self.any(Fault::ALL.len())];
        let kind = RequestKind::ALL[self.any(RequestKind::ALL.len())];
        let client = ["replica", "second", "webhook", "replica"][self.any(4)];
        let probability = [0.1, 0.5, 1.0][self.any(3)];
        let until = self.stub.elapsed() + Duration::from_millis(self.random.below(15_000));
        self.note(format!("{fault:?} of {kind:?} by {client}, {probability}, until {until:?}"));
        let rule = FaultRule::new(fault).kind(kind).client(client).probability(probability).until(until);
        self.stub.fail(rule);
    }
}
