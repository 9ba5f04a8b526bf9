use super::*;
use clap::CommandFactory;

fn parse(args: &[&str]) -> Result<Args, clap::Error> {
    let args = std::iter::once("pod-reloader").chain(args.iter().copied());
    Args::try_parse_from(crate::go_flags::normalize(args.map(Into::into)))
}

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn c6_saps_command_line_works_unchanged() {
    let args = parse(&[
        "--metrics-bind-address=:8080",
        "-health-probe-bind-address",
        "localhost:8081",
        "--webhook-bind-address=:2443",
        "--webhook-tls-directory=/app/etc/ssl",
        "--leader-elect",
        "--leader-election-namespace=sap",
        "--zap-devel=false",
        "--zap-encoder=console",
        "--zap-log-level=2",
        "--zap-stacktrace-level=error",
        "--zap-time-encoding=iso8601",
        "--kubeconfig=/tmp/k",
    ])
    .unwrap();
    assert!(args.leader_elect);
    assert_eq!(args.webhook_bind_address, BindAddress::At { host: None, port: 2443 });
    assert_eq!(
        args.health_probe_bind_address,
        BindAddress::At { host: Some("localhost".into()), port: 8081 }
    );
}

#[test]
fn c6_booleans_are_gos_and_the_last_flag_wins() {
    for (args, expected) in [
        (&["--leader-elect"][..], true),
        (&["--leader-elect=false"], false),
        (&["--leader-elect=T"], true),
        (&["--leader-elect", "--leader-elect=0"], false),
        (&[], false),
    ] {
        assert_eq!(parse(args).unwrap().leader_elect, expected, "{args:?}");
    }
}

#[test]
fn c6_a_bad_value_is_an_error_that_says_what_would_be_right() {
    for (arg, hint) in [
        ("--webhook-bind-address=0", "such as :9443"),
        ("--metrics-bind-address=8080", "such as :8080"),
        ("--metrics-bind-address=:99999", "such as :8080"),
        ("--metrics-bind-address=::1:80", "[::1]:8080"),
        ("--settle-window=2", "such as 2s"),
        ("--settle-window=-2s", "such as 2s"),
        ("--settle-window=2h", "at most 3600 s"),
        ("--max-concurrent-patches=0", "from 1 to 1024"),
        ("--hash=sha1", "content, version"),
        ("--memory-budget=24MB", "such as 24Mi"),
        ("--memory-budget=1000", "from 1Mi"),
        ("--memory-budget=99999999999999999999Gi", "to 16Gi"),
        ("--namespaces=a,B", "such as shop,billing"),
        ("--leader-election-id=a_b", "such as pod-reloader"),
        ("--leader-election-id=", "such as pod-reloader"),
        ("--webhook-configuration-name=A", "such as pod-reloader"),
        ("--leader-elect=maybe", "true or false"),
        ("--zap-log-level=loud", "debug, info"),
        ("--log-format=xml", "json, text"),
        ("--leader-elekt", "--leader-elect"),
    ] {
        let error = parse(&[arg]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arg}");
        assert!(error.to_string().contains(hint), "{arg}: {error}");
    }
}

#[test]
fn c6_a_namespace_given_twice_is_one() {
    for (args, expected) in [
        (&["--namespaces=shop,billing,shop, billing"][..], &["shop", "billing"][..]),
        (&["--namespaces=a"], &["a"]),
        (&[], &[]),
    ] {
        assert_eq!(parse(args).unwrap().namespaces(), expected, "{args:?}");
    }
}

#[test]
fn c5_1_the_lease_and_the_certificates_have_names_per_installation() {
    let args = parse(&[]).unwrap();
    assert_eq!(args.leader_election_id, "pod-reloader.cs.sap.com");
    assert_eq!(args.certificates_secret(), "pod-reloader-webhook-certificates");
    assert_eq!(args.ca_secret(), "pod-reloader-webhook-ca");
    let args = parse(&["--leader-election-id=x.y", "--webhook-configuration-name=second"]).unwrap();
    assert_eq!(args.leader_election_id, "x.y");
    assert_eq!(args.certificates_secret(), "second-webhook-certificates");
    assert_eq!(args.ca_secret(), "second-webhook-ca");
}

#[test]
fn c6_every_flag_has_an_environment_variable() {
    for arg in Args::command().get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        if !["help", "version"].contains(&long) {
            let expected = format!("POD_RELOADER_{}", long.to_ascii_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(expected.as_str()));
        }
    }
}

#[test]
fn c6_bytes_are_written_as_in_kubernetes() {
    for (text, expected) in [("2097152", 2 << 20), ("2048Ki", 2 << 20), ("24Mi", 24 << 20), ("1Gi", 1 << 30)]
    {
        assert_eq!(parse(&["--memory-budget", text]).unwrap().memory_budget, Some(expected));
    }
    assert_eq!(parse(&[]).unwrap().memory_budget, None);
}
