//! Linting, and the chart's own suites.

use std::fs;

use pod_reloader_e2e::chart;

use crate::helm::{CASES, HELMS, run};

#[test]
fn helm_finds_nothing_to_complain_of() {
    for helm in HELMS {
        for case in CASES {
            let chart = chart::folder().display().to_string();
            let mut args: Vec<String> = vec!["lint".into(), "--strict".into(), chart];
            args.extend(case.args());
            let said = run(helm, &args).unwrap_or_else(|error| panic!("{helm}, {case:?}: {error}"));
            assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{helm}, {case:?}: {said}");
        }
    }
}

/// The names of the suites' files.
fn suites() -> Vec<String> {
    let files = fs::read_dir(chart::folder().join("tests")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with("_test.yaml")).collect()
}

#[test]
fn the_charts_suites_pass() {
    let args = ["--strict".into(), chart::folder().display().to_string()];
    let said = run("helm-unittest", &args).unwrap_or_else(|error| panic!("{error}"));
    let suites = suites();
    assert!(suites.len() >= 10, "{suites:?}");
    for suite in suites {
        assert!(said.contains(&suite), "{suite} was not run: {said}");
    }
}

#[test]
fn every_template_has_a_suite() {
    let suites: String = suites()
        .iter()
        .map(|name| fs::read_to_string(chart::folder().join("tests").join(name)).unwrap())
        .collect();
    for file in fs::read_dir(chart::folder().join("templates")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let is_rendered = !file.starts_with('_') && file != "tests";
        assert!(!is_rendered || suites.contains(&file), "no suite in charts/pod-reloader/tests names {file}");
    }
}
