//! The decision table of section 3, as one function.

use crate::admission::Baseline;
use crate::by_version::by_version;
pub use crate::cause::{Cause, Missing};
use crate::compare::Facts;
use crate::config_hash::{ConfigHash, HashMode};
use crate::digest::DigestKey;
pub use crate::lookup::{ConfigVersion, Depth, FirstSeen, Found, KnownDigest, Lookup, Lookups, Query};
use crate::name::ConfigRef;
use crate::observed::{Observed, Record, Records, Seen};
use crate::patch::Target;
use crate::reference::{Origin, References};
use crate::rotation::decide_rotating;
use crate::template::TemplateUses;

/// Why the question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The owner is making a new pod template or another set of references: pods follow in any case, and their
    /// one rollout should carry what is right now (4.3).
    Rollout,
    /// The workload is unchanged; a reload would be the operator's doing.
    Steady,
}

/// All that a decision is made from, but for what is known of the config objects.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// How hashes are made.
    pub mode: HashMode,
    /// The installation's key.
    pub key: &'a DigestKey,
    /// The workload's namespace.
    pub namespace: &'a str,
    /// What the workload refers to.
    pub references: &'a References,
    /// What its pod template names.
    pub uses: &'a TemplateUses,
    /// The annotations that count: the old object's on an UPDATE, none on a CREATE.
    pub baseline: Baseline<'a>,
    /// The versions in which references were seen first since they were recorded as absent, where that is known. Of one
    /// that is there in another version now, pods may have started with what it held before. See
    /// [`Decision::incomplete`] for versions that no pod can have seen.
    pub first_seen: &'a FirstSeen,
    /// Whether to decide without the references that cannot be read: set where they stay so, lest one of them hold
    /// up all others.
    pub tolerates_unknown: bool,
    /// Why the question is asked.
    pub context: Context,
    /// Whether a change moves the hash (9.5). Where it does not, [`Verdict::Act`] takes the place of [`Verdict::Reload`],
    /// but along with the owner's own rollout.
    pub moves_hash: bool,
}

/// A decision, or what it still lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These have to be answered first, if only by [`Lookup::Unknown`]. Never empty.
    Lacks(Vec<Query>),
    /// All is known that matters.
    Decided(Decision),
}

/// What should happen, and what is worth reporting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What should happen to the two annotations.
    pub verdict: Verdict,
    /// References that could not be read, whatever the verdict.
    pub unknown: Vec<ConfigRef>,
    /// Required references that are there, but lack a key that the template requires: no pod can have started with
    /// this version of them.
    pub incomplete: Vec<ConfigRef>,
    /// Observed-config was made with another key (2.5).
    pub key_was_replaced: bool,
}

/// What should happen to config hash and observed-config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These could not be read, so nothing can be decided yet: to be tried again.
    Undecided(Vec<ConfigRef>),
    /// Both stay.
    Keep,
    /// The hash stays; observed-config becomes this, or is removed. No reload.
    Observe(Option<Observed>),
    /// A new hash, and with it this observed-config, or none.
    Reload {
        /// The new value on the pod template.
        hash: ConfigHash,
        /// The new observed-config.
        observed: Option<Observed>,
        /// Why.
        causes: Vec<Cause>,
    },
    /// The hash stays, and something else is done about the change; observed-config becomes this along with it (9.5).
    Act {
        /// The new observed-config.
        observed: Observed,
        /// Why.
        causes: Vec<Cause>,
    },
    /// A reload is due, but a pod started now could not run: the template requires what is not there.
    Defer {
        /// What is missing.
        missing: Vec<Missing>,
        /// Why the reload is due.
        causes: Vec<Cause>,
    },
}

impl Verdict {
    /// What the annotations of a workload in that namespace should become, if these count now.
    pub fn target(&self, namespace: &str, baseline: Baseline<'_>) -> Target {
        let text = |observed: &Option<Observed>| observed.as_ref().map(|it| it.to_annotation(namespace));
        match self {
            Self::Undecided(_) | Self::Keep | Self::Defer { .. } => Target::of(baseline),
            Self::Observe(observed) => Target { observed: text(observed), ..Target::of(baseline) },
            Self::Act { observed, .. } => {
                Target { observed: Some(observed.to_annotation(namespace)), ..Target::of(baseline) }
            }
            Self::Reload { hash, observed, .. } => {
                Target { hash: Some(hash.as_str().to_owned()), observed: text(observed) }
            }
        }
    }

    /// Why a reload happens, or what stands for one; empty for all other verdicts.
    pub fn reload_causes(&self) -> &[Cause] {
        match self {
            Self::Reload { causes, .. } | Self::Act { causes, .. } => causes,
            _ => &[],
        }
    }
}

