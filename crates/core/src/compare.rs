//! What is there now, held against what was recorded: the rows of the table in section 3.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::{Cause, Lookup, Missing, Question};
use crate::observed::{Observed, Record};
use crate::reference::ConfigName;
use crate::template::Need;

pub(crate) type Records = BTreeMap<ConfigName, Record>;

/// What follows from the lookups alone.
pub(crate) struct Facts<'a> {
    question: &'a Question<'a>,
    /// References that could not be read.
    pub(crate) unknown: BTreeSet<ConfigName>,
    /// What the template requires and nobody could ask for.
    pub(crate) unknown_required: Vec<&'a ConfigName>,
    /// What the template requires and is known not to be there.
    pub(crate) missing: Vec<Missing>,
}

/// What is there of one reference.
enum Now {
    /// It has that content, and all keys that the template requires.
    There(Record),
    /// It lacks a required key: pods can start with it no more than without it.
    Incomplete,
    /// It is not there.
    Absent,
    /// It could not be read.
    Unknown,
    /// It is not followed.
    Unfollowed,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(question: &'a Question<'a>, needs_digest: bool) -> Self {
        let is_unknown = |name: &&ConfigName| match question.live.get(*name) {
            None | Some(Lookup::Unknown) => true,
            Some(Lookup::Known(live)) => needs_digest && live.digest.is_none(),
            Some(Lookup::Absent | Lookup::Unfollowed) => false,
        };
        let unknown = question.references.names().into_iter().filter(is_unknown).cloned().collect();
        let mut facts = Self { question, unknown, unknown_required: vec![], missing: vec![] };
        for (name, keys) in question.uses.required_keys() {
            let missing = |key| Missing { object: name.clone(), key };
            match question.live.get(name) {
                Some(Lookup::Absent) => facts.missing.push(missing(None)),
                Some(Lookup::Unknown) => facts.unknown_required.push(name),
                Some(Lookup::Known(live)) => {
                    let present = live.keys.as_ref();
                    let is_missing = |key: &&str| present.is_some_and(|present| !present.contains(key));
                    facts.missing.extend(keys.filter(is_missing).map(|key| missing(Some(key.to_owned()))));
                }
                // What is not followed is taken to be there: nobody may ask for it.
                Some(Lookup::Unfollowed) | None => {}
            }
        }
        facts
    }

    /// The required references that are there, but lack a required key.
    pub(crate) fn incomplete(&self) -> impl Iterator<Item = &ConfigName> {
        let names: BTreeSet<_> = self
            .missing
            .iter()
            .filter(|missing| missing.key.is_some())
            .map(|missing| &missing.object)
            .collect();
        names.into_iter()
    }

    pub(crate) fn is_superseded(&self, name: &ConfigName) -> bool {
        self.question.superseded.contains(name)
    }

    fn is_incomplete(&self, name: &ConfigName) -> bool {
        // They are in the order of their names.
        self.missing
            .binary_search_by(|missing| missing.object.cmp(name))
            .is_ok_and(|found| self.missing[found].key.is_some())
    }

    fn now(&self, name: &ConfigName) -> Now {
        if self.unknown.contains(name) {
            return Now::Unknown;
        }
        match self.question.live.get(name) {
            Some(Lookup::Known(_)) if self.is_incomplete(name) => Now::Incomplete,
            Some(Lookup::Known(live)) => Now::There(live.digest.map_or(Record::Uncompared, Record::Digest)),
            Some(Lookup::Absent) => Now::Absent,
            Some(Lookup::Unfollowed) => Now::Unfollowed,
            Some(Lookup::Unknown) | None => Now::Unknown,
        }
    }

    /// Whether some references are not followed.
    pub(crate) fn has_unfollowed(&self) -> bool {
        self.question.references.names().into_iter().any(|name| matches!(self.now(name), Now::Unfollowed))
    }

    /// Whether there are references, and none of them is followed.
    pub(crate) fn follows_nothing(&self) -> bool {
        self.has_unfollowed()
            && self
                .question
                .references
                .names()
                .into_iter()
                .all(|name| matches!(self.now(name), Now::Unfollowed))
    }

    /// The records of references that nothing was recorded of.
    pub(crate) fn records_now(&self) -> Records {
        let names = self.question.references.names().into_iter();
        names.map(|name| (name.clone(), self.record_now(name))).collect()
    }

