//! The principle of section 3 over time, for what is followed without being listed: keys that pods read, marks, labels of the
//! namespace and exclude lists come and go in a random history, and so does the operator.
//!
//! Beside it stands an oracle that knows what pods saw when they started, and who opted in for what; the decisions know
//! neither. What was not followed counts from when it is (3.25, 3.26): a reload is due just if pods that run would see
//! something else of it now. Pods can start whenever they are to; `simulation.rs` has those that wait.
//! What restarts them is another hash or, where a change is not rolled out (9.5), something else: the history is the same.

mod support;

#[path = "support/town.rs"]
mod town;

use std::collections::{BTreeMap, BTreeSet};

use pod_reloader_core::decide::Verdict;
use pod_reloader_core::dialect::own::{AUTO, Auto, EXCLUDE_CONFIGMAPS, EXCLUDE_SECRETS};
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use support::manifest::Manifest;
use support::{cm, secret};
use town::{FOLLOW, IGNORE, Marks, Town, UNMARKED};

const OBJECTS: usize = 3;

/// How the template uses an object: all of it, or its key "k".
#[derive(Clone, Copy, Debug, PartialEq)]
struct Use {
    is_whole: bool,
    is_optional: bool,
}

/// What the objects hold under "k" and "o".
type Data = (Option<u8>, Option<u8>);
/// What pods see of an object, if anything.
type View = Option<Data>;
/// A pod template, our hash apart.
type Template = (bool, [Option<Use>; OBJECTS]);

/// The workload's own words.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Words {
    auto: Option<&'static str>,
    excluded: [bool; OBJECTS],
}

#[derive(Clone, Debug)]
enum Event {
    /// Somebody writes an object, with other marks perhaps.
    Put(usize, Data, Option<Marks>),
    Mark(usize, Marks),
    Delete(usize),
    /// The owner writes the workload.
    Write(Option<Words>, Option<Template>),
    /// The label of the namespace is another.
    Label(Auto),
    /// All has been quiet for the settle window.
    Settle,
    /// The reconciler is away, or back.
    Away(bool),
}

fn templates() -> impl Strategy<Value = Template> {
    let uses =
        (any::<bool>(), any::<bool>()).prop_map(|(is_whole, is_optional)| Use { is_whole, is_optional });
    (any::<bool>(), proptest::array::uniform3(proptest::option::weighted(0.8, uses)))
}

fn words() -> impl Strategy<Value = Words> {
    let values = select(vec![
        None,
        None,
        Some("true"),
        Some("true"),
        Some("configmaps"),
        Some("secrets"),
        Some("false"),
    ]);
    (values, proptest::array::uniform3(proptest::bool::weighted(0.2)))
        .prop_map(|(auto, excluded)| Words { auto, excluded })
}

fn events() -> impl Strategy<Value = Event> {
    let object = 0..OBJECTS;
    let marks = || select(vec![FOLLOW, FOLLOW, UNMARKED, IGNORE, Marks { follow: true, ignore: true }]);
    let data = (proptest::option::weighted(0.8, 0..2_u8), proptest::option::weighted(0.7, 0..2_u8));
    prop_oneof![
        8 => (object.clone(), data, proptest::option::weighted(0.3, marks()))
            .prop_map(|(object, data, marks)| Event::Put(object, data, marks)),
        4 => (object.clone(), marks()).prop_map(|(object, marks)| Event::Mark(object, marks)),
        3 => object.prop_map(Event::Delete),
        3 => words().prop_map(|words| Event::Write(Some(words), None)),
        2 => (proptest::option::of(words()), templates())
            .prop_map(|(words, template)| Event::Write(words, Some(template))),
        2 => select(vec![Auto::Off, Auto::Off, Auto::Both, Auto::ConfigMaps, Auto::Secrets]).prop_map(Event::Label),
        6 => Just(Event::Settle),
        1 => any::<bool>().prop_map(Event::Away),
    ]
}

fn name(object: usize) -> ConfigRef {
    [cm("a"), cm("b"), secret("a")][object].clone()
}

struct Cluster {
    town: Town,
    objects: BTreeMap<usize, (Data, Marks)>,
    template: Template,
    words: Words,
    is_away: bool,
    /// What running pods saw of what they are known to follow, or would have seen when that began.
    seen: BTreeMap<usize, View>,
}

impl Cluster {
    fn new(template: Template, words: Words, label: Auto, is_created: bool, moves_hash: bool) -> Self {
        let mut town = Town::new(manifest(Manifest::new(), template, words));
        town.label = label;
        town.moves_hash = moves_hash;
        let mut cluster =
            Self { town, objects: BTreeMap::new(), template, words, is_away: false, seen: BTreeMap::new() };
        for object in 0..OBJECTS {
            cluster.put(object, (Some(0), Some(0)), UNMARKED);
        }
        if is_created {
            cluster.town.create();
            assert_eq!(cluster.town.hash().is_some(), (0..OBJECTS).any(|it| cluster.is_followed(it, false)));
            cluster.see_all();
        }
        cluster.reconcile();
        cluster
    }

