//! What should happen to a workload: first from memory, which is all that most reconciles need, then from the API server.

use std::collections::BTreeSet;

use pod_reloader_core::decide::{
    Decision, Live, Lookup, Lookups, Occasion, Question, Verdict, needs_content,
};
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::observed::Observed;
use pod_reloader_core::patch::{NoRoom, Target};
use pod_reloader_core::reference::{ConfigName, ConfigRef};
use pod_reloader_core::rotation::decide_rotating;
use pod_reloader_k8s::connect::REQUEST_TIMEOUT;
use pod_reloader_k8s::reader::{Depth, Reads};
use tokio::time::Instant;

use crate::fact::Fact;
use crate::index::{Presence, Snapshot, Version, View};
use crate::reconciler::{Learned, Reconciler};

/// A reference that could not be read in so many attempts no longer holds up what is known of the others.
const TOLERANT_AFTER: u32 = 4;

/// What memory says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromMemory {
    /// All is right, or nothing can be done now.
    Done,
    /// A reload is due, once the references have settled.
    SettleUntil(Instant),
    /// The API server has to be asked.
    Ask,
}

/// A decision from live lookups.
pub(crate) struct Evaluation {
    pub(crate) decision: Decision,
    /// What could not be read, and why.
    pub(crate) unreadable: Vec<(ConfigName, String)>,
    /// Whether that is not going to pass with the next attempts.
    pub(crate) is_lasting: bool,
    /// Listed names that do not exist and that the template does not name either: typos, maybe.
    pub(crate) not_found: Vec<ConfigName>,
}

impl Reconciler {
    /// Evaluates a workload without a request.
    pub(crate) fn evaluate_from_memory(&self, snapshot: &Snapshot) -> FromMemory {
        // Without the key nothing is decided; when it comes, every workload is reconciled again.
        let Some(key) = self.key.get() else { return FromMemory::Done };
        let view = &snapshot.view;
        self.warn_of_lists(view);
        if self.rivals.is_contested(&view.workload_ref.namespace, Instant::now()) {
            return FromMemory::Done;
        }
        let depth = self.depth(view);
        let remembered = self.remembered(&key, snapshot, depth);
        let superseded = superseded(snapshot, &remembered);
        match self.ask(&key, view, &remembered, &superseded, false).verdict {
            // There is no room to record it, and that was told.
            Verdict::Record(observed)
                if record_target(view, observed.as_ref()).0.is_met_by(&view.workload) =>
            {
                FromMemory::Done
            }
            Verdict::Keep if view.workload.trigger.is_none() => {
                self.all_is_right(view);
                FromMemory::Done
            }
            Verdict::Reload { .. } | Verdict::Defer { .. } if Instant::now() < snapshot.settled_at => {
                FromMemory::SettleUntil(snapshot.settled_at)
            }
            // That was found out from live reads, and nothing has changed since.
            Verdict::Defer { missing, causes }
                if self.facts.stands(&view.workload_ref, &Fact::deferred(&missing, &causes)) =>
            {
                FromMemory::Done
            }
            _ => FromMemory::Ask,
        }
    }

    /// Evaluates a workload from what the API server says at `not_before` or later. `failures` is how often this failed
    /// in a row.
    pub(crate) async fn evaluate_live(
        &self,
        key: &DigestKey,
        view: &View,
        snapshot: &Snapshot,
        not_before: Instant,
        failures: u32,
        learned: &mut Vec<Learned>,
    ) -> Evaluation {
        let namespace = &view.workload_ref.namespace;
        let names: Vec<ConfigName> = view.workload.references.names().into_iter().cloned().collect();
        let mut reads = self.live.read_all(key, namespace, names, self.depth(view), not_before).await;
        for (name, lookup) in &reads.lookups {
            let (presence, digest) = match lookup {
                Lookup::Unknown | Lookup::Unfollowed => continue,
                Lookup::Absent => (Presence::Absent, None),
                Lookup::Known(live) => (Presence::Version(version_of(live)), live.digest),
            };
            learned.push(Learned::Read(ConfigRef::new(namespace, name.clone()), presence, digest));
        }
        // What is forbidden, say, will not be readable with the next attempt either.
        let mut tolerant = failures >= TOLERANT_AFTER || reads.only_lasting();
        let superseded = superseded(snapshot, &reads.lookups);
        let mut decision = self.ask(key, view, &reads.lookups, &superseded, tolerant);
        // Only a reload that could have to wait asks for more.
        if matches!(decision.verdict, Verdict::Reload { .. }) {
            // What could not be asked does not count as being there.
            let is_lasting = self.read_required(view, snapshot, &mut reads, learned).await;
            tolerant = failures >= TOLERANT_AFTER || (reads.only_lasting() && is_lasting);
            decision = self.ask(key, view, &reads.lookups, &superseded, tolerant);
        }
        for name in &decision.incomplete {
            if let Some(Lookup::Known(live)) = reads.lookups.get(name) {
                learned
                    .push(Learned::NotStartable(ConfigRef::new(namespace, name.clone()), version_of(live)));
            }
        }
        let is_typo = |(name, lookup): (&ConfigName, &Lookup)| {
            let is_absent = *lookup == Lookup::Absent && view.workload.template.uses.need(name).is_none();
            is_absent.then(|| name.clone())
        };
        let not_found = reads.lookups.iter().filter_map(is_typo).collect();
        Evaluation { decision, unreadable: reads.unreadable, is_lasting: tolerant, not_found }
    }