/// A result, or the queries that have to be answered before there is one.
pub(crate) type OrLacking<T> = Result<T, Vec<Query>>;

impl Input<'_> {
    /// What is recorded, if it belongs to the hash that counts.
    pub(crate) fn valid_observed(&self) -> Option<Observed> {
        Observed::parse(self.baseline.observed?, self.namespace, self.baseline.hash)
    }
}

/// Decides what should happen to the annotations of one workload, from what is known of config objects, or says what
/// else has to be known: of the references first and, where it matters, whether what the template requires is there.
///
/// Applying the verdict and asking again with the same lookups gives [`Verdict::Keep`], or [`Verdict::Defer`] if it
/// is that still.
pub fn decide(input: &Input<'_>, known: &Lookups) -> Answer {
    match decide_rotating(input, known) {
        Ok(decision) => Answer::Decided(decision),
        Err(queries) => Answer::Lacks(queries),
    }
}

/// Decides under one key, whichever came before it.
pub(crate) fn decide_under_one_key(input: &Input<'_>, known: &Lookups) -> OrLacking<Decision> {
    let observed = input.valid_observed();
    // In mode `version` content is read only while there is an observed-config to honour (2.4).
    let needs_content = input.mode == HashMode::Content || observed.is_some();
    let facts = Facts::new(input, known, observed.as_ref(), needs_content)?;
    // What is left of SAP's hash without one of its lines says nothing.
    let tolerates = input.tolerates_unknown && input.mode == HashMode::Content;
    let (verdict, key_was_replaced) = match input.mode {
        _ if !tolerates && !facts.unknown.is_empty() => (facts.undecided(), false),
        HashMode::Content => by_content(input, &facts, observed.as_ref())?,
        HashMode::Version if facts.dropped_all() => {
            (observed.as_ref().map_or(Verdict::Keep, |_| Verdict::Observe(None)), false)
        }
        HashMode::Version => (by_version(input, known, &facts, observed.as_ref()), false),
    };
    let incomplete = facts.incomplete().cloned().collect();
    Ok(Decision { verdict, unknown: facts.unknown.into_iter().collect(), incomplete, key_was_replaced })
}

/// The verdict, and whether observed-config was made with another key.
fn by_content(
    input: &Input<'_>,
    facts: &Facts<'_>,
    observed: Option<&Observed>,
) -> OrLacking<(Verdict, bool)> {
    // Without anything to follow it is as if it had not opted in: a write would be for nothing, and be refused by the
    // chart's policies. A rollout may carry a hash.
    if input.context == Context::Steady && facts.follows_nothing() {
        return Ok((Verdict::Keep, false));
    }
    // Nor where none of it is followed after all; what was recorded then goes.
    if facts.dropped_all() {
        return Ok((observed.map_or(Verdict::Keep, |_| Verdict::Observe(None)), false));
    }
    let hash = input.baseline.hash;
    let Some(observed) = observed else {
        let verdict = match hash {
            // Whatever it stands for: nothing follows from that where changes are not rolled out.
            Some(_) if input.context == Context::Steady && !input.moves_hash && !facts.unknown.is_empty() => {
                adopt_workload(facts, hash)
            }
            Some(hash) => adopt_hash(input, facts, hash)?,
            None if input.context == Context::Steady && opts_in_quietly(input) => adopt_workload(facts, None),
            None => reload(input, facts, facts.records_now(), vec![Cause::NoHash])?,
        };
        return Ok((verdict, false));
    };

    let key_was_replaced = !observed.is_comparable(input.key);
    let (mut records, mut causes) = facts.compare(observed);
    if input.context == Context::Rollout {
        let seen = facts.as_new_pods_see(records)?;
        if causes.is_empty() {
            let proper = ConfigHash::of_content(input.key, input.namespace, &seen);
            match hash {
                None => causes.push(Cause::NoHash),
                // One that was adopted (2.5), or kept while an object appeared, is replaced while it costs nothing.
                Some(hash) if proper != *hash => causes.push(Cause::Adopted),
                Some(_) => {}
            }
        }
        records = seen;
    }
    let verdict = if !causes.is_empty() {
        match reload(input, facts, records.clone(), causes.clone())? {
            // What changes from here on can be seen only if it is recorded under the new key now.
            Verdict::Defer { .. } | Verdict::Undecided(_) if key_was_replaced => {
                observe(facts, hash, with_causes_open(records, observed, &causes))
            }
            verdict => verdict,
        }
    } else if records == observed.records && !key_was_replaced {
        Verdict::Keep
    } else {
        observe(facts, hash, records)
    };
    Ok((verdict, key_was_replaced))
}

