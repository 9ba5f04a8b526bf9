//! Admission warnings, which users see with their writes. Kubernetes asks for less than 120 characters each.

use pod_reloader_core::annotation::SETTLE_WINDOW;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::kind::KindRef;
use pod_reloader_core::lookup::{Lookup, Lookups};
use pod_reloader_core::mistake::Mistake;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::patch::NoRoom;
use pod_reloader_core::reference::{MAX_REFERENCES, Origin, References};
use pod_reloader_core::workload::{NoTemplate, SettleWindow, Workload};
use pod_reloader_k8s::reads::Reads;

/// Warnings of one kind beyond this many are counted only.
const MAX_WARNINGS: usize = 5;

/// The names that were left out of the lists.
pub(crate) fn bad_names(references: &References) -> Vec<String> {
    let bad = references.bad_names();
    let mut warnings: Vec<_> = bad
        .iter()
        .take(MAX_WARNINGS)
        .map(|name| format!("pod-reloader: {name} is not a valid name and is left out"))
        .collect();
    let more = references.bad_count().saturating_sub(MAX_WARNINGS);
    if more > 0 {
        warnings.push(format!("pod-reloader: {more} more names are not valid and are left out"));
    }
    warnings
}

/// What is wrong with our own words.
pub(crate) fn mistakes(mistakes: &[Mistake]) -> impl Iterator<Item = String> {
    mistakes.iter().take(MAX_WARNINGS).map(|mistake| format!("pod-reloader: {mistake}"))
}

/// What is followed, but does not count for hashes as SAP makes them (2.4).
pub(crate) fn versions(references: &References, mode: HashMode) -> Option<String> {
    let count = references.all().values().filter(|it| it.origin == Origin::Followed).count();
    (mode == HashMode::Version && count > 0)
        .then(|| "pod-reloader: with --hash=version only the lists count; auto follows nothing".into())
}

/// Listed objects whose owners have them ignored (7.5).
pub(crate) fn ignored(references: &References, known: &Lookups) -> Vec<String> {
    let is_ignored = |object: &ConfigRef| matches!(known.get(object), Some(Lookup::Found(found)) if found.version.marks.ignore);
    let all = references.all();
    let ignored = all.iter().filter(|(object, it)| it.origin == Origin::Listed && is_ignored(object));
    let told = ignored.take(MAX_WARNINGS).map(|(object, _)| {
        format!("pod-reloader: {} is annotated to be ignored, but is listed: it counts", short(object))
    });
    told.collect()
}

/// Secrets that are listed where none are followed (5.9).
pub(crate) fn secrets(references: &References, are_followed: bool) -> Option<String> {
    let count = references.secrets().len();
    (!are_followed && count > 0).then(|| {
        format!("pod-reloader: Secrets are not followed here (--secrets=false); listed or used: {count}")
    })
}

/// Why one that has opted in has no place for a hash, to be followed by what is done then.
pub(crate) fn no_template(kind: KindRef, workload: &Workload) -> Option<String> {
    if workload.is_ignored || !(workload.references.opted_in() || workload.is_auto) {
        return None;
    }
    let template = kind.template.join(".");
    workload.no_template.map(|why| match why {
        NoTemplate::Elsewhere => {
            let (beside, _) = template.rsplit_once('.').unwrap_or_default();
            let member = kind.template_elsewhere.unwrap_or_default();
            format!("annotate the workload that {beside}.{member} names, which has the pod template")
        }
        NoTemplate::Missing => format!("it has no pod template ({template})"),
    })
}

/// A settle window that does not count.
pub(crate) fn settle_window(window: SettleWindow) -> Option<String> {
    (window == SettleWindow::Invalid).then(|| {
        format!(
            "pod-reloader: {SETTLE_WINDOW} is not a duration like 30s or 5m (at most 24h); the default is used"
        )
    })
}

/// An annotation that had to be left out.
pub(crate) fn no_room(no_room: NoRoom) -> String {
    match no_room {
        NoRoom::Observed => {
            "pod-reloader: annotations would pass 256 KiB; observed-config is left out".into()
        }
        NoRoom::Hash => {
            "pod-reloader: the template's annotations would pass 256 KiB; no config hash is set".into()
        }
    }
}

/// A decision that was left to the reconciler, and why.
pub(crate) fn left_to_reconciler(why: &str) -> String {
    format!("pod-reloader: {why}; the config hash is left to the reconciler")
}

