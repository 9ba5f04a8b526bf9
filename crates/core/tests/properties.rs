//! What holds for all inputs.

mod support;

use std::collections::BTreeSet;

use pod_reloader_core::config_hash::{ConfigHash, HashMode};
use pod_reloader_core::content::ContentSummary;
use pod_reloader_core::decide::{Cause, Context, Depth, Lookup, Query, Verdict};
use pod_reloader_core::dialect::sap;
use pod_reloader_core::digest::Digest;
use pod_reloader_core::guard::Guard;
use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::observed::{Observed, Seen};
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::Keys;
use pod_reloader_core::workload::Workload;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use support::arbitrary::{State, json_values, records, states, witnessed_records};
use support::manifest::{Manifest, apply_guarded};
use support::{NAMESPACE, digest, found, gist, key};

/// Config objects whose entries are easily mistaken for each other.
fn objects() -> impl Strategy<Value = Value> {
    let map = || btree_map("[ab]{1,2}", "[ab]{0,2}", 0..3);
    (map(), map(), "[ab]{0,2}")
        .prop_map(|(data, binary, kind)| json!({"data": data, "binaryData": binary, "type": kind}))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c1_2_order_repetition_and_blanks_make_no_difference(
        mut state in states(), extra in vec((any::<Index>(), 0..3_usize), 0..6), order in vec(any::<u8>(), 12),
    ) {
        state.mode = HashMode::Content;
        let listed: Vec<_> = state.references.listed().cloned().collect();
        let mut shuffled = listed.clone();
        if !listed.is_empty() {
            shuffled.extend(extra.iter().map(|(index, _)| index.get(&listed).clone()));
        }
        let mut order = order.iter();
        shuffled.sort_by_cached_key(|_| order.next());
        let blanks = extra.iter().map(|(_, n)| " ".repeat(*n) + ",").collect::<String>();
        let list = |kind| {
            let names = shuffled.iter().filter(|name| name.kind == kind);
            names.fold(blanks.clone(), |list, name| list + " " + &name.name + "\t," + &blanks)
        };
        let (configmaps, secrets) = (list(ConfigKind::ConfigMap), list(ConfigKind::Secret));
        let other = State {
            references: sap::references(NAMESPACE, Some(&configmaps), Some(&secrets)), ..state.clone()
        };
        // In SAP's hash they do (2.4), and so they do to whoever recognises it.
        prop_assume!(!state.is_saps() && !other.is_saps());
        prop_assert_eq!(state.ask(), other.ask());
    }

    #[test]
    fn c2_1_different_content_gives_different_digests_and_equal_content_equal_ones(
        one in objects(), other in objects(),
    ) {
        let object = ConfigRef::secret(NAMESPACE, "a");
        let of = |json: &Value| {
            let summary = ContentSummary::read(json.to_string().as_bytes(), &Keys::All).expect("content");
            Digest::of(&key(), &object, &summary.sum)
        };
        prop_assert_eq!(of(&one) == of(&other), one == other);
    }

    #[test]
    fn c2_1_any_edit_of_content_changes_the_digest(
        text in "\\PC{1,20}", at in any::<Index>(), new in any::<char>(),
    ) {
        let mut chars: Vec<_> = text.chars().collect();
        let at = at.index(chars.len());
        prop_assume!(chars[at] != new);
        let name = ConfigRef::configmap(NAMESPACE, "a");
        chars[at] = new;
        let replaced: String = chars.iter().collect();
        chars.remove(at);
        let removed: String = chars.iter().collect();
        for edited in [replaced, removed] {
            prop_assert_ne!(digest(&key(), &name, &edited), digest(&key(), &name, &text));
        }
    }

    #[test]
    fn c2_2_different_records_give_different_hashes(one in records(), other in records()) {
        let of = |records| ConfigHash::of_content(&key(), NAMESPACE, records);
        prop_assert_eq!(of(&one) == of(&other), one == other);
    }

    #[test]
    fn c2_3_observed_config_is_read_back_as_it_was_written((records, witnesses) in witnessed_records(), key_id in ".{0,8}", hash in proptest::option::of(".{0,8}")) {
        let observed = Observed { key_id: key_id.into(), hash: hash.clone(), records, witnesses };
        let text = observed.to_annotation(NAMESPACE);
        prop_assert_eq!(Observed::parse(&text, NAMESPACE, hash.as_deref()), Some(observed));
    }

    #[test]
    fn c2_3_no_text_makes_observed_config_panic(text in ".{0,80}", value in json_values(), hash in ".{0,4}") {
        let parse = |text: &str| Observed::parse(text, NAMESPACE, Some(&hash));
        prop_assert_eq!(parse(&text), None);
        prop_assert_eq!(parse(&value.to_string()), None);
        for records in [
            json!({"version": 1, "key": "k", "hash": hash, "configmaps": value}),
            json!({"version": 2, "key": "k", "hash": hash, "secrets": value}),
            json!({"version": 2, "key": "k", "hash": hash, "followed": {"configmaps": value}}),
            json!({"version": 2, "key": "k", "hash": hash, "configmaps": {"a": value}}),
        ] {
            if let Some(observed) = parse(&records.to_string()) {
                prop_assert_eq!(parse(&observed.to_annotation(NAMESPACE)), Some(observed));
            }
        }
    }

    #[test]
    fn c4_6_no_json_makes_a_workload_panic(value in json_values(), text in ".{0,40}") {
        let _ = Workload::read(DEPLOYMENT, &text);
        for text in [value.to_string(), json!({"metadata": {"annotations": value}}).to_string(),
            json!({"spec": {"template": {"spec": value}}}).to_string()]
        {
            if let Ok(workload) = Workload::read(DEPLOYMENT, &text) {
                let target = Target { hash: Some("h".into()), observed: Some("o".into()) };
                let (fitted, _) = target.fitted_to(&workload);
                let _ = (fitted.admission_patch(DEPLOYMENT, &workload), fitted.merge_patch(DEPLOYMENT, &workload));
            }
        }
    }

    #[test]
    fn c4_1_applying_a_verdict_leaves_nothing_to_do(mut state in states()) {
        let before = state.clone();
        let first = state.ask();
        state.apply(&first);
        let second = state.ask();
        match first {
            Verdict::Undecided(_) | Verdict::Defer { .. } => prop_assert_eq!(&second, &first),
            Verdict::Keep => prop_assert_eq!(&second, &Verdict::Keep),
            // Under a new key the records come first, and then the reload is deferred.
            Verdict::Observe(_)
                if before.key != key()
                    && matches!(second, Verdict::Defer { .. } | Verdict::Undecided(_)) => {}
            Verdict::Observe(_) | Verdict::Act { .. } | Verdict::Reload { .. } => {
                prop_assert_eq!(&second, &Verdict::Keep, "{:?}", first);
            }
        }
    }

    #[test]
    fn c2_3_witnesses_spare_reads_and_make_no_other_difference(state in states()) {
        let contents = |asked: Vec<Query>| -> BTreeSet<Query> {
            asked.into_iter().filter(|query| matches!(query.depth, Depth::Content(_))).collect()
        };
        let (decision, asked) = state.decide_asking();
        let (expected, asked_without) = state.without_witnesses().decide_asking();
        prop_assert_eq!(gist(&decision.verdict), gist(&expected.verdict));
        if let (Verdict::Defer { missing, .. }, Verdict::Defer { missing: expected, .. }) =
            (&decision.verdict, &expected.verdict)
        {
            prop_assert_eq!(missing, expected);
        }
        prop_assert_eq!(decision.unknown, expected.unknown);
        prop_assert_eq!(decision.key_was_replaced, expected.key_was_replaced);
        prop_assert!(contents(asked).is_subset(&contents(asked_without)));
    }

    #[test]
    fn c3_the_owners_rollout_leaves_the_reconciler_nothing_to_do(mut state in states()) {
        state.context = Context::Rollout;
        let verdict = state.ask();
        let is_deferred = matches!(verdict, Verdict::Defer { .. });
        prop_assert!(!is_deferred);
        state.apply(&verdict);
        state.context = Context::Steady;
        if !matches!(verdict, Verdict::Undecided(_)) {
            prop_assert_eq!(state.ask(), Verdict::Keep);
        }
    }

    #[test]
    fn c3_15_an_unreadable_reference_that_is_recorded_causes_nothing_and_keeps_its_record(mut state in states()) {
        state.tolerates_unknown = true;
        let decision = state.decide();
        let recorded = state.recorded().map(|observed| observed.records).unwrap_or_default();
        match decision.verdict {
            Verdict::Act { .. } | Verdict::Reload { .. } => {
                let (causes, observed) = match decision.verdict {
                    Verdict::Reload { causes, observed, .. } => (causes, observed),
                    Verdict::Act { causes, observed } => (causes, Some(observed)),
                    _ => unreachable!(),
                };
                let of_unknown = |name: &&ConfigRef| decision.unknown.contains(name) && recorded.contains_key(*name);
                prop_assert_eq!(causes.iter().filter_map(Cause::reference).find(of_unknown), None);
                for name in &decision.unknown {
                    let now = observed.as_ref().expect("recorded").records[name].seen;
                    let kept = recorded.get(name).map(|record| record.seen).filter(|it| state.key == key() || *it == Seen::Absent);
                    prop_assert_eq!(now, kept.unwrap_or(Seen::Uncompared));
                }
            }
            Verdict::Undecided(names) => {
                // Else something else is asked for: what a hash without observed-config stands for, or SAP's value.
                let may_wait = state.mode == HashMode::Version
                    || ((state.hash.is_some() || !state.moves_hash) && state.recorded().is_none());
                prop_assert!(may_wait && names == decision.unknown || state.mode == HashMode::Version);
            }
            Verdict::Keep | Verdict::Observe(_) | Verdict::Defer { .. } => {}
        }
    }

    #[test]
    fn c9_5_where_changes_are_not_rolled_out_the_same_is_done_about_them_but_the_hash_stays(mut state in states()) {
        state.context = Context::Steady;
        state.mode = HashMode::Content;
        state.moves_hash = true;
        let reload = state.ask();
        state.moves_hash = false;
        match (reload, state.ask()) {
            (Verdict::Reload { causes, observed, .. }, Verdict::Act { causes: same, observed: recorded }) => {
                prop_assert_eq!(causes, same);
                prop_assert_eq!(observed.map(|it| it.records), Some(recorded.records));
                prop_assert_eq!(recorded.hash, state.hash);
            }
            // Opting in and editing lists are no changes of configuration.
            (Verdict::Reload { causes, .. } | Verdict::Defer { causes, .. }, Verdict::Observe(Some(recorded))) => {
                prop_assert!(causes.iter().all(|it| matches!(it, Cause::NoHash | Cause::Unwatched | Cause::Listed(_) | Cause::Unlisted(_))), "{causes:?}");
                prop_assert_eq!(recorded.hash, state.hash);
            }
            // A workload that is seen first is recorded as far as it can be read, and that is all.
            (Verdict::Reload { .. } | Verdict::Defer { .. } | Verdict::Undecided(_),
                Verdict::Observe(_) | Verdict::Keep | Verdict::Undecided(_)) if state.recorded().is_none() => {}
            (same, act) => prop_assert_eq!(same, act),
        }
    }

    /// Neither as there nor as absent: as if it held what it held before.
    #[test]
    fn c3_15_the_others_are_decided_as_if_the_unreadable_were_unchanged(mut state in states()) {
        state.mode = HashMode::Content;
        // The digests that are known are made with it.
        prop_assume!(state.key == key());
        state.tolerates_unknown = true;
        let observed = state.recorded();
        prop_assume!(observed.as_ref().is_some_and(|observed| observed.is_comparable(&state.key)));
        let unchanged = |name: &ConfigRef, lookup: &Lookup| {
            let record = observed.as_ref().and_then(|observed| observed.records.get(name));
            match (lookup, record.map(|record| record.seen)) {
                (Lookup::Unknown, Some(Seen::Digest(digest))) => Lookup::Found(found(&key(), "u", "1", digest)),
                (lookup, _) => lookup.clone(),
            }
        };
        let mut other = state.clone();
        other.known = state.known.iter().map(|(name, lookup)| (name.clone(), unchanged(name, lookup))).collect();
        prop_assert_eq!(gist(&state.ask()), gist(&other.ask()));
    }

    #[test]
    fn c4_2_without_tolerance_nothing_is_decided_while_a_reference_is_unreadable(mut state in states()) {
        state.tolerates_unknown = false;
        let decision = state.decide();
        if !decision.unknown.is_empty() {
            prop_assert_eq!(decision.verdict, Verdict::Undecided(decision.unknown));
        }
    }

    #[test]
    fn c3_4_no_reload_of_ours_is_made_while_a_required_object_or_key_is_missing(mut state in states()) {
        state.mode = HashMode::Content;
        state.context = Context::Steady;
        let is_missing = state.uses.required_keys().any(|(name, mut keys)| match state.known.get(name) {
            Some(Lookup::Absent) => true,
            Some(Lookup::Found(found)) => {
                keys.any(|key| found.keys.as_ref().is_some_and(|present| !present.contains(key)))
            }
            Some(Lookup::Unknown | Lookup::Unfollowed) | None => false,
        });
        match state.ask() {
            Verdict::Reload { causes, .. } => {
                let is_the_owners =
                    |cause: &Cause| matches!(cause, Cause::Listed(_) | Cause::Unlisted(_) | Cause::NoHash);
                prop_assert!(!is_missing || causes.iter().all(is_the_owners), "{causes:?}");
            }
            Verdict::Defer { missing, .. } => prop_assert!(is_missing && !missing.is_empty()),
            _ => {}
        }
    }

    #[test]
    fn c2_1_a_hash_that_we_set_is_a_function_of_what_is_recorded(state in states()) {
        if let Verdict::Reload { hash, observed, causes } = state.ask() {
            prop_assert!(!causes.is_empty());
            match state.mode {
                HashMode::Version => prop_assert_eq!(observed, None),
                HashMode::Content => {
                    let observed = observed.expect("recorded");
                    prop_assert_eq!(observed.hash.as_deref(), Some(hash.as_str()));
                    prop_assert_eq!(hash, ConfigHash::of_content(&state.key, NAMESPACE, &observed.records));
                    prop_assert!(observed.records.keys().eq(state.references.objects()));
                }
            }
        }
    }

    #[test]
    fn c4_1_a_patch_that_is_applied_gives_what_was_aimed_at(
        before in states(), template_metadata in 0..4, trigger in any::<bool>(), after in states(),
    ) {
        let mut manifest = Manifest::new();
        match template_metadata {
            0 => manifest = manifest.without("/spec/template", "metadata"),
            1 => manifest = manifest.at("/spec/template/metadata", Value::Null),
            2 => manifest = manifest.at("/spec/template/metadata", json!({"annotations": null})),
            _ => {}
        }
        if let Some(hash) = &before.hash {
            manifest = manifest.hash(hash);
        }
        if let Some(observed) = &before.observed {
            manifest = manifest.observed(observed);
        }
        if trigger {
            manifest = manifest.trigger("t");
        }
        let workload = manifest.read();
        let target = after.target();
        let mut admitted = manifest.clone();
        json_patch::patch(&mut admitted.0, &target.admission_patch(DEPLOYMENT, &workload)).expect("it applies");
        prop_assert!(target.is_met_by(&admitted.read()), "{:?}", admitted);
        let text = manifest.0.to_string();
        let mut guarded = manifest.clone();
        if let Some(patch) = target.guarded_patch(&workload, &Guard::of(DEPLOYMENT, &text).expect("a workload")) {
            apply_guarded(&mut guarded.0, &patch).expect("it applies");
        }
        prop_assert!(target.is_met_by(&guarded.read()), "{:?}", guarded);
        let mut reconciled = manifest.clone();
        if let Some(patch) = target.merge_patch(DEPLOYMENT, &workload) {
            json_patch::merge(&mut reconciled.0, &patch);
        } else {
            prop_assert!(target.is_met_by(&workload));
        }
        prop_assert!(target.is_met_by(&reconciled.read()), "{:?}", reconciled);
    }
}
