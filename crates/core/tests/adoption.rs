//! 2.5: taking over restarts nothing by itself.

mod support;

use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::Cause::{Adopted, Changed, Disappeared, Unwatched};
use pod_reloader_core::decide::Context::{Rollout, Steady};
use pod_reloader_core::decide::Verdict;
use pod_reloader_core::observed::Seen;
use support::{World, another_key, cm, secret};

#[test]
fn c2_5_hash_that_equals_ours_is_kept_and_observed_config_recorded() {
    for context in [Steady, Rollout] {
        let mut world = World::listing("a,missing").with(&cm("a"), "1").created();
        let (hash, observed) = (world.hash.clone(), world.observed.take());
        let verdict = world.ask(context).verdict;
        assert!(matches!(verdict, Verdict::Observe(Some(_))), "{verdict:?}");
        world.apply(&verdict);
        assert_eq!((world.hash.clone(), world.observed.clone()), (hash, observed));
        world.expect_nothing();
    }
}

#[test]
fn c2_5_hash_that_equals_saps_is_kept_and_observed_config_recorded() {
    let mut world = World::listing("a,b,a").with(&cm("a"), "1").left_by_sap();
    let hash = world.hash.clone();
    world.expect_record_only();
    assert_eq!(world.hash, hash);
    assert_eq!(world.recorded(&cm("a")), world.digest_of(&cm("a"), "1"));
    assert_eq!(world.recorded(&cm("b")), Seen::Absent);
}

#[test]
fn c2_5_an_adopted_hash_stands_for_the_content_from_then_on() {
    let mut world = World::listing("a").with(&cm("a"), "1").left_by_sap();
    world.expect_record_only();
    world.relabel(&cm("a"));
    world.expect_nothing();
    world.put(&cm("a"), "2");
    world.expect_one_reload(Steady, &[Changed(cm("a"))]);
}

#[test]
fn c2_5_hash_that_equals_neither_means_that_the_configuration_changed_while_nobody_watched() {
    for context in [Steady, Rollout] {
        let mut by_sap = World::listing("a").with(&cm("a"), "1").left_by_sap();
        by_sap.put(&cm("a"), "2");
        by_sap.expect_one_reload(context, &[Unwatched]);

        let mut by_us = World::listing("a").with(&cm("a"), "1").created();
        by_us.observed = None;
        by_us.put(&cm("a"), "2");
        by_us.expect_one_reload(context, &[Unwatched]);
    }
}

#[test]
fn c2_3_observed_config_that_is_malformed_unknown_or_beside_another_hash_counts_as_not_there() {
    let created = World::listing("a").with(&cm("a"), "1").created();
    let valid = created.observed.clone().unwrap();
    let hash = created.hash.clone().unwrap();
    for invalid in [
        String::new(),
        "{".to_owned(),
        valid.replace("\"version\":2", "\"version\":3"),
        valid.replace(&hash, &"0".repeat(64)),
        valid.replace("\"a\":", "\"a\":7,\"b\":"),
    ] {
        let mut world = created.clone();
        world.observed = Some(invalid.clone());
        world.expect_record_only();
        assert_eq!(world.observed.as_deref(), Some(&*valid), "recorded anew over {invalid}");

        world.observed = Some(invalid);
        world.put(&cm("a"), "2");
        world.expect_one_reload(Steady, &[Unwatched]);
    }
}

#[test]
fn c3_22_owners_rollout_replaces_an_adopted_hash_with_the_proper_one() {
    let adopted = {
        let mut world = World::listing("a").with(&cm("a"), "1").left_by_sap();
        world.expect_record_only();
        world
    };
    let not_yet_adopted = World::listing("a").with(&cm("a"), "1").left_by_sap();
    for mut world in [adopted, not_yet_adopted] {
        world.expect_one_reload(Rollout, &[Adopted]);
        assert_eq!(world.ask(Rollout).verdict, Verdict::Keep, "once is enough");
    }
}

#[test]
fn c3_22_owners_rollout_replaces_a_hash_that_was_kept_while_a_required_object_appeared() {
    let a = cm("a");
    let mut world = World::listing("a").requiring(&a).created();
    world.put(&a, "1");
    world.expect_record_only();
    world.expect_one_reload(Rollout, &[Adopted]);
}