/// Whether opting in restarts nothing (section 3): by lists it does, as with SAP, since they ask for a hash.
fn opts_in_quietly(input: &Input<'_>) -> bool {
    !input.moves_hash || input.references.list_nothing()
}

fn observe(facts: &Facts<'_>, hash: Option<&str>, records: Records) -> Verdict {
    Verdict::Observe(Some(facts.observed(hash.map(str::to_owned), records)))
}

/// Records under a new key in which the same causes will be found again. Their references cannot be compared, so
/// whatever they hold counts as other content.
fn with_causes_open(mut records: Records, observed: &Observed, causes: &[Cause]) -> Records {
    for object in causes.iter().filter_map(Cause::reference) {
        match observed.records.get(object) {
            None => drop(records.remove(object)),
            Some(before) => {
                let seen = if before.seen == Seen::Absent { Seen::Absent } else { Seen::Uncompared };
                records.insert(object.clone(), Record { seen, ..before.clone() });
            }
        }
    }
    records
}

/// At first sight of a workload that opts in quietly: what its pods run with is recorded, beside the hash that is there if
/// any, and nothing is restarted (section 3).
fn adopt_workload(facts: &Facts<'_>, hash: Option<&str>) -> Verdict {
    let mut records = facts.records_now();
    // What is followed and cannot be read is recorded once it can be, as silently.
    records.retain(|object, it| it.origin == Origin::Listed || !facts.unknown.contains(object));
    match (records.is_empty(), facts.unknown.is_empty()) {
        (false, _) => observe(facts, hash, records),
        (true, true) => Verdict::Keep,
        (true, false) => facts.undecided(),
    }
}

/// Without a valid observed-config: the hash that is there is kept if it stands for the live content in our form
/// or in SAP's (2.5).
fn adopt_hash(input: &Input<'_>, facts: &Facts<'_>, hash: &str) -> OrLacking<Verdict> {
    if !facts.unknown.is_empty() {
        // What it stands for is unknown, and a reload on suspicion is what taking over must not cause.
        return Ok(facts.undecided());
    }
    let is_ours = |records: &Records| ConfigHash::of_content(input.key, input.namespace, records) == *hash;
    let records = facts.records_now();
    if is_ours(&records) {
        return Ok(observe(facts, Some(hash), records));
    }
    // A hash that was set while a required key was missing stands for the content without that key.
    let contents = facts.contents_now();
    if is_ours(&contents) {
        return Ok(observe(facts, Some(hash), contents));
    }
    // A hash was there before anything was followed: opting in restarts nothing (section 3).
    if input.context == Context::Steady && opts_in_quietly(input) {
        return Ok(observe(facts, Some(hash), records));
    }
    // What is not followed may be part of what the hash stands for: then that is unknown, and turning the following off
    // must not restart anything.
    match (input.context, facts.is_left_behind(hash) || facts.has_unfollowed()) {
        (Context::Steady, true) => Ok(observe(facts, Some(hash), records)),
        (Context::Rollout, true) => reload(input, facts, records, vec![Cause::Adopted]),
        (_, false) => reload(input, facts, records, vec![Cause::Unwatched]),
    }
}

/// What stands for a reload where the hash stays. A list that was edited is no change of configuration.
fn act(input: &Input<'_>, facts: &Facts<'_>, records: Records, causes: Vec<Cause>) -> OrLacking<Verdict> {
    let hash = input.baseline.hash;
    if causes.iter().all(Cause::is_the_owners) {
        return Ok(observe(facts, hash, records));
    }
    let records = facts.as_new_pods_see(records)?;
    Ok(Verdict::Act { observed: facts.observed(hash.map(str::to_owned), records), causes })
}

fn reload(input: &Input<'_>, facts: &Facts<'_>, records: Records, causes: Vec<Cause>) -> OrLacking<Verdict> {
    if input.context == Context::Steady && !causes.iter().all(Cause::is_the_owners) {
        facts.ask_for_key_names()?;
        if !facts.missing.is_empty() {
            return Ok(Verdict::Defer { missing: facts.missing.clone(), causes });
        }
        facts.ask_for_required()?;
        if !facts.unknown_required.is_empty() && !input.tolerates_unknown {
            // It may be missing as well.
            return Ok(Verdict::Undecided(facts.unknown_required.iter().map(|it| (*it).clone()).collect()));
        }
    }
    if input.context == Context::Steady && !input.moves_hash {
        return act(input, facts, records, causes);
    }
    let records = facts.as_new_pods_see(records)?;
    let hash = ConfigHash::other_than(input.baseline.hash, input.key, input.namespace, &records);
    let observed = facts.observed(Some(hash.as_str().to_owned()), records);
    Ok(Verdict::Reload { hash, observed: Some(observed), causes })
}
