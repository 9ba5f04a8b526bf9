//! docs/behaviour.md and the tests: every numbered promise has a test that names it, and no test names another number.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the workspace begins.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The numbers of all promises: `**4.3** ...`, or `| **3.7** | ...` in the table of section 3.
fn promised() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/behaviour.md")).unwrap();
    let number = |line: &str| {
        let (number, _) = line.trim_start_matches("| ").strip_prefix("**")?.split_once("**")?;
        number.starts_with(|first: char| first.is_ascii_digit()).then(|| number.to_owned())
    };
    let numbers: Vec<_> = text.lines().filter_map(number).collect();
    let distinct: BTreeSet<_> = numbers.iter().cloned().collect();
    assert_eq!(numbers.len(), distinct.len(), "a number is given twice: {numbers:?}");
    distinct
}

/// The sources of all crates.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && entry.file_name().is_some_and(|name| name != "target") {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// The number that a test's name begins with: `4.3` of `c4_3_a_create_...`, `3` of `c3_over_any_history_...`.
fn number_of(name: &str) -> Option<String> {
    let mut words = name.strip_prefix('c')?.split('_');
    let is_number = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let section = words.next().filter(is_number)?;
    Some(words.next().filter(is_number).map_or(section.into(), |paragraph| format!("{section}.{paragraph}")))
}

/// All tests that name a promise, with where they are.
fn tests() -> BTreeMap<String, Vec<PathBuf>> {
    let mut files = vec![];
    for folder in ["crates", "tests", "e2e"] {
        sources(&root().join(folder), &mut files);
    }
    let mut tests: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in files {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            let name = line.strip_prefix("fn ").and_then(|line| line.split('(').next());
            if let Some(name) = name.filter(|name| number_of(name).is_some()) {
                tests.entry(name.to_owned()).or_default().push(file.clone());
            }
        }
    }
    tests
}

#[test]
fn every_numbered_promise_has_a_test_of_its_number() {
    let (promised, tests) = (promised(), tests());
    assert!(promised.len() > 50 && tests.len() > 500, "{} promises, {} tests", promised.len(), tests.len());
    let tested: BTreeSet<_> = tests.keys().filter_map(|name| number_of(name)).collect();
    let untested: Vec<_> = promised.difference(&tested).collect();
    assert!(untested.is_empty(), "no test is called after {untested:?} of docs/behaviour.md");
    let unknown: Vec<_> =
        tested.iter().filter(|number| number.contains('.') && !promised.contains(*number)).collect();
    assert!(unknown.is_empty(), "tests are called after {unknown:?}, which docs/behaviour.md does not have");
}

#[test]
fn tests_of_one_promise_at_several_levels_say_so_in_their_names() {
    let twice: Vec<_> = tests().into_iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(twice.is_empty(), "the same name in several files: {twice:#?}");
}
