//! Section 3, row by row, for every way in which a reference can come about (1.2, section 7).

mod support;

#[path = "support/town.rs"]
mod town;

use Outcome::{NotOurs, Nothing, Recorded, Reloaded, Undecided, Waits};
use pod_reloader_core::annotation::{CONFIG_HASH, OBSERVED_CONFIG};
use pod_reloader_core::decide::Cause::{Appeared, Changed, Disappeared};
use pod_reloader_core::dialect::own::{AUTO, Auto};
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::observed::Seen;
use pod_reloader_core::reference::{Keys, Origin};
use serde_json::{Value, json};
use support::manifest::Manifest;
use support::{cm, missing, missing_key, secret};
use town::{FOLLOW, Outcome, Town, UNMARKED};

/// Where a reference comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    List,
    Workload,
    Template,
    Namespace,
    Mark,
}
use By::{List, Mark, Namespace, Template, Workload};

const ALL: [By; 5] = [List, Workload, Template, Namespace, Mark];

/// How the template uses the `ConfigMap` "conf": its key "k", or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Key,
    OptionalKey,
    Whole,
    OptionalWhole,
}
use Use::{Key, OptionalKey, OptionalWhole, Whole};

const USES: [Use; 4] = [Key, OptionalKey, Whole, OptionalWhole];

impl Use {
    fn is_optional(self) -> bool {
        matches!(self, OptionalKey | OptionalWhole)
    }

    fn is_of_key(self) -> bool {
        matches!(self, Key | OptionalKey)
    }

    fn container(self) -> Value {
        let optional = self.is_optional();
        if self.is_of_key() {
            let source = json!({"configMapKeyRef": {"name": "conf", "key": "k", "optional": optional}});
            json!({"name": "main", "env": [{"name": "K", "valueFrom": source}]})
        } else {
            json!({"name": "main", "envFrom": [{"configMapRef": {"name": "conf", "optional": optional}}]})
        }
    }
}

fn conf() -> ConfigRef {
    cm("conf")
}

/// The keys of "conf" that count.
fn keys(by: By, of: Use) -> Keys {
    if by != List && of.is_of_key() { Keys::only(["k"]) } else { Keys::All }
}

