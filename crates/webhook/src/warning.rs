//! What users are told along with a write. Kubernetes asks for less than 120 characters each.

use pod_reloader_core::annotation::SETTLE_WINDOW;
use pod_reloader_core::decide::{Lookup, Lookups};
use pod_reloader_core::patch::NoRoom;
use pod_reloader_core::reference::{ConfigName, MAX_REFERENCES, References};
use pod_reloader_core::template::TemplateUses;
use pod_reloader_core::workload::SettleWindow;

/// Warnings of one kind beyond this many are counted only.
const MOST: usize = 5;

/// The names that were left out of the lists.
pub(crate) fn bad_names(references: &References) -> Vec<String> {
    let bad = references.bad_names();
    let mut warnings: Vec<_> = bad
        .iter()
        .take(MOST)
        .map(|name| format!("pod-reloader: {name} is not a valid name and is left out"))
        .collect();
    let more = references.bad_count().saturating_sub(MOST);
    if more > 0 {
        warnings.push(format!("pod-reloader: {more} more names are not valid and are left out"));
    }
    warnings
}

/// Secrets that are listed where none are followed (5.9).
pub(crate) fn secrets(references: &References, are_followed: bool) -> Option<String> {
    let count = references.secrets().len();
    (!are_followed && count > 0)
        .then(|| format!("pod-reloader: Secrets are not followed here (--secrets=false); listed: {count}"))
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
pub(crate) fn unreadable(count: usize, unreadable: &[(ConfigName, String)]) -> String {
    let example = unreadable.first().map(|(name, why)| format!(" ({}: {why})", short(name)));
    let example = example.unwrap_or_default();
    left_to_reconciler(&format!("{count} reference(s) could not be read{example}"))
}

/// References that a decision was made without.
pub(crate) fn not_covered(count: usize, unreadable: &[(ConfigName, String)]) -> String {
    let example = unreadable.first().map(|(name, why)| format!(" ({}: {why})", short(name)));
    let example = example.unwrap_or_default();
    format!("pod-reloader: {count} reference(s) cannot be read and are not followed{example}")
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
pub(crate) fn missing(references: &References, uses: &TemplateUses, live: &Lookups) -> Vec<String> {
    let is_missing =
        |name: &&ConfigName| uses.need(name).is_none() && matches!(live.get(*name), Some(Lookup::Absent));
    let missing: Vec<_> = references.names().into_iter().filter(is_missing).collect();
    let mut warnings: Vec<_> = missing
        .iter()
        .take(MOST)
        .map(|name| {
            let name = short(name);
            format!(
                "pod-reloader: {name} does not exist and the pod template does not use it: is the name right?"
            )
        })
        .collect();
    if missing.len() > MOST {
        let more = missing.len() - MOST;
        warnings.push(format!(
            "pod-reloader: {more} more names do not exist and the pod template does not use them"
        ));
    }
    warnings
}

/// A name that leaves room for what is said about it.
fn short(name: &ConfigName) -> String {
    const MAX_CHARS: usize = 28;
    let mut shown: String = name.name.chars().take(MAX_CHARS).collect();
    if shown.len() < name.name.len() {
        shown.push_str("...");
    }
    format!("{} {shown}", name.kind.singular())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_reloader_core::template::Need;

    #[test]
    fn c4_2_warnings_are_few_and_short() {
        let long = |i: usize| format!("{i}{}", "x".repeat(250));
        let list: Vec<_> = (0..20).map(long).chain((0..20).map(|i| format!("No{}", long(i)))).collect();
        let references = References::parse(None, Some(&list.join(",")));
        let live: Lookups =
            references.names().into_iter().map(|name| (name.clone(), Lookup::Absent)).collect();
        let name = ConfigName::configmap(long(1));
        let mut warnings = missing(&references, &TemplateUses::default(), &live);
        warnings.extend(bad_names(&references));
        assert_eq!(warnings.len(), 12);
        warnings.push(unreadable(1000, &[(name, "no memory free for it".into())]));
        for warning in warnings {
            assert!(warning.len() <= 160, "{}: {warning}", warning.len());
        }
    }

    #[test]
    fn c4_2_a_name_that_the_template_uses_or_that_exists_is_not_warned_of() {
        let references = References::parse(Some("used,typo,unknown"), None);
        let mut uses = TemplateUses::default();
        uses.add(ConfigName::configmap("used"), Need::Optional);
        let live = [
            (ConfigName::configmap("used"), Lookup::Absent),
            (ConfigName::configmap("typo"), Lookup::Absent),
            (ConfigName::configmap("unknown"), Lookup::Unknown),
        ];
        assert_eq!(
            missing(&references, &uses, &live.into()),
            [
                "pod-reloader: configmap typo does not exist and the pod template does not use it: is the name right?"
            ]
        );
    }
}