    /// Adds what is known of objects that the template requires without listing them: what the watches said or, where
    /// they said nothing yet, whether they exist. Returns whether what could not be asked will not be answered with the next
    /// attempt either.
    async fn read_required(
        &self,
        view: &View,
        snapshot: &Snapshot,
        reads: &mut Reads,
        learned: &mut Vec<Learned>,
    ) -> bool {
        let required = view.workload.template.uses.required();
        let unlisted: Vec<_> = required.filter(|name| !reads.lookups.contains_key(*name)).cloned().collect();
        let mut unseen = vec![];
        for name in unlisted {
            let known = snapshot.references.iter().find(|reference| reference.name == name);
            match known.and_then(|reference| reference.presence.as_ref()) {
                Some(Presence::Absent) => drop(reads.lookups.insert(name, Lookup::Absent)),
                Some(Presence::Version(_)) => {}
                None => unseen.push(name),
            }
        }
        if unseen.is_empty() {
            return true;
        }
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let namespace = &view.workload_ref.namespace;
        let found = self.reader.exist_all(namespace, unseen, deadline).await;
        let absent = found.lookups.iter().filter(|(_, lookup)| **lookup == Lookup::Absent);
        learned.extend(
            absent.map(|(name, _)| {
                Learned::Read(ConfigRef::new(namespace, name.clone()), Presence::Absent, None)
            }),
        );
        let is_lasting = found.only_lasting();
        reads.lookups.extend(found.lookups);
        reads.unreadable.extend(found.unreadable);
        is_lasting
    }

    fn ask(
        &self,
        key: &DigestKey,
        view: &View,
        live: &Lookups,
        superseded: &BTreeSet<ConfigName>,
        tolerates_unknown: bool,
    ) -> Decision {
        let question = Question {
            mode: self.mode,
            key,
            namespace: &view.workload_ref.namespace,
            references: &view.workload.references,
            uses: &view.workload.template.uses,
            hash: view.workload.template.config_hash.as_deref(),
            observed: view.workload.observed.as_deref(),
            live,
            superseded,
            tolerates_unknown,
            occasion: Occasion::Standing,
        };
        decide_rotating(&question, |former| {
            self.reader.under(key, former, &view.workload_ref.namespace, live)
        })
    }

    fn depth(&self, view: &View) -> Depth {
        let workload = &view.workload;
        if needs_content(self.mode, workload.template.config_hash.as_deref(), workload.observed.as_deref()) {
            Depth::Content
        } else {
            Depth::Version
        }
    }

    /// What the watches and earlier reads tell, without a request.
    fn remembered(&self, key: &DigestKey, snapshot: &Snapshot, depth: Depth) -> Lookups {
        let namespace = &snapshot.view.workload_ref.namespace;
        let references = snapshot.references.iter();
        references
            .map(|reference| {
                let object = ConfigRef::new(namespace, reference.name.clone());
                let lookup = match (self.reader.withheld(&object), &reference.presence) {
                    (Some(answer), _) => answer.unwrap_or(Lookup::Unknown),
                    (None, None) => Lookup::Unknown,
                    (None, Some(Presence::Absent)) => Lookup::Absent,
                    (None, Some(Presence::Version(version))) => {
                        self.remembered_version(key, &object, version, depth, reference.is_listed)
                    }
                };
                (reference.name.clone(), lookup)
            })
            .collect()
    }

    fn remembered_version(
        &self,
        key: &DigestKey,
        object: &ConfigRef,
        version: &Version,
        depth: Depth,
        is_listed: bool,
    ) -> Lookup {
        let Version { uid, resource_version } = version;
        let content = self.reader.remembered_content(key, object, uid, resource_version);
        if depth == Depth::Content && content.is_none() && is_listed {
            return Lookup::Unknown;
        }
        let (uid, resource_version) = (uid.clone(), resource_version.clone());
        let (digest, keys) = content.map_or((None, None), |(digest, keys)| (Some(digest), keys));
        Lookup::Known(Live { uid, resource_version, digest, keys })
    }
}

/// The references that are there in another version than the one in which they were seen first.
fn superseded(snapshot: &Snapshot, live: &Lookups) -> BTreeSet<ConfigName> {
    let references = snapshot.references.iter();
    let is_superseded =
        references.filter(|reference| match (&reference.first_seen, live.get(&reference.name)) {
            (Some(first), Some(Lookup::Known(live))) => *first != version_of(live),
            _ => false,
        });
    is_superseded.map(|reference| reference.name.clone()).collect()
}

fn version_of(live: &Live) -> Version {
    Version { uid: live.uid.clone(), resource_version: live.resource_version.clone() }
}

/// What recording that would make of the annotations, as far as there is room.
fn record_target(view: &View, observed: Option<&Observed>) -> (Target, Vec<NoRoom>) {
    let hash = view.workload.template.config_hash.clone();
    Target { hash, observed: observed.map(Observed::to_annotation) }.fitted_to(&view.workload)
}