/// The workload and "conf", as nobody has seen them yet. "cred" is needed beside it, and never followed.
fn unseen(by: By, of: Use) -> Town {
    let spec = json!({"containers": [of.container()], "volumes": [
        {"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "cred"}}}]});
    let manifest = Manifest::new().at("/spec/template/spec", spec);
    let mut town = Town::new(match by {
        List => manifest.annotated(CONFIGMAPS, "conf"),
        Workload => manifest.annotated(AUTO, "true"),
        Template => manifest.template_annotated(AUTO, "true"),
        Namespace | Mark => manifest,
    });
    if by == Namespace {
        town.label = Auto::Both;
    }
    town.put_marked(&secret("cred"), &[("user", "u")], FOLLOW);
    put(&mut town, by, "1", "1");
    town
}

/// Writes "conf", with its mark where that has it followed.
fn put(town: &mut Town, by: By, k: &str, other: &str) {
    let marks = if by == Mark { FOLLOW } else { UNMARKED };
    town.put_marked(&conf(), &[("k", k), ("other", other)], marks);
}

/// Pods run, and all is recorded; with a hash on their template, or adopted and without one yet.
fn running(by: By, of: Use, has_hash: bool) -> Town {
    let mut town = unseen(by, of);
    recorded(&mut town, has_hash);
    town
}

fn recorded(town: &mut Town, has_hash: bool) {
    town.reconcile();
    if has_hash {
        let rolled = town.manifest.clone().template_annotated("owner", "1");
        assert!(town.write(rolled));
    }
    assert!(matches!(town.reconcile(), Nothing | NotOurs));
}

/// Every way to "conf", with these uses.
fn every(uses: &[Use]) -> impl Iterator<Item = (By, Use, Town)> {
    let all = ALL.into_iter().flat_map(|by| uses.iter().map(move |of| (by, *of)));
    all.flat_map(|(by, of)| [false, true].map(|has_hash| (by, of, running(by, of, has_hash))))
}

/// What observed-config records of "conf" is what is there.
#[track_caller]
fn expect_recorded(town: &Town, by: By, of: Use) {
    let record = &town.records()[&conf()];
    let origin = if by == List { Origin::Listed } else { Origin::Followed };
    assert_eq!((&record.keys, record.origin), (&keys(by, of), origin), "{by:?} {of:?}");
    assert_eq!(record.seen, town.seen(&conf(), &record.keys), "{by:?} {of:?}");
}

#[test]
fn c3_3_content_that_counts_changes_once_for_every_origin_and_what_does_not_count_never() {
    for (by, of, mut town) in every(&USES) {
        expect_recorded(&town, by, of);
        put(&mut town, by, "1", "2");
        let expected = if keys(by, of) == Keys::All { Reloaded(vec![Changed(conf())]) } else { Nothing };
        assert_eq!(town.reconcile(), expected, "{by:?} {of:?}: another key");
        put(&mut town, by, "2", "2");
        assert_eq!(town.reconcile(), Reloaded(vec![Changed(conf())]), "{by:?} {of:?}");
        expect_recorded(&town, by, of);
        assert_eq!(town.reconcile(), Nothing);
    }
}

#[test]
fn c3_4_a_change_waits_for_what_is_required_for_every_origin() {
    for (by, of, mut town) in every(&USES) {
        town.delete(&secret("cred"));
        assert_eq!(town.reconcile(), Nothing);
        put(&mut town, by, "2", "1");
        assert_eq!(town.reconcile(), Waits(vec![missing(&secret("cred"))]), "{by:?} {of:?}");
        town.put(&secret("cred"), &[]);
        assert_eq!(town.reconcile(), Reloaded(vec![Changed(conf())]), "{by:?} {of:?}");
        expect_recorded(&town, by, of);
    }
}

#[test]
fn c3_5_a_required_key_goes_and_c3_6_is_back_for_every_origin() {
    for (by, of, mut town) in every(&[Key]) {
        let before = town.records();
        town.put(&conf(), &[("other", "1")]);
        assert_eq!(town.reconcile(), Nothing, "{by:?}");
        town.put(&conf(), &[("other", "1"), ("k", "1")]);
        assert_eq!(town.reconcile(), Nothing, "{by:?}");
        town.put(&conf(), &[("other", "1")]);
        assert_eq!((town.reconcile(), &town.records()), (Nothing, &before), "{by:?}");
        town.put(&conf(), &[("other", "1"), ("k", "2")]);
        assert_eq!(town.reconcile(), Reloaded(vec![Changed(conf())]), "{by:?}");
        expect_recorded(&town, by, of);
    }
}

/// To pods it is then as if it were absent.
#[test]
fn c3_9_an_optional_object_that_loses_all_followed_keys_causes_one_and_so_does_their_return() {
    for (by, of, mut town) in every(&[OptionalKey]) {
        town.put(&conf(), &[("other", "1")]);
        assert!(matches!(town.reconcile(), Reloaded(_)), "{by:?}");
        if by != List {
            town.put(&conf(), &[("other", "2")]);
            assert_eq!(town.reconcile(), Nothing, "{by:?}");
        }
        put(&mut town, by, "1", "1");
        assert!(matches!(town.reconcile(), Reloaded(_)), "{by:?}");
        expect_recorded(&town, by, of);
    }
}

#[test]
fn c3_7_metadata_causes_nothing_for_every_origin() {
    for (by, of, mut town) in every(&USES) {
        town.relabel(&conf());
        assert_eq!(town.reconcile(), Nothing, "{by:?} {of:?}");
    }
}

#[test]
fn c3_8_a_required_object_goes_and_c3_10_is_back_as_it_was_or_c3_11_not_for_every_origin() {
    for (by, of, mut town) in every(&[Key, Whole]) {
        let before = town.records();
        for _ in 0..2 {
            town.delete(&conf());
            assert_eq!((town.reconcile(), &town.records()), (Nothing, &before), "{by:?} {of:?}");
            put(&mut town, by, "1", "1");
            assert_eq!((town.reconcile(), &town.records()), (Nothing, &before), "{by:?} {of:?}");
        }
        town.delete(&conf());
        assert_eq!(town.reconcile(), Nothing);
        put(&mut town, by, "2", "1");
        assert_eq!(town.reconcile(), Reloaded(vec![Changed(conf())]), "{by:?} {of:?}");
        expect_recorded(&town, by, of);
    }
}

#[test]
fn c3_9_an_optional_object_goes_and_comes_back_for_every_origin() {
    for (by, of, mut town) in every(&[OptionalKey, OptionalWhole]) {
        town.delete(&conf());
        assert_eq!(town.reconcile(), Reloaded(vec![Disappeared(conf())]), "{by:?} {of:?}");
        assert_eq!(town.records()[&conf()].seen, Seen::Absent);
        put(&mut town, by, "1", "1");
        assert_eq!(town.reconcile(), Reloaded(vec![Appeared(conf())]), "{by:?} {of:?}");
        expect_recorded(&town, by, of);
    }
}

/// Pods run without it, or cannot start. What a mark has followed is not followed before it is there.
fn waiting_for_it(by: By, of: Use, has_hash: bool) -> Town {
    let mut town = unseen(by, of);
    town.delete(&conf());
    recorded(&mut town, has_hash);
    assert_eq!(town.records().contains_key(&conf()), by != Mark);
    town
}

#[test]
fn c3_12_the_first_appearance_of_what_is_required_is_recorded_for_every_origin() {
    for (by, of) in ALL.into_iter().flat_map(|by| [(by, Key), (by, Whole)]) {
        for has_hash in [false, true] {
            let mut town = waiting_for_it(by, of, has_hash);
            if of == Key && by != Mark {
                town.put(&conf(), &[("other", "0")]);
                assert_eq!(town.reconcile(), Nothing, "{by:?}: once its key is there");
            }
            put(&mut town, by, "1", "1");
            assert_eq!(town.reconcile(), Recorded, "{by:?} {of:?}");
            expect_recorded(&town, by, of);
            put(&mut town, by, "2", "1");
            assert_eq!(town.reconcile(), Reloaded(vec![Changed(conf())]), "{by:?} {of:?}");
        }
    }
}

#[test]
fn c3_13_what_appears_and_changes_before_it_is_recorded_causes_one_for_every_origin_but_marks() {
    for (by, of) in ALL.into_iter().flat_map(|by| [(by, Key), (by, Whole)]) {
        for has_hash in [false, true] {
            let mut town = waiting_for_it(by, of, has_hash);
            put(&mut town, by, "1", "1");
            town.see(&conf());
            put(&mut town, by, "2", "1");
            // A mark is what lets it appear (3.26).
            let expected = if by == Mark { Recorded } else { Reloaded(vec![Changed(conf())]) };
            assert_eq!(town.reconcile(), expected, "{by:?} {of:?}");
            expect_recorded(&town, by, of);
        }
    }
}

#[test]
fn c3_14_the_first_appearance_of_what_is_optional_causes_one_for_every_origin_but_marks() {
    for (by, of) in ALL.into_iter().flat_map(|by| [(by, OptionalKey), (by, OptionalWhole)]) {
        for has_hash in [false, true] {
            let mut town = waiting_for_it(by, of, has_hash);
            if by != List && by != Mark && of == OptionalKey {
                town.put(&conf(), &[("other", "1")]);
                assert_eq!(town.reconcile(), Nothing, "{by:?}, 7.2: pods see no difference");
            }
            put(&mut town, by, "1", "1");
            let expected = if by == Mark { Recorded } else { Reloaded(vec![Appeared(conf())]) };
            assert_eq!(town.reconcile(), expected, "{by:?} {of:?}");
            expect_recorded(&town, by, of);
        }
    }
}

#[test]
fn c3_15_what_cannot_be_read_causes_nothing_and_keeps_its_record_for_every_origin() {
    for (by, of, mut town) in every(&USES) {
        let before = town.records();
        town.cut_off(&conf());
        assert_eq!(town.reconcile(), Undecided(vec![conf()]), "{by:?} {of:?}: until it is clear");
        town.tolerates_unknown = true;
        put(&mut town, by, "2", "1");
        assert_eq!((town.reconcile(), &town.records()), (Nothing, &before), "{by:?} {of:?}");
        town.reconnect(&conf());
        assert_eq!(town.reconcile(), Reloaded(vec![Changed(conf())]), "{by:?} {of:?}");
    }
}

#[test]
fn c3_16_a_reload_waits_while_what_is_required_cannot_be_asked_for_for_every_origin() {
    for (by, of, mut town) in every(&USES) {
        town.cut_off(&secret("cred"));
        assert_eq!(town.reconcile(), Nothing, "{by:?} {of:?}");
        put(&mut town, by, "2", "1");
        assert_eq!(town.reconcile(), Undecided(vec![secret("cred")]), "{by:?} {of:?}");
        town.tolerates_unknown = true;
        assert_eq!(
            town.reconcile(),
            Reloaded(vec![Changed(conf())]),
            "{by:?} {of:?}: there is none to be had"
        );
    }
}

#[test]
fn c3_18_the_write_that_opts_out_keeps_the_hash_and_loses_observed_config_for_every_origin() {
    for (by, of, mut town) in every(&USES) {
        let hash = town.hash();
        let mut out = town.manifest.clone().annotated(AUTO, "false");
        if by == List {
            out = out.without("/metadata/annotations", CONFIGMAPS);
        }
        assert!(!town.write(out), "{by:?} {of:?}");
        assert_eq!((town.hash(), town.records().len()), (hash, 0), "{by:?} {of:?}");
        put(&mut town, by, "2", "2");
        assert_eq!(town.reconcile(), NotOurs, "{by:?} {of:?}");
    }
}

#[test]
fn c3_19_what_a_write_carries_of_the_annotations_does_not_count_for_every_origin() {
    for (by, of, mut town) in every(&USES) {
        let (before, records) = (town.manifest.clone(), town.records());
        let copied = r#"{"version":2,"key":"k1","followed":{"configmaps":{"conf":null}}}"#;
        for hash in [None, Some("0".repeat(64))] {
            let mut bare = before.0.clone();
            for place in ["/metadata/annotations", "/spec/template/metadata/annotations"] {
                if let Some(annotations) = bare.pointer_mut(place).and_then(Value::as_object_mut) {
                    annotations.remove(CONFIG_HASH);
                    annotations.remove(OBSERVED_CONFIG);
                }
            }
            let mut written = Manifest(bare).annotated("note", "n");
            if let Some(hash) = hash {
                written = written.hash(&hash).observed(copied);
            }
            assert!(!town.write(written), "{by:?} {of:?}");
            assert_eq!(town.hash(), before.read().template.config_hash, "{by:?} {of:?}");
            assert_eq!(town.records(), records, "{by:?} {of:?}");
            assert_eq!(town.reconcile(), Nothing, "{by:?} {of:?}");
        }
    }
}

#[test]
fn c3_21_what_changed_while_the_operator_was_away_is_reloaded_then_for_every_origin() {
    for (by, of, mut town) in every(&USES) {
        put(&mut town, by, "2", "1");
        town.delete(&conf());
        put(&mut town, by, "1", "1");
        town.relabel(&conf());
        assert_eq!(town.reconcile(), Nothing, "{by:?} {of:?}: it is as it was");
        put(&mut town, by, "2", "1");
        assert_eq!(town.reconcile(), Reloaded(vec![Changed(conf())]), "{by:?} {of:?}");
    }
}

#[test]
fn c3_4_a_required_key_that_is_missing_holds_back_what_else_changes_for_every_origin() {
    for by in ALL {
        let mut town = unseen(by, Key);
        let also = json!({"configMapKeyRef": {"name": "also", "key": "k"}});
        let env = "/spec/template/spec/containers/0/env";
        let env = town.manifest.0.pointer_mut(env).and_then(Value::as_array_mut).expect("env");
        env.push(json!({"name": "ALSO", "valueFrom": also}));
        if by == List {
            town.manifest = town.manifest.clone().annotated(CONFIGMAPS, "conf,also");
        }
        town.put_marked(&cm("also"), &[("k", "1"), ("other", "1")], FOLLOW);
        recorded(&mut town, false);
        town.put(&cm("also"), &[("other", "1")]);
        put(&mut town, by, "2", "1");
        assert_eq!(town.reconcile(), Waits(vec![missing_key(&cm("also"), "k")]), "{by:?}");
        town.put(&cm("also"), &[("k", "1"), ("other", "1")]);
        assert_eq!(town.reconcile(), Reloaded(vec![Changed(conf())]), "{by:?}");
    }
}
