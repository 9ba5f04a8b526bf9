use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::FutureExt;
use pod_reloader_core::admission::Baseline;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::content::ContentSummary;
use pod_reloader_core::decide::{Cause, Context, FirstSeen, Verdict};
use pod_reloader_core::dialect::sap;
use pod_reloader_core::digest::Digest;
use pod_reloader_core::lookup::{ConfigVersion, Depth, Found, KnownDigest, Lookup};
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::reference::{Keys, References};
use pod_reloader_core::template::{Need, TemplateUses};

use super::*;
use crate::unreadable::Unreadable;

/// More rounds than any decision takes.
const ENDLESS: usize = 10;

/// What a source says to one question; nothing where it leaves that out.
type Said = Option<Result<Lookup, Unreadable>>;

/// A source that knows some objects, and answers as configured for others.
#[derive(Default)]
struct Stub {
    /// Version and content.
    objects: BTreeMap<ConfigRef, (u32, &'static str)>,
    /// Instead of what is known.
    says: BTreeMap<ConfigRef, Said>,
    /// Whether an object is written between any two reads of it.
    is_written_all_the_time: bool,
    rounds: Mutex<Vec<Vec<Query>>>,
}

impl Stub {
    fn put(&mut self, object: &ConfigRef, content: &'static str) {
        let version = self.objects.get(object).map_or(1, |(version, _)| version + 1);
        self.objects.insert(object.clone(), (version, content));
    }

    fn answer(&self, key: &DigestKey, query: &Query, reads_before: usize) -> Said {
        if let Some(said) = self.says.get(&query.object) {
            return said.clone();
        }
        let Some((version, content)) = self.objects.get(&query.object) else {
            return Some(Ok(Lookup::Absent));
        };
        let written = if self.is_written_all_the_time { reads_before } else { 0 };
        let mut found = Found::version(ConfigVersion::new("u", format!("{version}.{written}")));
        if let Depth::Content(keys) = &query.depth {
            let json = format!(r#"{{"data":{{"k":"{content}","other":"x"}}}}"#);
            let summary = ContentSummary::read(json.as_bytes(), keys).unwrap();
            let digest = Digest::of(key, &query.object, &summary.sum);
            found.digests.push(KnownDigest { key_id: key.shared_id(), keys: keys.clone(), digest });
            found.keys = Some(summary.keys);
        }
        Some(Ok(Lookup::Found(found)))
    }

    /// What was asked for since the last time, round by round.
    fn take_rounds(&self) -> Vec<Vec<Query>> {
        std::mem::take(&mut self.rounds.lock().unwrap())
    }
}

impl Source for Stub {
    async fn look_up(&self, key: &DigestKey, queries: Vec<Query>) -> Reads {
        let mut rounds = self.rounds.lock().unwrap();
        let mut before: Vec<_> = rounds.iter().flatten().map(|query| query.object.clone()).collect();
        let mut reads = Reads::default();
        for query in &queries {
            let reads_before = before.iter().filter(|object| **object == query.object).count();
            before.push(query.object.clone());
            if let Some(answer) = self.answer(key, query, reads_before) {
                reads.add(query.object.clone(), answer);
            }
        }
        rounds.push(queries);
        assert!(rounds.len() < ENDLESS, "it asks for ever: {rounds:?}");
        reads
    }
}

/// A workload, and what its source knows.
struct World {
    key: DigestKey,
    references: References,
    uses: TemplateUses,
    hash: Option<String>,
    observed: Option<String>,
    stub: Stub,
}

fn cm(name: &str) -> ConfigRef {
    ConfigRef::configmap("shop", name)
}

fn content(name: &str) -> Query {
    Query { object: cm(name), depth: Depth::Content(Keys::All) }
}

fn version(name: &str) -> Query {
    Query { object: cm(name), depth: Depth::Version }
}

fn exists(name: &str) -> Query {
    Query { object: cm(name), depth: Depth::Exists }
}

impl World {
    /// A workload that was created when all that it lists and requires was there.
    fn created(listed: &str, required: &[&str]) -> Self {
        let mut world = Self {
            key: DigestKey::new("k1", &[7; DigestKey::LEN]).unwrap(),
            references: sap::references("shop", Some(listed), None),
            uses: TemplateUses::default(),
            hash: None,
            observed: None,
            stub: Stub::default(),
        };
        for name in required {
            world.uses.add(cm(name), Need::Required);
        }
        for name in listed.split(',').chain(required.iter().copied()) {
            world.stub.put(&cm(name), "1");
        }
        let verdict = world.evaluate(Context::Rollout, Tolerance::None).decision.verdict;
        let target = verdict.target("shop", Baseline::default());
        (world.hash, world.observed) = (target.hash, target.observed);
        assert!(world.hash.is_some() && world.observed.is_some());
        world.stub.take_rounds();
        world
    }

