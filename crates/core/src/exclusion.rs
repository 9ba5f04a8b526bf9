//! Names of config objects that `auto` is not to follow (7.3): as they are, or with `*` and `?` as in a shell.

use std::collections::BTreeSet;

use crate::mistake::Mistake;
use crate::name::{ConfigKind, ConfigRef, MAX_NAME_BYTES};
use crate::reference::Keys;

/// So many entries of both lists together count.
const MAX_ENTRIES: usize = 1_000;
/// So many steps patterns may take for one workload: a few names and patterns take some thousand, and those that are made to
/// take long end here.
const MAX_STEPS: usize = 1_000_000;

/// The exclude lists of one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusions {
    names: BTreeSet<(ConfigKind, Box<str>)>,
    patterns: Vec<(ConfigKind, Box<str>)>,
}

impl Exclusions {
    /// Adds the comma-separated list under that annotation; an entry that no name can match is left out.
    pub(crate) fn add_list(
        &mut self,
        kind: ConfigKind,
        key: &'static str,
        list: &str,
        mistakes: &mut Vec<Mistake>,
    ) {
        const MAX_MISTAKES: usize = 5;
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let is_possible = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*?".contains(c);
            if entry.len() > MAX_NAME_BYTES || !entry.chars().all(is_possible) {
                if mistakes.len() < MAX_MISTAKES {
                    mistakes.push(Mistake::Exclusion(key, entry.into()));
                }
            } else if self.names.len() + self.patterns.len() == MAX_ENTRIES {
                return mistakes.push(Mistake::TooManyExclusions);
            } else if entry.contains(['*', '?']) {
                self.patterns.push((kind, entry.into()));
            } else {
                self.names.insert((kind, entry.into()));
            }
        }
    }

    /// About how many bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        let all = self.names.iter().chain(&self.patterns);
        all.map(|entry| size_of_val(entry) + entry.1.len()).sum()
    }

    /// What is not excluded of these uses. The mistake says that there are patterns that would take too long: these do not
    /// count.
    pub(crate) fn filter<'u>(
        &self,
        uses: impl Iterator<Item = (&'u ConfigRef, Keys)>,
    ) -> (Vec<(ConfigRef, Keys)>, Option<Mistake>) {
        let mut steps = MAX_STEPS;
        let mut is_excluded = |object: &ConfigRef| {
            let mut patterns = self.patterns.iter().filter(|(kind, _)| *kind == object.kind);
            self.names.contains(&(object.kind, object.name.clone()))
                || patterns.any(|(_, it)| is_match(it.as_bytes(), object.name.as_bytes(), &mut steps))
        };
        let kept = uses
            .filter(|(object, _)| !is_excluded(object))
            .map(|(object, keys)| (object.clone(), keys))
            .collect();
        (kept, (steps == 0).then_some(Mistake::TooManyExclusions))
    }
}

/// Whether a name matches a pattern, in so many steps at most: `*` is any text, `?` any character.
fn is_match(pattern: &[u8], name: &[u8], steps: &mut usize) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last `*` is, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let Some(left) = steps.checked_sub(1) else { return false };
        *steps = left;
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = &mut star else { return false };
                *taken += 1;
                (p, n) = (*at + 1, *taken);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "pod-reloader.cs.sap.com/exclude-configmaps";

    fn exclusions(list: &str) -> (Exclusions, Vec<Mistake>) {
        let (mut exclusions, mut mistakes) = (Exclusions::default(), vec![]);
        exclusions.add_list(ConfigKind::ConfigMap, KEY, list, &mut mistakes);
        (exclusions, mistakes)
    }

    fn kept(exclusions: &Exclusions, names: &[&str]) -> (Vec<String>, Option<Mistake>) {
        let objects: Vec<_> = names.iter().map(|name| ConfigRef::configmap("shop", *name)).collect();
        let (kept, mistake) = exclusions.filter(objects.iter().map(|object| (object, Keys::All)));
        (kept.into_iter().map(|(object, _)| object.name.to_string()).collect(), mistake)
    }

    #[test]
    fn c7_3_names_and_patterns_exclude_as_in_a_shell() {
        for (list, names, expected) in [
            ("", &["a", "b"][..], &["a", "b"][..]),
            (" a ,, b", &["a", "b", "ab"], &["ab"]),
            ("*", &["a", "kube-root-ca.crt"], &[]),
            ("kube-*", &["kube-root-ca.crt", "kube", "my-kube-x"], &["kube", "my-kube-x"]),
            ("*.crt", &["kube-root-ca.crt", "crt", ".crt.x"], &["crt", ".crt.x"]),
            ("a?c", &["abc", "ac", "a.c", "abbc"], &["ac", "abbc"]),
            ("*a*b*", &["xaxbx", "ab", "ba"], &["ba"]),
            ("a*a", &["a", "aa", "aba"], &["a"]),
        ] {
            let (exclusions, mistakes) = exclusions(list);
            assert!(mistakes.is_empty(), "{list}");
            assert_eq!(kept(&exclusions, names), (expected.iter().map(ToString::to_string).collect(), None));
        }
        let (of_configmaps, _) = exclusions("*");
        let secret = [ConfigRef::secret("shop", "a")];
        assert_eq!(
            of_configmaps.filter(secret.iter().map(|it| (it, Keys::All))).0.len(),
            1,
            "a list is for its kind"
        );
    }

    #[test]
    fn c7_3_what_no_name_can_match_is_told_and_left_out() {
        let (exclusions, mistakes) = exclusions("a,Upper,x_y,[ab],b");
        assert_eq!(kept(&exclusions, &["a", "b", "c"]).0, ["c"]);
        let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(told[0], "exclude-configmaps: no name matches \"Upper\", which is left out");
        assert_eq!(told.len(), 3);
    }

    #[test]
    fn c7_3_patterns_that_are_made_to_take_long_end_and_it_is_told() {
        let nasty = vec![format!("*{}b", "a".repeat(120)); 500].join(",");
        let (exclusions, mistakes) = exclusions(&nasty);
        assert!(mistakes.is_empty());
        let long = "a".repeat(253);
        let names = vec![long.as_str(); 1_000];
        assert_eq!(kept(&exclusions, &names).1, Some(Mistake::TooManyExclusions));
        let many: Vec<_> = (0..1_001).map(|i| format!("team-shop-frontend-{i}")).collect();
        assert_eq!(super::tests::exclusions(&many.join(",")).1, [Mistake::TooManyExclusions]);
        let (exclusions, mistakes) = super::tests::exclusions(&many[..1_000].join(","));
        let names: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!((kept(&exclusions, &names), mistakes), ((vec![many[1_000].clone()], None), vec![]));
    }
}