    fn record_now(&self, name: &ConfigName) -> Record {
        match self.now(name) {
            Now::There(record) => record,
            // No pod can have started with it.
            Now::Incomplete | Now::Absent => Record::Absent,
            Now::Unknown => Record::Uncompared,
            Now::Unfollowed => Record::Unfollowed,
        }
    }

    /// The same, with the digests of those, too, that lack a required key.
    pub(crate) fn contents_now(&self) -> Records {
        let mut records = self.records_now();
        for (name, record) in &mut records {
            if let Some(Lookup::Known(live)) = self.question.live.get(name) {
                *record = live.digest.map_or(Record::Uncompared, Record::Digest);
            }
        }
        records
    }

    /// Holds what is there now against what was recorded: the new records, and why a reload is due.
    pub(crate) fn compare(&self, observed: &Observed) -> (Records, Vec<Cause>) {
        let is_comparable = observed.is_comparable(self.question.key);
        let mut causes = vec![];
        let mut records = BTreeMap::new();
        for name in self.question.references.names() {
            let need = self.question.uses.need(name);
            let Some(&before) = observed.records.get(name) else {
                let record = self.record_now(name);
                // The hash does not cover what is not followed: listing it changes nothing.
                if record != Record::Unfollowed {
                    causes.push(Cause::Listed(name.clone()));
                }
                records.insert(name.clone(), record);
                continue;
            };
            // Under another key a digest says nothing any more.
            let now = self.now(name);
            let kept = match (before, &now) {
                (Record::Absent | Record::Unfollowed, _) => before,
                _ if is_comparable => before,
                // It cannot be compared, and nobody is going to.
                (_, Now::Unfollowed) => Record::Unfollowed,
                _ => Record::Uncompared,
            };
            let (record, cause) = match (before, now) {
                (Record::Digest(before), Now::There(now)) => {
                    let is_same = !is_comparable || Record::Digest(before) == now;
                    (now, (!is_same).then(|| Cause::Changed(name.clone())))
                }
                (Record::Uncompared, Now::There(now)) => (now, Some(Cause::Changed(name.clone()))),
                (Record::Absent, Now::There(now)) => (now, self.appearance(name, need)),
                // It is followed again: what pods saw is not known, and turning that on restarts nothing.
                (Record::Unfollowed, Now::There(now)) => (now, None),
                (Record::Unfollowed, Now::Absent | Now::Incomplete) => (Record::Absent, None),

                (Record::Digest(_) | Record::Uncompared, Now::Absent) if need == Some(Need::Optional) => {
                    // New pods run without it, so should the old.
                    (Record::Absent, Some(Cause::Disappeared(name.clone())))
                }
                // Running pods are left alone, and what they saw is remembered; no pod can have started since. What
                // could not be asked for, or is not followed, may be anything.
                (_, Now::Absent | Now::Incomplete | Now::Unknown | Now::Unfollowed) => (kept, None),
            };
            records.insert(name.clone(), record);
            causes.extend(cause);
        }
        let is_unlisted = |(name, record): &(&ConfigName, &Record)| {
            !records.contains_key(*name) && **record != Record::Unfollowed
        };
        let unlisted = observed.records.iter().filter(is_unlisted);
        causes.extend(unlisted.map(|(name, _)| Cause::Unlisted(name.clone())));
        (records, causes)
    }

    /// What it means that an object is there which was recorded as absent.
    fn appearance(&self, name: &ConfigName, need: Option<Need>) -> Option<Cause> {
        match need {
            // Pods may have started with what it held before.
            Some(Need::Required) if self.is_superseded(name) => Some(Cause::Changed(name.clone())),
            // No pod can have started without it.
            Some(Need::Required) => None,
            Some(Need::Optional) | None => Some(Cause::Appeared(name.clone())),
        }
    }

    /// What the pods of a rollout see: they start without an absent object that nothing requires, so its digest is no
    /// longer what running pods saw. While they have to wait for something that the template requires, the digests
    /// are kept, so that a rollout that is undone meanwhile finds the earlier revision and what its pods saw. Whether
    /// they have to wait for what could not be asked for is not known; then one reload too many is the lesser harm.
    pub(crate) fn as_new_pods_see(&self, mut records: Records) -> Records {
        if self.missing.is_empty() {
            for (name, record) in &mut records {
                match self.question.live.get(name) {
                    Some(Lookup::Absent) => *record = Record::Absent,
                    // They start with whatever it holds, at which nobody looks.
                    Some(Lookup::Unfollowed) => *record = Record::Unfollowed,
                    _ => {}
                }
            }
        }
        records
    }
}
