//! What need not be read, since observed-config proves in which version of an object its digest was seen (2.3).
#![allow(clippy::panic, reason = "in tests a panic is a failure")]

mod support;

use pod_reloader_core::cause::Cause;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::Context::{Rollout, Steady};
use pod_reloader_core::decide::{Answer, Lookups, Verdict, decide};
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::observed::Observed;
use pod_reloader_core::reference::{Keys, References};
use pod_reloader_core::template::Need;
use support::{NAMESPACE, World, another_key, cm, missing_key};

const NOTHING: [ConfigRef; 0] = [];

fn world() -> World {
    World::listing("a,b").with(&cm("a"), "1").with(&cm("b"), "1").created()
}

/// Replaces text of observed-config, which must still be one.
fn forge(world: &mut World, from: &str, to: &str) {
    let observed = world.observed.as_deref().expect("recorded");
    let forged = observed.replace(from, to);
    assert!(forged != observed && Observed::parse(&forged, NAMESPACE, world.hash.as_deref()).is_some());
    world.observed = Some(forged);
}

/// The digest that is recorded of an object, and its witness.
fn entry(world: &World, name: &str) -> (String, String) {
    let observed = world.observed.as_deref().expect("recorded");
    let (_, entry) = observed.split_once(&format!("\"{name}\":\"")).expect("a record");
    let (digest, witness) = entry.split_once('"').expect("a text").0.split_once('@').expect("a witness");
    (digest.to_owned(), witness.to_owned())
}

#[test]
fn c3_21_nothing_is_read_of_what_is_in_the_version_that_was_recorded() {
    let world = world();
    assert_eq!(world.reads(Steady), NOTHING);
    assert_eq!(world.reads(Rollout), NOTHING);
    world.expect_nothing();
}

#[test]
fn c3_7_what_was_written_with_the_same_content_is_read_and_nothing_is_written() {
    let mut world = world();
    let before = world.observed.clone();
    world.relabel(&cm("a"));
    assert_eq!(world.reads(Steady), [cm("a")]);
    world.expect_nothing();
    world.put(&cm("b"), "2");
    world.expect_one_reload(Steady, &[Cause::Changed(cm("b"))]);
    assert_ne!(world.observed, before);
    assert_eq!(world.reads(Steady), NOTHING, "the versions that were read are recorded by the way");
}

#[test]
fn c3_10_what_comes_back_with_the_same_content_is_another_object() {
    let mut world = world().requiring(&cm("a"));
    world.delete(&cm("a"));
    assert_eq!(world.reads(Steady), NOTHING);
    world.put(&cm("a"), "1");
    assert_eq!(world.reads(Steady), [cm("a")]);
    world.expect_nothing();
}

#[test]
fn c3_15_what_cannot_be_read_keeps_its_witness() {
    let mut world = world();
    world.tolerates_unknown = true;
    world.cut_off(&cm("a"));
    world.put(&cm("b"), "2");
    let before = entry(&world, "a");
    world.expect_one_reload(Steady, &[Cause::Changed(cm("b"))]);
    assert_eq!(entry(&world, "a"), before);
    world.reconnect(&cm("a"));
    assert_eq!(world.reads(Steady), NOTHING);
}

#[test]
fn c2_5_a_witness_of_another_key_proves_nothing() {
    let mut world = world();
    world.key = another_key();
    assert_eq!(world.reads(Steady), [cm("a"), cm("b")]);
    world.expect_record_only();
    assert_eq!(world.reads(Steady), NOTHING);
}

#[test]
fn c2_2_what_is_to_be_recorded_with_a_new_key_is_read_once() {
    let mut world = world();
    world.key = another_key().with_former([world.key]);
    assert_eq!(world.reads(Steady), [cm("a"), cm("b")]);
    world.expect_record_only();
    assert_eq!(world.reads(Steady), NOTHING);
}

#[test]
fn c2_2_while_something_is_gone_nothing_can_be_recorded_with_a_new_key_and_nothing_is_read() {
    let mut world = world().requiring(&cm("b"));
    world.key = another_key().with_former([world.key]);
    world.delete(&cm("b"));
    assert_eq!(world.reads(Steady), NOTHING);
    world.expect_nothing();
    world.put(&cm("a"), "2");
    assert_eq!(world.reads(Steady), [cm("a")]);
}

