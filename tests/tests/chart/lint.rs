//! Linting, and the chart's own suites.

use crate::helm::{CASES, HELMS, chart, outcome, run, tool};

#[test]
fn helm_finds_nothing_to_complain_of() {
    for helm in HELMS {
        for case in CASES {
            let mut args: Vec<String> = vec!["lint".into(), "--strict".into(), chart().display().to_string()];
            args.extend(case.args());
            let said = outcome(&run(helm, &args)).unwrap();
            assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{helm}, {case:?}: {said}");
        }
    }
}

#[test]
fn the_charts_suites_pass() {
    let output = run("helm-unittest", &["--strict".into(), chart().display().to_string()]);
    let said = outcome(&output).unwrap_or_else(|error| panic!("{error}"));
    // Suites that are not found do not fail.
    let suites = std::fs::read_dir(chart().join("tests")).unwrap().count();
    assert!(suites >= 10, "{suites} suites");
    for file in std::fs::read_dir(chart().join("tests")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        assert!(said.contains(&file), "{file} was not run: {said}");
    }
}

/// Each template has a suite: tests name templates by their path.
#[test]
fn every_template_has_a_suite() {
    let suites: String = std::fs::read_dir(chart().join("tests"))
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    for file in std::fs::read_dir(chart().join("templates")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        if file.starts_with('_') || file == "tests" {
            continue;
        }
        assert!(suites.contains(&file), "no suite in charts/pod-reloader/tests has {file} among its templates");
    }
    assert!(tool("helm-unittest").exists());
}
