//! Compares the config objects as they are with what was recorded: the rows of the table in section 3.

use std::collections::{BTreeMap, BTreeSet};

use crate::cause::{Cause, Missing};
use crate::config_hash::HashMode;
use crate::content::ContentSum;
use crate::decide::{Context, Input, OrLacking, Verdict};
use crate::dialect;
use crate::digest::Digest;
use crate::lacking::lacking;
use crate::lookup::{Depth, Found, Lookup, Lookups, Query};
use crate::name::ConfigRef;
use crate::observed::{Observed, Record, Records, Seen};
use crate::reference::{Keys, Origin, Reference};
use crate::template::Need;

/// What follows from the lookups alone.
pub(crate) struct Facts<'a> {
    input: &'a Input<'a>,
    known: &'a Lookups,
    /// What is recorded, if its digests are made with the key that is decided under.
    recorded: Option<&'a Observed>,
    references: BTreeMap<&'a ConfigRef, &'a Reference>,
    /// References that could not be read.
    pub(crate) unknown: BTreeSet<ConfigRef>,
    /// What the template requires and has not been looked up yet.
    unasked: Vec<&'a ConfigRef>,
    /// References of which the template requires keys, and whose content has not been looked up since it is recorded.
    unnamed: Vec<&'a ConfigRef>,
    /// What the template requires and could not be looked up.
    pub(crate) unknown_required: Vec<&'a ConfigRef>,
    /// What the template requires and is known not to be there.
    pub(crate) missing: Vec<Missing>,
}

/// What is there of one reference.
enum Now {
    /// It has that content, and all keys that the template requires.
    There(Seen),
    /// It lacks a required key: pods can start with it no more than without it.
    Incomplete,
    /// It has none of the keys that count, and pods do without: to them it is as if it were absent.
    Without,
    /// It is not there.
    Absent,
    /// It could not be read.
    Unknown,
    /// It is not followed.
    Unfollowed,
}

/// Whether a followed reference is none after all: its object is marked to be ignored (7.5), or was to be followed for a mark
/// that it does not have (7.4). One that is gone is followed as long as it is recorded, since its mark went with it.
fn is_dropped(reference: &Reference, lookup: Option<&Lookup>, observed: Option<&Observed>) -> bool {
    let Reference { object, origin: Origin::Followed, needs_mark, .. } = reference else { return false };
    match lookup {
        Some(Lookup::Found(found)) => {
            found.version.marks.ignore || (*needs_mark && !found.version.marks.follow)
        }
        Some(Lookup::Absent) => {
            *needs_mark && !observed.is_some_and(|observed| observed.records.contains_key(object))
        }
        _ => false,
    }
}

impl<'a> Facts<'a> {
    /// The facts about all references; the error says which of them have to be asked for.
    pub(crate) fn new(
        input: &'a Input<'a>,
        known: &'a Lookups,
        observed: Option<&'a Observed>,
        needs_content: bool,
    ) -> OrLacking<Self> {
        let recorded = observed.filter(|observed| observed.is_comparable(input.key));
        let mut references = input.references.all();
        if input.mode == HashMode::Version {
            // That hash covers what is listed, as SAP's does.
            references.retain(|_, reference| reference.origin == Origin::Listed);
        }
        references.retain(|object, reference| !is_dropped(reference, known.get(*object), observed));
        let lacking = lacking(input, known, &references, observed.filter(|_| needs_content), needs_content);
        if !lacking.is_empty() {
            return Err(lacking);
        }
        let is_unknown = |object: &&&ConfigRef| known.get(**object) == Some(&Lookup::Unknown);
        let unknown = references.keys().filter(is_unknown).map(|object| (*object).clone()).collect();
        let mut facts = Self {
            input,
            known,
            recorded,
            references,
            unknown,
            unasked: vec![],
            unnamed: vec![],
            unknown_required: vec![],
            missing: vec![],
        };
        for (object, mut keys) in input.uses.required_keys() {
            let missing = |key| Missing { object: object.clone(), key };
            match known.get(object) {
                None => facts.unasked.push(object),
                Some(Lookup::Absent) => facts.missing.push(missing(None)),
                Some(Lookup::Unknown) => facts.unknown_required.push(object),
                Some(Lookup::Found(found)) => {
                    if needs_content && facts.is_unread(object, found) && keys.by_ref().next().is_some() {
                        facts.unnamed.push(object);
                        continue;
                    }
                    let present = found.keys.as_ref();
                    let is_missing = |key: &&str| present.is_some_and(|present| !present.contains(key));
                    facts.missing.extend(keys.filter(is_missing).map(|key| missing(Some(key.to_owned()))));
                }
                // What is not followed is taken to be there: the operator may not read it.
                Some(Lookup::Unfollowed) => {}
            }
        }
        Ok(facts)
    }