#[test]
fn c2_5_with_another_key_the_hash_is_kept_and_observed_config_recorded_anew_with_a_warning() {
    let a = cm("a");
    let mut world = World::listing("a").with(&a, "1").created();
    let hash = world.hash.clone();
    world.put(&a, "2, which cannot be seen");
    world.key = another_key();
    assert!(world.ask(Steady).key_was_replaced);
    world.expect_record_only();
    assert_eq!(world.hash, hash);
    assert!(!world.ask(Steady).key_was_replaced, "the warning is given once");
    assert_eq!(world.recorded(&a), world.digest_of(&a, "2, which cannot be seen"));

    world.put(&a, "3");
    world.expect_one_reload(Steady, &[Changed(a)]);
}

#[test]
fn c2_5_with_another_key_the_owners_rollout_carries_the_proper_hash() {
    let mut world = World::listing("a").with(&cm("a"), "1").created();
    world.key = another_key();
    let decision = world.ask(Rollout);
    assert!(decision.key_was_replaced);
    world.expect_one_reload(Rollout, &[Adopted]);
}

#[test]
fn c2_5_what_was_absent_while_the_key_was_lost_comes_back_as_other_content() {
    let (required, unnamed) = (secret("required"), cm("unnamed"));
    let mut world = World::listing("unnamed").requiring(&required);
    world.list("unnamed", "required");
    world = world.with(&required, "1").with(&unnamed, "1").created();
    world.delete(&required);
    world.delete(&unnamed);
    world.expect_nothing();
    world.key = another_key();
    world.expect_record_only();
    assert_eq!(world.recorded(&required), Seen::Uncompared);

    world.put(&required, "1");
    world.expect_one_reload(Steady, &[Changed(required)]);
    // That reload started pods without it.
    assert_eq!(world.recorded(&unnamed), Seen::Absent);

    let mut world = World::listing("unnamed").with(&unnamed, "1").created();
    world.delete(&unnamed);
    world.key = another_key();
    world.expect_record_only();
    world.put(&unnamed, "1");
    world.expect_one_reload(Steady, &[Changed(unnamed)]);
}

#[test]
fn c2_5_what_was_recorded_as_absent_needs_no_key_to_be_compared() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").using_optionally(&a).with(&a, "1").created();
    world.key = another_key();
    world.delete(&a);
    world.expect_one_reload(Steady, &[Disappeared(a)]);
    assert_eq!(world.recorded(&b), Seen::Absent);
}

#[test]
fn c2_5_another_key_is_recorded_even_where_nothing_is_there_to_compare() {
    let mut world = World::listing("a").created();
    world.key = another_key();
    world.expect_record_only();
    assert!(!world.ask(Steady).key_was_replaced);
}

/// Lists that are not tidy, with what SAP's pod-reloader makes of them. Computed by its rules in another language:
/// `strings.Split` at commas, nothing trimmed, and what is not found leaves its version empty.
const UNTIDY: [(&str, &str, &str); 24] = [
    ("a, b", "", "98fefbd4e5f2aee13d99417463ec41f2009e74097aa22ff0a957b036c40759e4"),
    ("a,", "", "114cae095c6e4091c54c777ffd4f883fe63a0b0089cd94195812d1dfa44ffd16"),
    (",a", "", "343139b5665cb9d9cb8ecd0489e1ab0fc8b88d2e8aea302451c6a7a86d76aeaf"),
    (" a", "", "22b312d89316edc51f4079b0e202d6fce070d5ae71671ad043471c71f7103b14"),
    ("a ", "", "41d23af1c06ecb97e58d84b1f6204c5b689f887d8aa459cda357939818134769"),
    ("a,,b", "", "3e245f46c3476bb8b91eac12275dfee3d0d48ba2049578234fd74821041e6834"),
    ("a , b", "c", "ebfc95f01426b89aa482e3039e06c0dfc4f7015c72d2b5e80f742030577a5103"),
    ("a", "c,", "e7c43b1f47a894e5b37a079153acb61eab223711d6b10804fc049a08f9192392"),
    ("a", " c", "af11e5f3b4f200244788b66b5010c1445f85b153247e145edb47e9d00af865bf"),
    ("a,b,", " ", "3dcb99fc40d9b4aac6b85e3b78ea78c7f3fe8b9cdeb38f08b4b03338c9b22bba"),
    (" ", "c", "bc65fc3b7afd1e9a1011615b620f216a761f17be549783a0a9f6c5a14706bb52"),
    (",", "c", "8aafdf71e1cad5734faa697f7d74ef1671a8691cd7ff570e0c17c83e8c385f02"),
    ("a,B_ad", "", "44b1e45dc8f729644238e5a635f595594f23478b82f60ff57a1671072dae40b7"),
    ("UPPER", "c", "e7c1426771710c2e87ac26158552f9219ce81676405893197d1b060e1ffa5105"),
    ("a\nb", "", "97245d16a0aee5a55a82551b887157b547fe43751cc5c754ce025364adb8b768"),
    ("a\n,b\n", "", "bf0348ce3191bcec65b44665c9766f8100d5e39c618dda74987c7edbd7d95323"),
    ("\ta,b", "c,,c", "c4e7ccedd418d4dc728b7e88943b308ccedae3bb718991a3c630bc0e8a0bed04"),
    ("a,b", "c, missing", "e0754a89dc2e5ce23ca7ee48c096ad1383d34739faf8cc461adf43d5f1ab5b53"),
    ("a, a,a", "", "42b2cb7793d05d03bce72abc7df54b8995d5733e150a2d142a8f837b95ef0867"),
    ("a,shop/b", "c", "5aeba64304d1744a3e13fb89cd4c9b482e2bd78a73a81e3465b6c8bb7b7e3c4b"),
    ("a,\u{e9}", "", "9e80c30c645e7c3ecbeb55e5bf3ba67beaed332c0ec6a005725072501a715aaf"),
    ("a,b;c", "", "38f8e6221154e8715f811ed932b78efa68dcbbb29cf63f5172d35ccb90096871"),
    (" a , b ", " c , c ", "d80822517e48abb3d363ef926a1b8f76e06cc58f4ea96a5cf7f4203ab19b078d"),
    ("a..b,a", "-c,c", "6fd9d202114083e803025fcd7f4c506d827032becd12c6649d4088b94f341ad7"),
];

