use clap::CommandFactory;
use pod_reloader_core::kind::{BUILT_IN, KindRef, Kinds};
use pod_reloader_serving::tls::MinVersion;

use super::*;
use crate::command::tests::parse;

#[test]
fn the_definition_is_sound() {
    let command = Args::command();
    assert!(command.get_about().unwrap().to_string().starts_with("Reloads Kubernetes workloads"));
    command.debug_assert();
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
        ("--webhook-bind-address=9443", "such as :8080"),
        ("--namespace-selector=a=b,", "the end where a label's key was expected; expected a label selector"),
        ("--object-selector=a in b", "'b' where '(' was expected"),
        ("--secrets=some", "true or false"),
        ("--workload=argo", "known are argo-rollouts, knative-services, "),
        ("--workload=argo-rollouts,", "known are argo-rollouts, knative-services, "),
        ("--workload=example.com/v1/Server=spec.template", "the kind comes after a colon"),
        ("--workload=example.com/v1/servers=metadata", "restarts no pods"),
        ("--workload=example.com/v1/servers=spec..template", "such as spec.template"),
        ("--workload=apps/v1/deployments=spec.template", "is built in, and always on: leave it out"),
        ("--workload=openkruise,openkruise", "is there already, by openkruise: name it once"),
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
        ("--tls-min-version=VersionTLS11", "VersionTLS12 or VersionTLS13"),
        ("--tls-cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA", "known are TLS_AES_256_GCM_SHA384, "),
        ("--tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "--webhook-tls-directory"),
        ("--metrics-secure=maybe", "true or false"),
        ("--webhook-client-ca=", "value is required"),
        ("--webhook-client-names=kube-apiserver", "--webhook-client-ca"),
    ] {
        let error = parse(&[arg]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arg}");
        assert!(error.to_string().contains(hint), "{arg}: {error}");
    }
}

#[test]
fn c6_selectors_and_secrets_say_what_an_installation_concerns_itself_with() {
    let kinds = Kinds::default().and_jobs();
    let all = Scope { kinds, unlabelled: vec!["kube-system".into(), "ops".into()], ..Scope::default() };
    assert_eq!(parse(&[]).unwrap().scope("ops").unwrap(), all);
    assert_eq!(parse(&["--namespace-selector="]).unwrap().scope("ops").unwrap(), all);
    let unlabelled = parse(&["--namespace-labels=false"]).unwrap().scope("ops").unwrap();
    assert_eq!(unlabelled, Scope { namespace_labels: false, ..all });
    let scope = parse(&[
        "--namespaces=a,b",
        "--namespace-selector=team in (shop, stock)",
        "--object-selector=!legacy",
        "--secrets=false",
    ]);
    let scope = scope.unwrap().scope("ops").unwrap();
    assert_eq!(scope.namespaces.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
    assert_eq!(scope.namespace_selector.as_str(), "team in (shop, stock)");
    assert_eq!(scope.object_selector.as_str(), "!legacy");
    assert!(!scope.secrets);
}

#[test]
fn c6_flags_that_contradict_each_other_are_an_error_that_says_what_would_be_right() {
    for right in ["--secrets=false", "--hash=version", "--metrics-secure", "--webhook-bind-address=0"] {
        assert!(parse(&[right]).is_ok(), "{right}");
    }
    for (args, hint) in [
        (["--secrets=false", "--hash=version"], "needs --hash=content"),
        (["--metrics-secure", "--webhook-bind-address=0"], "whose certificate"),
        (["--webhook-client-ca=ca.crt", "--webhook-bind-address=0"], "is for the webhook"),
    ] {
        let error = parse(&args).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{args:?}");
        assert!(error.to_string().contains(hint), "{args:?}: {error}");
    }
}

#[test]
fn c6_the_webhook_can_be_left_out() {
    assert_eq!(parse(&["--webhook-bind-address=0"]).unwrap().webhook_bind_address, BindAddress::Off);
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

#[test]
fn c4_10_names_of_clients_need_their_ca_and_none_is_empty() {
    let args = parse(&["--webhook-client-ca=/ca.crt", "--webhook-client-names=kube-apiserver, a.example"]);
    assert_eq!(args.unwrap().tls.webhook_client_names, ["kube-apiserver", "a.example"]);
    assert!(parse(&["--webhook-client-ca=/ca.crt"]).unwrap().tls.webhook_client_names.is_empty());
    for names in ["", ",", "a,,b", " "] {
        let error = parse(&["--webhook-client-ca=/ca.crt", &format!("--webhook-client-names={names}")]);
        let error = error.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("such as kube-apiserver"), "{error}");
    }
}

#[test]
fn c4_11_versions_and_suites_are_checked_together() {
    let directory = "--webhook-tls-directory=/tls";
    let old = "--tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    let both = &format!("{old},TLS_AES_128_GCM_SHA256");
    for version in ["VersionTLS12", "1.2"] {
        let args = parse(&[directory, old, &format!("--tls-min-version={version}")]).unwrap();
        assert_eq!(args.tls.policy().min_version, MinVersion::Tls12);
        assert_eq!(args.tls.policy().suites.len(), 1);
    }
    for version in ["VersionTLS13", "1.3"] {
        let version = &format!("--tls-min-version={version}");
        let error = parse(&[directory, old, version]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("those of TLS 1.3 are TLS_AES_256_GCM_SHA384, "), "{error}");
        assert_eq!(parse(&[both, version]).unwrap().tls.policy().min_version, MinVersion::Tls13);
    }
}

#[test]
fn c9_1_kinds_are_given_one_by_one_or_with_commas() {
    let own = "example.com/v1/servers:Server=spec.template";
    for args in [
        &["--workload=argo-rollouts", &format!("--workload={own}")][..],
        &[&format!("--workload=argo-rollouts,{own}")],
        &["--workload", "argo-rollouts", "--workload", own],
    ] {
        let kinds = parse(args).unwrap().scope("ops").unwrap().kinds;
        let names: Vec<_> = kinds.iter().map(KindRef::label).collect();
        assert_eq!(
            names,
            ["Deployment", "StatefulSet", "DaemonSet", "Rollout", "Server.example.com", "CronJob", "Job"],
            "{args:?}"
        );
    }
    let unnamed = parse(&["--workload=example.com/v1/servers=annotations:spec.pods"]).unwrap();
    assert_eq!(unnamed.scope("ops").unwrap().kinds.entries().count(), 6);
}

#[test]
fn c9_4_jobs_can_be_left_out_altogether() {
    let kinds = parse(&["--jobs=false"]).unwrap().scope("ops").unwrap().kinds;
    assert!(kinds.iter().eq(BUILT_IN));
}