    /// Whether nothing is left to follow, though there are references.
    pub(crate) fn dropped_all(&self) -> bool {
        self.references.is_empty() && !self.input.references.objects().is_empty()
    }

    /// Whether what the template requires is there has to be known: beside the references, and all of its keys.
    pub(crate) fn ask_for_required(&self) -> OrLacking<()> {
        self.ask_for_key_names()?;
        if self.unasked.is_empty() {
            return Ok(());
        }
        let query = |object: &&ConfigRef| Query { object: (*object).clone(), depth: Depth::Exists };
        Err(self.unasked.iter().map(query).collect())
    }

    /// Which keys the references have has to be known, where the template requires some.
    pub(crate) fn ask_for_key_names(&self) -> OrLacking<()> {
        let query = |object: &&ConfigRef| {
            let depth = Depth::Content(self.references.get(object)?.keys.clone());
            Some(Query { object: (*object).clone(), depth })
        };
        let queries: Vec<_> = self.unnamed.iter().filter_map(query).collect();
        if queries.is_empty() { Ok(()) } else { Err(queries) }
    }

    /// Whether it is a reference whose content did not have to be looked up.
    fn is_unread(&self, object: &ConfigRef, found: &Found) -> bool {
        let keys = self.references.get(object).map(|reference| &reference.keys);
        keys.is_some_and(|keys| found.digest(self.input.key, keys).is_none())
    }

    /// Nothing can be said without what could not be read.
    pub(crate) fn undecided(&self) -> Verdict {
        Verdict::Undecided(self.unknown.iter().cloned().collect())
    }

    /// The required references that are there, but lack a required key.
    pub(crate) fn incomplete(&self) -> impl Iterator<Item = &ConfigRef> {
        let names: BTreeSet<_> = self
            .missing
            .iter()
            .filter(|missing| missing.key.is_some())
            .map(|missing| &missing.object)
            .collect();
        names.into_iter()
    }

    /// Whether it is there in another version than the one that was seen first.
    pub(crate) fn is_superseded(&self, object: &ConfigRef) -> bool {
        match (self.input.first_seen.get(object), self.known.get(object)) {
            (Some(first), Some(Lookup::Found(found))) => *first != found.version,
            _ => false,
        }
    }

    fn is_incomplete(&self, object: &ConfigRef) -> bool {
        // They are in the order of their names.
        self.missing
            .binary_search_by(|missing| missing.object.cmp(object))
            .is_ok_and(|found| self.missing[found].key.is_some())
    }

    fn now(&self, reference: &Reference) -> Now {
        match self.known.get(&reference.object) {
            Some(Lookup::Found(_)) if self.is_incomplete(&reference.object) => Now::Incomplete,
            Some(Lookup::Found(_)) => match self.seen(reference) {
                Seen::Digest(digest) if self.is_without(reference, digest) => Now::Without,
                seen => Now::There(seen),
            },
            Some(Lookup::Absent) => Now::Absent,
            Some(Lookup::Unfollowed) => Now::Unfollowed,
            Some(Lookup::Unknown) | None => Now::Unknown,
        }
    }

    /// Whether that is the digest of an object that has none of the keys that count, and pods start all the same.
    fn is_without(&self, reference: &Reference, digest: Digest) -> bool {
        let Reference { object, keys, need, .. } = reference;
        *need == Some(Need::Optional)
            && ContentSum::of_none(keys)
                .is_some_and(|none| digest == Digest::of(self.input.key, object, &none))
    }