/// The workload with those lists and that hash, beside `ConfigMap`s `a` and `b` and the Secret `c`.
fn untidy(configmaps: &str, secrets: &str, hash: &str) -> World {
    let mut world = World::listing("").with(&cm("a"), "1").with(&cm("b"), "1").with(&secret("c"), "1");
    world.list(configmaps, secrets);
    world.hash = Some(hash.to_owned());
    world
}

#[test]
fn c2_5_hash_that_equals_saps_over_the_lists_as_they_are_written_is_kept() {
    for (configmaps, secrets, hash) in UNTIDY {
        let mut world = untidy(configmaps, secrets, hash);
        world.expect_record_only();
        assert_eq!(world.hash.as_deref(), Some(hash), "{configmaps:?} {secrets:?}");

        let mut world = untidy(configmaps, secrets, hash);
        world.expect_one_reload(Rollout, &[Adopted]);

        let mut changed = untidy(configmaps, secrets, &"0".repeat(64));
        changed.expect_one_reload(Steady, &[Unwatched]);
    }
}

#[test]
fn c1_2_a_taken_over_hash_over_untidy_lists_covers_every_name_from_then_on() {
    // SAP looked for " b", and so never saw b.
    let mut world = untidy("a, b", "", UNTIDY[0].2);
    world.expect_record_only();
    world.put(&cm("b"), "2");
    world.expect_one_reload(Steady, &[Changed(cm("b"))]);
}

#[test]
fn c2_5_a_hash_over_the_tidy_list_is_recognised_beside_an_untidy_one() {
    let mut world = World::listing("a, b,").with(&cm("a"), "1").with(&cm("b"), "1").left_by_sap();
    world.expect_record_only();
}

#[test]
fn c2_4_a_hash_over_untidy_lists_stays_until_the_next_change_or_rollout() {
    for (configmaps, secrets, hash) in UNTIDY {
        let mut world = untidy(configmaps, secrets, hash);
        world.mode = HashMode::Version;
        world.expect_nothing();
        if world.references.listed().next().is_none() || world.saps_hash() == hash {
            continue;
        }
        let mut rolled_out = world.clone();
        rolled_out.expect_one_reload(Rollout, &[Adopted]);
        assert_eq!(rolled_out.hash, Some(rolled_out.saps_hash()));
    }
    let mut world = untidy("a, b", "", UNTIDY[0].2);
    world.mode = HashMode::Version;
    world.relabel(&cm("a"));
    world.expect_one_reload(Steady, &[Unwatched]);
    assert_eq!(world.hash, Some(world.saps_hash()));
}