    fn evaluate(&self, context: Context, tolerance: Tolerance) -> Evaluation {
        let first_seen = FirstSeen::new();
        let input = Input {
            mode: HashMode::Content,
            key: &self.key,
            namespace: "shop",
            references: &self.references,
            uses: &self.uses,
            baseline: Baseline { hash: self.hash.as_deref(), observed: self.observed.as_deref() },
            first_seen: &first_seen,
            tolerates_unknown: false,
            context,
            moves_hash: true,
        };
        evaluate(&input, &self.stub, tolerance).now_or_never().expect("the stub waits for nothing")
    }
}

fn causes(evaluation: &Evaluation) -> &[Cause] {
    evaluation.decision.verdict.reload_causes()
}

#[test]
fn c4_3_references_are_asked_for_and_then_what_is_required_each_once() {
    let mut world = World::created("a,b", &["needed"]);
    assert_eq!(world.evaluate(Context::Steady, Tolerance::None).decision.verdict, Verdict::Keep);
    let references = vec![version("a"), version("b")];
    assert_eq!(
        world.stub.take_rounds(),
        std::slice::from_ref(&references),
        "nothing changed, so nothing is read and nothing waits"
    );

    world.stub.put(&cm("a"), "2");
    let evaluation = world.evaluate(Context::Steady, Tolerance::None);
    assert_eq!(causes(&evaluation), [Cause::Changed(cm("a"))]);
    assert_eq!(world.stub.take_rounds(), [references, vec![content("a")], vec![exists("needed")]]);
    assert!(evaluation.reads.lookups.keys().eq([&cm("a"), &cm("b"), &cm("needed")]));
    assert!(!evaluation.is_tolerant);
}

#[test]
fn c4_2_what_cannot_be_known_is_asked_for_once_and_tolerance_says_whether_it_holds_up_the_others() {
    let shallow = Lookup::Found(Found::version(ConfigVersion::new("u", "1")));
    // The answer for one reference, and whether it stays so until an administrator acts.
    let cases: [(Said, bool); 7] = [
        (None, false),
        (Some(Ok(shallow)), false),
        (Some(Ok(Lookup::Unknown)), false),
        (Some(Err(Unreadable::Status(403))), true),
        (Some(Err(Unreadable::OperatorsOwn)), true),
        (Some(Err(Unreadable::Status(500))), false),
        (Some(Err(Unreadable::NoRoom)), false),
    ];
    for (said, is_lasting) in cases {
        let mut world = World::created("a,lost", &[]);
        world.stub.put(&cm("a"), "2");
        world.stub.says.insert(cm("lost"), said.clone());
        for (tolerance, is_tolerated) in
            [(Tolerance::None, false), (Tolerance::Lasting, is_lasting), (Tolerance::All, true)]
        {
            let evaluation = world.evaluate(Context::Steady, tolerance);
            let case = format!("{said:?} {tolerance:?}");
            let mut deeper = vec![content("a")];
            // An answer, if it is of another version than the one that is recorded.
            if matches!(said, Some(Ok(Lookup::Found(_)))) {
                deeper.push(content("lost"));
            }
            let rounds = [vec![version("a"), version("lost")], deeper];
            assert_eq!(world.stub.take_rounds(), rounds, "{case}");
            assert_eq!(evaluation.reads.lookups[&cm("lost")], Lookup::Unknown, "{case}");
            assert_eq!(evaluation.decision.unknown, [cm("lost")], "{case}");
            assert_eq!(evaluation.is_tolerant, is_tolerated, "{case}");
            if is_tolerated {
                assert_eq!(causes(&evaluation), [Cause::Changed(cm("a"))], "{case}");
            } else {
                assert_eq!(evaluation.decision.verdict, Verdict::Undecided(vec![cm("lost")]), "{case}");
            }
        }
    }
}

#[test]
fn c3_16_what_is_required_and_cannot_be_asked_for_is_asked_for_once() {
    let cases: [(Said, bool); 3] =
        [(None, false), (Some(Err(Unreadable::Status(403))), true), (Some(Err(Unreadable::TimedOut)), false)];
    for (said, is_lasting) in cases {
        let mut world = World::created("a", &["needed"]);
        world.stub.put(&cm("a"), "2");
        world.stub.says.insert(cm("needed"), said.clone());
        for (tolerance, is_tolerated) in
            [(Tolerance::None, false), (Tolerance::Lasting, is_lasting), (Tolerance::All, true)]
        {
            let evaluation = world.evaluate(Context::Steady, tolerance);
            let case = format!("{said:?} {tolerance:?}");
            let rounds = [vec![version("a")], vec![content("a")], vec![exists("needed")]];
            assert_eq!(world.stub.take_rounds(), rounds, "{case}");
            if is_tolerated {
                assert_eq!(causes(&evaluation), [Cause::Changed(cm("a"))], "{case}");
            } else {
                assert_eq!(evaluation.decision.verdict, Verdict::Undecided(vec![cm("needed")]), "{case}");
            }
        }
    }
}

/// A digest over other keys than those that count now has to be compared once more, so an object is asked for twice.
#[test]
fn c4_2_an_object_that_is_written_between_two_reads_is_not_known() {
    for is_written_all_the_time in [false, true] {
        let mut world = World::created("a", &[]);
        let only_k = Keys::only(["k"]);
        world.references = References::default().following([(cm("a"), only_k.clone())]);
        world.stub.is_written_all_the_time = is_written_all_the_time;
        let evaluation = world.evaluate(Context::Steady, Tolerance::None);
        let both = vec![Query { object: cm("a"), depth: Depth::Content(only_k) }, content("a")];
        assert_eq!(world.stub.take_rounds(), [both], "each once");
        assert_eq!(evaluation.decision.unknown.is_empty(), !is_written_all_the_time);
        assert_eq!(
            evaluation.decision.verdict == Verdict::Undecided(vec![cm("a")]),
            is_written_all_the_time,
            "{evaluation:?}"
        );
    }
}

/// Its digests of the former key are lacking, and stay so.
#[test]
fn c2_2_a_source_that_knows_no_former_key_is_asked_once_while_the_key_is_replaced() {
    let mut world = World::created("a,b", &[]);
    let former = world.key.clone();
    world.key = DigestKey::new("k2", &[8; DigestKey::LEN]).unwrap().with_former([former]);
    let evaluation = world.evaluate(Context::Steady, Tolerance::None);
    // That nothing changed can be seen from the versions, but not what it is under the new key.
    let rounds = [vec![version("a"), version("b")], vec![content("a"), content("b")]];
    assert_eq!(world.stub.take_rounds(), rounds);
    assert_eq!(evaluation.decision.verdict, Verdict::Undecided(vec![cm("a"), cm("b")]));
}

/// It will be readable in a moment: to decide without it would lose a change.
#[test]
fn c3_15_what_two_reads_disagree_about_is_not_taken_for_lasting() {
    let mut world = World::created("a,b", &[]);
    let only_k = Keys::only(["k"]);
    world.references = References::default().following([(cm("a"), only_k), (cm("b"), Keys::All)]);
    world.stub.is_written_all_the_time = true;
    let evaluation = world.evaluate(Context::Steady, Tolerance::Lasting);
    assert_eq!(evaluation.reads.lookups[&cm("a")], Lookup::Unknown);
    assert_eq!(
        evaluation.decision.verdict,
        Verdict::Undecided(vec![cm("a")]),
        "tolerant: {}, unreadable: {:?}",
        evaluation.is_tolerant,
        evaluation.reads.unreadable().collect::<Vec<_>>()
    );
}

#[test]
fn c3_15_a_passing_failure_of_one_of_two_reads_is_passing_whichever_comes_first() {
    let found = || {
        let version = ConfigVersion::new("u", "1");
        Ok(Lookup::Found(Found::version(version)))
    };
    let failed = || Err(Unreadable::Status(500));
    for answers in [[found(), failed()], [failed(), found()]] {
        let mut reads = Reads::default();
        for answer in answers.clone() {
            reads.add(cm("a"), answer);
        }
        assert!(!reads.only_lasting(|_| true), "{answers:?}: {reads:?}");
    }
}