    fn digest(&self, object: &ConfigRef, keys: &Keys) -> Option<Digest> {
        match self.known.get(object) {
            Some(Lookup::Found(found)) => found.digest(self.input.key, keys).or_else(|| {
                self.recorded.and_then(|it| it.proven(self.input.key, object, keys, &found.version))
            }),
            _ => None,
        }
    }

    fn seen(&self, reference: &Reference) -> Seen {
        self.digest(&reference.object, &reference.keys).map_or(Seen::Uncompared, Seen::Digest)
    }

    /// Whether that is the hash that a dialect's tool would have set for what is there now (2.4).
    pub(crate) fn is_left_behind(&self, hash: &str) -> bool {
        let Input { namespace, references, .. } = self.input;
        dialect::ALL.iter().any(|dialect| dialect.left_behind(hash, namespace, references, self.known))
    }

    fn is_unfollowed(&self, object: &ConfigRef) -> bool {
        self.known.get(object) == Some(&Lookup::Unfollowed)
    }

    /// Whether some references are not followed.
    pub(crate) fn has_unfollowed(&self) -> bool {
        self.references.keys().any(|object| self.is_unfollowed(object))
    }

    /// Whether there are references, and none of them is followed.
    pub(crate) fn follows_nothing(&self) -> bool {
        self.has_unfollowed() && self.references.keys().all(|object| self.is_unfollowed(object))
    }

    /// These records as observed-config is to say them, under the key that is decided under.
    pub(crate) fn observed(&self, hash: Option<String>, records: Records) -> Observed {
        Observed::witnessed(self.input.key, hash, records, self.known, self.recorded)
    }

    /// The records of references that nothing was recorded of.
    pub(crate) fn records_now(&self) -> Records {
        self.references
            .iter()
            .map(|(object, reference)| ((*object).clone(), self.record_now(reference)))
            .collect()
    }

    fn record_now(&self, reference: &Reference) -> Record {
        let seen = match self.now(reference) {
            Now::There(seen) => seen,
            // No pod can have started with it.
            Now::Incomplete | Now::Without | Now::Absent => Seen::Absent,
            Now::Unknown => Seen::Uncompared,
            Now::Unfollowed => Seen::Unfollowed,
        };
        Record { seen, keys: reference.keys.clone(), origin: reference.origin }
    }

    /// The same, with the digests of those, too, that lack a required key.
    pub(crate) fn contents_now(&self) -> Records {
        let mut records = self.records_now();
        for (object, record) in &mut records {
            if let (Some(Lookup::Found(_)), Some(reference)) =
                (self.known.get(object), self.references.get(object))
            {
                record.seen = self.seen(reference);
            }
        }
        records
    }

    /// Compares what is there now with what was recorded. Returns the new records, and why a reload is due.
    pub(crate) fn compare(&self, observed: &Observed) -> (Records, Vec<Cause>) {
        let is_comparable = observed.is_comparable(self.input.key);
        let mut causes = vec![];
        let mut records = Records::new();
        for (&object, reference) in &self.references {
            let (record, cause) = match observed.records.get(object) {
                Some(before) => self.compare_one(reference, before, is_comparable),
                // Nobody asked for a reload, so it is recorded once it can be read. A rollout records that it could not.
                None if self.input.context == Context::Steady
                    && reference.origin == Origin::Followed
                    && self.unknown.contains(object) =>
                {
                    continue;
                }
                None => self.new_one(reference),
            };
            records.insert(object.clone(), record);
            causes.extend(cause);
        }
        // What is no longer followed for any other reason than a list is dropped silently.
        let is_unlisted = |(object, record): &(&ConfigRef, &Record)| {
            !records.contains_key(*object)
                && record.seen != Seen::Unfollowed
                && record.origin == Origin::Listed
        };
        let unlisted = observed.records.iter().filter(is_unlisted);
        causes.extend(unlisted.map(|(object, _)| Cause::Unlisted(object.clone())));
        (records, causes)
    }