    fn put(&mut self, object: usize, data: Data, marks: Marks) {
        let values = [("k", data.0), ("o", data.1)].map(|(key, value)| Some((key, value?.to_string())));
        let values: Vec<_> = values.iter().flatten().map(|(key, value)| (*key, value.as_str())).collect();
        self.town.put_marked(&name(object), &values, marks);
        self.objects.insert(object, (data, marks));
    }

    /// What a pod that starts now sees of it.
    fn view(&self, object: usize) -> View {
        let (data, _) = self.objects.get(&object)?;
        let Use { is_whole, .. } = self.template.1[object]?;
        if is_whole { Some(*data) } else { data.0.map(|k| (Some(k), None)) }
    }

    /// Whether pods can start, as far as that object matters.
    fn suffices(&self, object: usize) -> bool {
        self.template.1[object].is_none_or(|of| of.is_optional || self.view(object).is_some())
    }

    fn could_start(&self) -> bool {
        (0..OBJECTS).all(|object| self.suffices(object))
    }

    /// Section 7, in its own words: whether it is followed, if objects say nothing against it. The webhook knows of marks
    /// what is recorded, and so does everybody else of an object that is gone: its mark went with it.
    fn may_follow(&self, object: usize, is_marked: bool) -> bool {
        let kind = name(object).kind;
        let own = self.words.auto.and_then(Auto::parse);
        let is_open = own != Some(Auto::Off);
        let by_label = is_open && self.town.label.includes(kind);
        let is_used = self.template.1[object].is_some() && !self.words.excluded[object];
        is_used && (own.is_some_and(|auto| auto.includes(kind)) || by_label || (is_open && is_marked))
    }

    /// Whether it is, if only what is recorded or, too, what is marked now counts.
    fn is_followed(&self, object: usize, knows_marks: bool) -> bool {
        let is_recorded = self.seen.contains_key(&object);
        match self.objects.get(&object) {
            Some((_, marks)) => {
                let is_marked = marks.follow && (knows_marks || is_recorded);
                !marks.ignore && self.may_follow(object, is_marked)
            }
            None => self.may_follow(object, is_recorded),
        }
    }

    fn is_managed_by_the_webhook(&self) -> bool {
        (0..OBJECTS).any(|object| self.may_follow(object, self.seen.contains_key(&object)))
    }

    fn followed(&self) -> BTreeSet<usize> {
        (0..OBJECTS).filter(|object| self.is_followed(*object, true)).collect()
    }

    /// Pods start, and all that is followed is known.
    fn see_all(&mut self) {
        self.seen = self.followed().into_iter().map(|object| (object, self.view(object))).collect();
    }

    /// What running pods would see otherwise now. Those that could not start without it are left alone.
    fn stale(&self) -> BTreeSet<usize> {
        let followed = self.followed();
        let is_stale = |object: &usize| {
            let seen = self.seen[object];
            let appears = seen.is_none() && !self.template.1[*object].is_some_and(|of| of.is_optional);
            self.suffices(*object) && !appears && seen != self.view(*object)
        };
        self.seen.keys().copied().filter(|object| followed.contains(object)).filter(is_stale).collect()
    }

    /// What the reconciler does at once, at every event: record.
    fn reconcile(&mut self) {
        if self.is_away {
            return;
        }
        let verdict = self.town.verdict();
        if !self.stale().is_empty() {
            let is_due =
                matches!(verdict, Some(Verdict::Reload { .. } | Verdict::Act { .. } | Verdict::Defer { .. }));
            assert!(is_due, "3: {:?} differ, {verdict:?}", self.stale());
            return;
        }
        let is_silent = matches!(verdict, None | Some(Verdict::Keep | Verdict::Observe(_)));
        assert!(is_silent, "3: nothing differs, {verdict:?}");
        self.town.reconcile();
        if verdict.is_none() {
            // What is recorded stays on what nobody manages any more.
            return self.expect_recorded();
        }
        let followed = self.followed();
        self.seen.retain(|object, _| followed.contains(object));
        for object in followed {
            let view = self.view(object);
            let seen = self.seen.entry(object).or_insert(view);
            // No pod can have started without it (3.12).
            if seen.is_none() && !self.template.1[object].is_some_and(|of| of.is_optional) {
                *seen = view;
            }
        }
        self.expect_recorded();
    }

