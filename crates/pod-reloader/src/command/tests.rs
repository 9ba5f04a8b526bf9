use clap::FromArgMatches;

use super::*;

/// The operator's flags on that command line.
pub(crate) fn parse(args: &[&str]) -> Result<Args, clap::Error> {
    Invocation::parse(command_line(args))?;
    let matches = definition().try_get_matches_from(command_line(args))?;
    Args::from_arg_matches(&matches)
}

fn command_line(args: &[&str]) -> Vec<OsString> {
    let args = std::iter::once("pod-reloader").chain(args.iter().copied());
    crate::go_flags::normalize(args.map(Into::into))
}

/// The flags of `self-test`, if the command line calls that.
fn self_test(args: &[&str]) -> Result<Option<Args>, clap::Error> {
    Invocation::parse(command_line(args))?;
    let matches = definition().try_get_matches_from(command_line(args))?;
    let Some((name, matches)) = matches.subcommand() else { return Ok(None) };
    assert_eq!(name, "self-test");
    Ok(Some(SelfTest::from_arg_matches(matches)?.operator))
}

fn help(args: &[&str]) -> String {
    let error = Invocation::parse(command_line(args)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{error}");
    error.to_string()
}

#[test]
fn the_definition_is_sound() {
    definition().debug_assert();
}

#[test]
fn c6_the_self_test_is_a_subcommand_that_takes_the_operators_flags() {
    let args = [
        "self-test",
        "-leader-election-namespace=ops",
        "--settle-window",
        "1s",
        "--settle-window=500ms",
        "--object-selector=a=b",
        "--webhook-bind-address=0",
        "--hash=version",
        "--leader-elect",
    ];
    let args = self_test(&args).unwrap().unwrap();
    assert_eq!(args.leader_election_namespace.as_deref(), Some("ops"));
    assert_eq!(args.settle_window.as_millis(), 500);
    assert_eq!(args.scope.object_selector.as_str(), "a=b");
    assert!(self_test(&["--leader-elect"]).unwrap().is_none());
}

/// As charts of former releases call it.
#[test]
fn c6_the_self_test_is_still_a_flag_but_not_in_the_help() {
    let args = parse(&["--self-test", "--leader-election-namespace=ops", "--settle-window=2s"]).unwrap();
    assert!(args.self_test);
    assert!(!help(&["--help"]).contains("--self-test"));
}

#[test]
fn c6_help_is_of_what_was_asked_for() {
    let text = help(&["--help"]);
    for part in ["--leader-elect", "Commands:", "self-test", "Creates a Deployment with zero replicas"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    for args in [["self-test", "--help"], ["self-test", "-h"], ["help", "self-test"]] {
        let text = help(&args);
        for part in ["pod-reloader self-test", "Creates a Deployment", "--settle-window", "--kubeconfig"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        for part in ["--leader-elect ", "--hash", "Commands:", "POD_RELOADER_HASH"] {
            assert!(!text.contains(part), "{part} in: {text}");
        }
    }
}

#[test]
fn c6_an_argument_that_is_no_subcommand_is_an_error_that_names_them() {
    for args in [
        &["selftest"][..],
        &["shop"],
        &["--leader-elect", "false"],
        &["--hash=content", "self-test"],
        &["--", "self-test"],
        &["self-test", "shop"],
    ] {
        let error = Invocation::parse(command_line(args)).err().unwrap();
        assert_eq!(error.exit_code(), 2, "{args:?}");
        let names = SUBCOMMANDS.iter().map(|it| (it.define)().get_name().to_owned());
        let names = names.collect::<Vec<_>>().join(", ");
        assert!(error.to_string().contains(&format!("a subcommand ({names})")), "{args:?}: {error}");
    }
}

#[test]
fn c6_bad_values_of_a_subcommand_are_errors_as_well() {
    for (args, hint) in [
        (&["self-test", "--settle-window=2"][..], "such as 2s"),
        (&["self-test", "--secrets=false", "--hash=version"], "needs --hash=content"),
        (&["self-test", "--setle-window=2s"], "--settle-window"),
    ] {
        let error = Invocation::parse(command_line(args)).err().unwrap();
        assert_eq!(error.exit_code(), 2, "{args:?}");
        assert!(error.to_string().contains(hint), "{args:?}: {error}");
    }
}

#[test]
fn c6_every_flag_and_subcommand_is_in_section_6_and_in_the_readme() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let behaviour = std::fs::read_to_string(format!("{root}/docs/behaviour.md")).unwrap();
    let section = behaviour.split("\n## 6 ").nth(1).unwrap().split("\n## ").next().unwrap();
    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    let definition = definition();
    let flags = definition.get_arguments().filter_map(|flag| flag.get_long());
    // clap's own, and what SAP's flags were that are accepted and mean nothing.
    let flags = flags.filter(|flag| !flag.starts_with("zap-"));
    let missing: Vec<_> = flags
        .map(|flag| format!("--{flag}"))
        .chain(SUBCOMMANDS.iter().map(|it| (it.define)().get_name().to_owned()))
        .flat_map(|word| {
            [("section 6", section), ("README.md", &readme)].map(|(name, text)| (word.clone(), name, text))
        })
        .filter(|(word, _, text)| !text.contains(word.as_str()))
        .map(|(word, name, _)| format!("{word} is not in {name}"))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
