use super::*;
use crate::name::{ConfigKind, ConfigRef};
use crate::reference::{Keys, MAX_REFERENCES, Origin};
use crate::template::Need;

/// Follows one key of each object that the template uses.
struct Auto;

const AUTO: &str = "example.com/auto";
const AUTO_KEY: Key = Key { name: AUTO, place: Place::Annotation, effect: Effect::OptsIn(&ConfigKind::ALL) };

impl Dialect for Auto {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn keys(&self) -> &'static [Key] {
        &[AUTO_KEY]
    }

    fn select(&self, entries: &Entries, uses: &TemplateUses, _namespace: &Arc<str>) -> Selection {
        let Some(key) = entries.get(Place::Annotation, AUTO) else { return Selection::default() };
        let followed = uses.objects().map(|object| (object.clone(), Keys::only([key])));
        let references = References::default().following(followed);
        Selection { references, is_left_alone: key == "off", ..Selection::default() }
    }
}

fn entry(name: &str, value: &str) -> Entries {
    let mut entries = Entries::default();
    let key = sap::Sap.keys().iter().chain(Auto.keys()).find(|key| key.name == name).unwrap();
    entries.add(key, value);
    entries
}

fn selection(entries: &[(&str, &str)], in_template: &[&str]) -> Selection {
    let mut all = Entries::default();
    for (name, value) in entries {
        all.append(entry(name, value));
    }
    let mut uses = TemplateUses::default();
    for name in in_template {
        uses.add(ConfigRef::configmap("shop", *name), Need::Required);
    }
    select(&[&Auto, &sap::Sap, &Auto], &all, &uses, &"shop".into())
}

fn names(selection: &Selection) -> Vec<(&str, Origin)> {
    let all = selection.references.all().into_values();
    all.map(|reference| (&*reference.object.name, reference.origin)).collect()
}

#[test]
fn no_two_dialects_have_a_name_in_common_and_no_key_is_one_of_our_own() {
    use crate::annotation::{CONFIG_HASH, OBSERVED_CONFIG, SETTLE_WINDOW};

    for (at, dialect) in ALL.iter().enumerate() {
        assert!(ALL[..at].iter().all(|other| other.name() != dialect.name()), "{}", dialect.name());
        for key in dialect.keys() {
            assert!(![CONFIG_HASH, OBSERVED_CONFIG, SETTLE_WINDOW].contains(&key.name), "{key:?}");
            let same = dialect.keys().iter().filter(|it| (it.name, it.place) == (key.name, key.place));
            assert_eq!(same.count(), 1, "{key:?}");
        }
    }
}

#[test]
fn what_dialects_contribute_adds_up_and_what_is_listed_stays_listed() {
    let both = selection(&[(AUTO, "k"), (sap::CONFIGMAPS, "b,a,b")], &["a", "c"]);
    assert_eq!(
        names(&both),
        [("a", Origin::Listed), ("b", Origin::Listed), ("c", Origin::Followed)],
        "whichever dialect comes first"
    );
    let listed: Vec<_> = both.references.listed().map(|object| &*object.name).collect();
    assert_eq!(listed, ["b", "a", "b"]);
    let all = both.references.all();
    assert!(all.values().all(|it| it.need.is_some() == (&*it.object.name != "b")), "{all:?}");
    let expected = [Keys::All, Keys::All, Keys::only(["k"])];
    assert!(all.into_values().map(|it| it.keys.clone()).eq(expected));
}

#[test]
fn of_what_is_followed_twice_all_keys_count_that_one_names() {
    let object = ConfigRef::configmap("shop", "a");
    let of = |keys| References::default().following([(object.clone(), keys)]);
    for (one, other, both) in [
        (Keys::only(["a"]), Keys::only(["b", "a"]), Keys::only(["a", "b"])),
        (Keys::only(["a"]), Keys::All, Keys::All),
        (Keys::All, Keys::only(["a"]), Keys::All),
    ] {
        assert_eq!(of(one.clone()).and(of(other.clone())), of(both), "{one:?} {other:?}");
    }
}

#[test]
fn being_left_alone_binds_only_what_the_same_dialect_contributes() {
    let lists = (sap::CONFIGMAPS, "a");
    let ignored = (sap::IGNORED, "true");
    let one = selection(&[lists, ignored, (AUTO, "k")], &["c"]);
    assert_eq!((names(&one), one.is_left_alone), (vec![("c", Origin::Followed)], false));
    let all = selection(&[lists, ignored, (AUTO, "off")], &["c"]);
    assert_eq!((all.references.objects().len(), all.is_left_alone), (2, true));
    let nothing = selection(&[ignored], &["c"]);
    assert_eq!((names(&nothing), nothing.is_left_alone), (vec![], true));
}

#[test]
fn c1_2_the_union_has_a_thousand_entries_at_most_the_listed_ones_first() {
    let listed: Vec<_> = (0..700).map(|n| format!("l{n}")).collect();
    let used: Vec<_> = (0..700).map(|n| format!("u{n}")).collect();
    let used: Vec<&str> = used.iter().map(|name| &**name).collect();
    let both = selection(&[(AUTO, "k"), (sap::CONFIGMAPS, &listed.join(","))], &used);
    assert_eq!((both.references.listed().count(), both.references.objects().len()), (700, MAX_REFERENCES));
    assert_eq!(both.references.left_out(), 800, "400 of each of the two that follow what is used");
}