/// A decision that could not be made, since some references could not be read.
pub(crate) fn unreadable(objects: &[ConfigRef], reads: &Reads) -> String {
    let count = objects.len();
    left_to_reconciler(&format!("{count} reference(s) could not be read{}", example(objects, reads)))
}

/// References that a decision was made without.
pub(crate) fn not_covered(objects: &[ConfigRef], reads: &Reads) -> String {
    let count = objects.len();
    format!(
        "pod-reloader: {count} reference(s) cannot be read and are not followed{}",
        example(objects, reads)
    )
}

/// The first of these, and why; other objects, of which only existence was asked, may be unreadable as well.
fn example(objects: &[ConfigRef], reads: &Reads) -> String {
    let example = reads.unreadable().find(|(object, _)| objects.contains(object));
    example.map_or_else(String::new, |(object, why)| format!(" ({}: {why})", short(object)))
}

/// Entries beyond the number that counts.
pub(crate) fn left_out(references: &References) -> Option<String> {
    let count = references.left_out();
    (count > 0).then(|| {
        format!(
            "pod-reloader: only {MAX_REFERENCES} references count for one workload; entries left out: {count}"
        )
    })
}

/// Listed names that are likely wrong: nothing of that name exists, and nothing in the template uses it.
pub(crate) fn missing(references: &References, known: &Lookups) -> Vec<String> {
    let all = references.all();
    let missing: Vec<_> = all
        .iter()
        .filter(|(object, reference)| {
            reference.need.is_none() && matches!(known.get(**object), Some(Lookup::Absent))
        })
        .map(|(object, _)| *object)
        .collect();
    let mut warnings: Vec<_> = missing
        .iter()
        .take(MAX_WARNINGS)
        .map(|object| {
            let name = short(object);
            format!(
                "pod-reloader: {name} does not exist and the pod template does not use it: is the name right?"
            )
        })
        .collect();
    if missing.len() > MAX_WARNINGS {
        let more = missing.len() - MAX_WARNINGS;
        warnings.push(format!(
            "pod-reloader: {more} more names do not exist and the pod template does not use them"
        ));
    }
    warnings
}

/// A name, short enough that the rest of the warning fits.
fn short(object: &ConfigRef) -> String {
    const MAX_CHARS: usize = 28;
    let mut shown: String = object.name.chars().take(MAX_CHARS).collect();
    if shown.len() < object.name.len() {
        shown.push_str("...");
    }
    format!("{} {shown}", object.kind.singular())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_reloader_core::dialect::sap;
    use pod_reloader_core::template::{Need, TemplateUses};
    use pod_reloader_k8s::reader::Unreadable;

    #[test]
    fn c4_2_warnings_are_few_and_short() {
        let long = |i: usize| format!("{i}{}", "x".repeat(250));
        let list: Vec<_> = (0..20).map(long).chain((0..20).map(|i| format!("No{}", long(i)))).collect();
        let references = sap::references("shop", None, Some(&list.join(",")));
        let known: Lookups =
            references.objects().into_iter().map(|object| (object.clone(), Lookup::Absent)).collect();
        let mut reads = Reads::default();
        let unreadable_one = ConfigRef::configmap("shop", long(1));
        reads.add(unreadable_one.clone(), Err(Unreadable::NoRoom));
        let mut warnings = missing(&references, &known);
        warnings.extend(bad_names(&references));
        assert_eq!(warnings.len(), 12);
        warnings.push(unreadable(&vec![unreadable_one; 1000], &reads));
        for warning in warnings {
            assert!(warning.len() <= 160, "{}: {warning}", warning.len());
        }
    }

    #[test]
    fn c4_2_a_name_that_the_template_uses_or_that_exists_is_not_warned_of() {
        let references = sap::references("shop", Some("used,typo,unknown"), None);
        let mut uses = TemplateUses::default();
        uses.add(ConfigRef::configmap("shop", "used"), Need::Optional);
        let known = [
            (ConfigRef::configmap("shop", "used"), Lookup::Absent),
            (ConfigRef::configmap("shop", "typo"), Lookup::Absent),
            (ConfigRef::configmap("shop", "unknown"), Lookup::Unknown),
        ];
        assert_eq!(
            missing(&references.needed_by(&uses), &known.into()),
            [
                "pod-reloader: configmap typo does not exist and the pod template does not use it: is the name right?"
            ]
        );
    }
}