    fn new_one(&self, reference: &Reference) -> (Record, Option<Cause>) {
        let record = self.record_now(reference);
        // The hash does not cover what is not followed: listing it changes nothing.
        let is_cause = record.seen != Seen::Unfollowed && reference.origin == Origin::Listed;
        (record, is_cause.then(|| Cause::Listed(reference.object.clone())))
    }

    fn compare_one(
        &self,
        reference: &Reference,
        before: &Record,
        is_comparable: bool,
    ) -> (Record, Option<Cause>) {
        let object = &reference.object;
        let now = self.now(reference);
        // A digest under another key cannot be compared.
        let kept = match (before.seen, &now) {
            (Seen::Absent | Seen::Unfollowed, _) => before.seen,
            _ if is_comparable => before.seen,
            // It cannot be compared now, nor later while it is not followed.
            (_, Now::Unfollowed) => Seen::Unfollowed,
            _ => Seen::Uncompared,
        };
        let (seen, cause) = match (before.seen, now) {
            (Seen::Digest(digest), Now::There(now)) => {
                let is_same = !is_comparable || self.digest(object, &before.keys) == Some(digest);
                (now, (!is_same).then(|| Cause::Changed(object.clone())))
            }
            (Seen::Uncompared, Now::There(now)) => (now, Some(Cause::Changed(object.clone()))),
            (Seen::Absent, Now::There(now)) => (now, self.appearance(reference)),
            // It is followed again: what pods saw is not known, and turning that on restarts nothing.
            (Seen::Unfollowed, Now::There(now)) => (now, None),
            (Seen::Unfollowed, Now::Absent | Now::Incomplete | Now::Without)
            | (Seen::Absent, Now::Without) => (Seen::Absent, None),

            (Seen::Digest(_) | Seen::Uncompared, Now::Without) => {
                // Unless it had none of the keys that counted before, either.
                let was_without = matches!(before.seen, Seen::Digest(digest)
                    if is_comparable && self.digest(object, &before.keys) == Some(digest));
                (Seen::Absent, (!was_without).then(|| Cause::Changed(object.clone())))
            }

            (Seen::Digest(_) | Seen::Uncompared, Now::Absent) if reference.need == Some(Need::Optional) => {
                // New pods run without it, so should the old.
                (Seen::Absent, Some(Cause::Disappeared(object.clone())))
            }
            // Running pods are left alone, and what they saw is remembered; no pod can have started since. What
            // could not be asked for, or is not followed, may be anything.
            (_, Now::Absent | Now::Incomplete | Now::Unknown | Now::Unfollowed) => {
                // A digest goes on covering the keys that it was made over.
                let record = Record { seen: kept, keys: before.keys.clone(), origin: reference.origin };
                return (record, None);
            }
        };
        (Record { seen, keys: reference.keys.clone(), origin: reference.origin }, cause)
    }

    /// What it means that an object is there which was recorded as absent.
    fn appearance(&self, reference: &Reference) -> Option<Cause> {
        let object = &reference.object;
        match reference.need {
            // Pods may have started with what it held before.
            Some(Need::Required) if self.is_superseded(object) => Some(Cause::Changed(object.clone())),
            // No pod can have started without it.
            Some(Need::Required) => None,
            Some(Need::Optional) | None => Some(Cause::Appeared(object.clone())),
        }
    }

    /// What the pods of a rollout see: they start without an absent object that nothing requires, so its digest is no
    /// longer what running pods saw. While they have to wait for something that the template requires, the digests
    /// are kept, so that a rollout that is undone meanwhile finds the earlier revision and what its pods saw. Whether
    /// they have to wait for what could not be asked for is not known; then one reload too many is the lesser harm.
    pub(crate) fn as_new_pods_see(&self, mut records: Records) -> OrLacking<Records> {
        if !self.missing.is_empty() {
            return Ok(records);
        }
        for (object, record) in &mut records {
            let seen = match self.known.get(object) {
                Some(Lookup::Absent) => Seen::Absent,
                // They start with whatever it holds, which is not read.
                Some(Lookup::Unfollowed) => Seen::Unfollowed,
                _ => continue,
            };
            if record.seen != seen {
                self.ask_for_required()?;
                record.seen = seen;
            }
        }
        Ok(records)
    }
}