#[test]
fn c3_5_which_keys_there_are_is_read_only_where_a_reload_depends_on_it() {
    for keys in [&["needed"][..], &[]] {
        let mut world = World::listing("a,b").with(&cm("b"), "1");
        world.put_keys(&cm("a"), "1", keys);
        let mut world = world.created().requiring_key(&cm("a"), "needed");
        assert_eq!(world.reads(Steady), NOTHING);
        world.expect_nothing();
        world.put(&cm("b"), "2");
        assert_eq!(world.reads(Steady), [cm("b"), cm("a")]);
        if keys.is_empty() {
            let causes = [Cause::Changed(cm("b"))];
            world.expect_deferral_for(&[missing_key(&cm("a"), "needed")], &causes);
        } else {
            world.expect_one_reload(Steady, &[Cause::Changed(cm("b"))]);
        }
    }
}

/// Also where something else that is required is known to be missing: all that is missing is reported.
#[test]
fn c3_4_all_that_is_missing_is_reported() {
    let mut world =
        World::listing("a,b,c").with(&cm("a"), "1").with(&cm("b"), "1").with(&cm("c"), "1").created();
    world.uses.add(cm("c"), Need::Required);
    world.delete(&cm("c"));
    world.put(&cm("b"), "2");
    let world = world.requiring_key(&cm("a"), "needed");
    let (decision, _) = world.ask_for_what_matters(Steady);
    assert_eq!(decision.verdict, world.ask(Steady).verdict);
    let Verdict::Defer { missing, .. } = decision.verdict else { panic!("{decision:?}") };
    assert_eq!(missing, [missing_key(&cm("a"), "needed"), support::missing(&cm("c"))]);
}

#[test]
fn c2_3_other_keys_of_an_object_are_read() {
    let mut world = World::listing("").with(&cm("a"), "1");
    world.references = References::default().following([(cm("a"), Keys::All)]);
    world.expect_record_only();
    assert_eq!(world.reads(Steady), NOTHING);
    world.references = References::default().following([(cm("a"), Keys::only(["entry"]))]);
    let queries = world.with_input(Steady, |input| {
        let Answer::Lacks(queries) = decide(input, &Lookups::new()) else { panic!("nothing is known yet") };
        queries
    });
    assert_eq!(queries.len(), 2, "as digests over both: {queries:?}");
}

#[test]
fn c2_4_in_mode_version_an_honoured_record_is_compared_by_its_witnesses_too() {
    let mut world = world();
    world.mode = HashMode::Version;
    assert_eq!(world.reads(Steady), NOTHING);
    world.expect_nothing();
    world.relabel(&cm("a"));
    assert_eq!(world.reads(Steady), [cm("a")]);
    world.expect_nothing();
}

/// Who may write the annotation can take a witness off, but neither put a digest nor a version in the place of another.
#[test]
fn c2_3_what_is_put_together_from_true_records_proves_nothing() {
    let mut first = world();
    let (digest, witness) = entry(&first, "a");
    let mut later = first.clone();
    later.put(&cm("a"), "2");
    later.expect_one_reload(Steady, &[Cause::Changed(cm("a"))]);
    let (new_digest, new_witness) = entry(&later, "a");
    assert!(digest != new_digest && witness != new_witness);

    // A true witness of the version that is there, beside the digest of an earlier one, and the other way round.
    let mut forged = later.clone();
    forge(&mut forged, &new_digest, &digest);
    assert_eq!(forged.reads(Steady), [cm("a")]);
    forge(&mut later, &new_witness, &witness);
    assert_eq!(later.reads(Steady), [cm("a")]);
    later.expect_nothing();
    // Another object's.
    let (_, of_b) = entry(&first, "b");
    forge(&mut first, &witness, &of_b);
    assert_eq!(first.reads(Steady), [cm("a")]);
    forge(&mut first, &format!("@{of_b}"), "");
    assert_eq!(first.reads(Steady), [cm("a"), cm("b")]);
    // A witness of another installation's key.
    let mut foreign = world();
    foreign.key = DigestKey::new("k1", &[9; DigestKey::LEN]).expect("a key");
    assert_eq!(foreign.reads(Steady), [cm("a"), cm("b")]);
    foreign.expect_one_reload(Steady, &[Cause::Changed(cm("a")), Cause::Changed(cm("b"))]);
}