    /// What it does once all is quiet.
    fn settle(&mut self) {
        if self.is_away || self.stale().is_empty() {
            return self.reconcile();
        }
        let verdict = self.town.verdict();
        // Which keys it has nobody needs to know of what is not followed (4.3).
        let is_known_missing = |it: &usize| {
            !self.suffices(*it) && (self.is_followed(*it, true) || !self.objects.contains_key(it))
        };
        let (stale, must_wait) = (self.stale(), (0..OBJECTS).any(|it| is_known_missing(&it)));
        match verdict {
            Some(Verdict::Reload { .. } | Verdict::Act { .. }) if !must_wait => {
                self.town.reconcile();
                self.see_all();
                self.reconcile();
            }
            Some(Verdict::Defer { .. }) if !self.could_start() => {}
            other => unreachable!("3: {stale:?} differ, and pods must wait: {must_wait}, but {other:?}"),
        }
    }

    fn write(&mut self, words: Words, template: Template) {
        let before = (self.words, self.template);
        let was_managed = self.is_managed_by_the_webhook();
        (self.words, self.template) = (words, template);
        if !self.could_start() {
            (self.words, self.template) = before;
            return;
        }
        let written = manifest(self.town.manifest.clone(), template, words);
        let rolls_out = self.town.write(written);
        assert_eq!(rolls_out, template != before.1, "3.27: pods are rolled out just if the owner does so");
        match (was_managed, self.is_managed_by_the_webhook()) {
            (true, false) => self.seen.clear(),
            (_, true) if rolls_out => {
                let followed = (0..OBJECTS).filter(|object| self.is_followed(*object, false));
                self.seen = followed.map(|object| (object, self.view(object))).collect();
            }
            _ => {}
        }
        self.expect_recorded();
    }

    fn expect_recorded(&self) {
        let recorded: BTreeSet<_> = self.town.records().into_keys().collect();
        assert_eq!(recorded, self.seen.keys().map(|object| name(*object)).collect(), "3.26, 3.27");
    }

    fn live_through(&mut self, event: &Event) {
        match event {
            Event::Put(object, data, marks) => {
                let stand = self.objects.get(object).map_or(UNMARKED, |(_, marks)| *marks);
                self.put(*object, *data, marks.unwrap_or(stand));
            }
            Event::Mark(object, marks) => {
                if let Some(it) = self.objects.get_mut(object) {
                    it.1 = *marks;
                    self.town.mark(&name(*object), *marks);
                }
            }
            Event::Delete(object) => {
                if self.objects.remove(object).is_some() {
                    self.town.delete(&name(*object));
                }
            }
            Event::Write(words, template) => {
                self.write(words.unwrap_or(self.words), template.unwrap_or(self.template));
            }
            Event::Label(label) => self.town.label = *label,
            Event::Settle => self.settle(),
            Event::Away(is_away) => self.is_away = *is_away,
        }
        self.reconcile();
    }
}

/// The workload with that template and those words; all else stays.
fn manifest(mut manifest: Manifest, (generation, uses): Template, words: Words) -> Manifest {
    let (mut env, mut env_from) = (vec![], vec![]);
    for (object, of) in uses.iter().enumerate() {
        let Some(Use { is_whole, is_optional }) = of else { continue };
        let source = json!({"name": &*name(object).name, "key": "k", "optional": is_optional});
        let is_secret = name(object).kind == ConfigKind::Secret;
        match (is_whole, is_secret) {
            (true, true) => env_from.push(json!({"secretRef": source})),
            (true, false) => env_from.push(json!({"configMapRef": source})),
            (false, true) => env.push(json!({"name": "X", "valueFrom": {"secretKeyRef": source}})),
            (false, false) => env.push(json!({"name": "X", "valueFrom": {"configMapKeyRef": source}})),
        }
    }
    manifest.0["spec"]["template"]["spec"] =
        json!({"containers": [{"name": "main", "env": env, "envFrom": env_from}]});
    let list = |of: [(usize, &str); 2]| {
        let excluded = of.into_iter().filter(|(object, _)| words.excluded[*object]);
        excluded.map(|(_, pattern)| pattern).collect::<Vec<_>>().join(",")
    };
    let annotations = &mut manifest.0["metadata"]["annotations"];
    annotations[EXCLUDE_CONFIGMAPS] = list([(0, "a"), (1, "b*")]).into();
    annotations[EXCLUDE_SECRETS] = if words.excluded[2] { "?" } else { "b" }.into();
    let annotations = annotations.as_object_mut().expect("a map");
    annotations.remove(AUTO);
    annotations.extend(words.auto.map(|auto| (AUTO.to_owned(), auto.into())));
    manifest.template_annotated("generation", if generation { "1" } else { "2" })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: ProptestConfig::default().cases / 2, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn c3_over_any_history_of_marks_labels_and_keys_no_reload_is_missed_and_none_is_needless(
        template in templates(), words in words(), label in select(vec![Auto::Off, Auto::Off, Auto::Both]),
        is_created in any::<bool>(), moves_hash in any::<bool>(), history in proptest::collection::vec(events(), 1..30),
    ) {
        let mut cluster = Cluster::new(template, words, label, is_created, moves_hash);
        for event in &history {
            cluster.live_through(event);
        }
        cluster.live_through(&Event::Away(false));
        cluster.live_through(&Event::Settle);
    }
}
