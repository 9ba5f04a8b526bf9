//! 1.1, 9.1: the chart's kinds of workload are the operator's. One that the chart lacks would never be sent to the webhook,
//! and the operator could not read it.

use std::collections::BTreeSet;

use pod_reloader_core::action::RESTART_AT;
use pod_reloader_core::kind::JOBS;
use pod_reloader_core::kind::batch::JOB;
use pod_reloader_e2e::objects::{KindRef, PRESETS, Shape};
use serde_json::{Value, json};

use crate::helm::{CASES, parse, render, template};
use crate::objects::{list, of_kind, text, the};

/// Group, version and resource of all that a webhook's or policy's rules with these operations are for.
fn covered(rules: &Value, operations: &Value) -> BTreeSet<(String, String, String)> {
    let mut covered = BTreeSet::new();
    for rule in list(rules).iter().filter(|rule| rule["operations"] == *operations) {
        for group in list(&rule["apiGroups"]).iter().map(text) {
            for version in list(&rule["apiVersions"]).iter().map(text) {
                for resource in list(&rule["resources"]).iter().map(text) {
                    covered.insert((group.to_owned(), version.to_owned(), resource.to_owned()));
                }
            }
        }
    }
    covered
}

fn names(kinds: &[KindRef], suffix: &str) -> BTreeSet<(String, String, String)> {
    let name =
        |kind: &KindRef| (kind.group.to_owned(), kind.version.to_owned(), format!("{}{suffix}", kind.plural));
    kinds.iter().map(name).collect()
}

#[test]
fn c1_1_the_webhook_is_registered_for_every_kind_and_nothing_else() {
    for case in CASES {
        for configuration in of_kind(&render(case), "MutatingWebhookConfiguration") {
            let rules = &configuration["webhooks"][0]["rules"];
            assert_eq!(covered(rules, &json!(["CREATE", "UPDATE"])), names(&case.kinds(), ""), "{case:?}");
            assert!(list(rules).iter().all(|rule| rule["scope"] == "Namespaced"), "{case:?}: {rules}");
        }
    }
}

#[test]
fn c1_1_every_kind_may_be_read_and_patched_wherever_one_may_and_jobs_be_made_and_deleted() {
    let read_and_patched = json!(["get", "list", "watch", "patch"]);
    let made_and_deleted = json!(["get", "list", "watch", "patch", "create", "delete"]);
    for case in CASES {
        let (kinds, jobs) = (case.kinds(), case.jobs());
        let (made, patched): (Vec<_>, Vec<_>) =
            kinds.iter().chain(&jobs).map(|kind| (kind.group, kind.plural)).partition(|it| it.1 == "jobs");
        let objects = render(case);
        let mut count = 0;
        for role in of_kind(&objects, "Role").into_iter().chain(of_kind(&objects, "ClusterRole")) {
            let granted = |verbs: &Value| -> BTreeSet<_> {
                list(&role["rules"])
                    .iter()
                    .filter(|rule| rule["verbs"] == *verbs)
                    .flat_map(|rule| {
                        list(&rule["resources"]).iter().map(|it| (text(&rule["apiGroups"][0]), text(it)))
                    })
                    .collect()
            };
            if !granted(&read_and_patched).is_empty() {
                let expected: BTreeSet<_> = patched.iter().copied().collect();
                assert_eq!(granted(&read_and_patched), expected, "{case:?}: {role}");
                let expected: BTreeSet<_> = made.iter().copied().collect();
                assert_eq!(granted(&made_and_deleted), expected, "{case:?}: {role}");
                count += 1;
            }
        }
        let is_without_rights = of_kind(&objects, "Role").is_empty();
        assert!(count > 0 || is_without_rights, "{case:?}");
    }
}

#[test]
fn c1_1_policies_hold_the_operator_to_the_template_of_every_kind() {
    for case in CASES {
        let objects = render(case);
        let policies = of_kind(&objects, "ValidatingAdmissionPolicy");
        if policies.is_empty() {
            continue;
        }
        for kind in case.kinds() {
            let of_kind = &names(&[kind], "");
            let covers = |policy: &Value, operations: Value, kinds: &BTreeSet<_>| {
                covered(&policy["spec"]["matchConstraints"]["resourceRules"], &operations).is_superset(kinds)
            };
            let [policy] = policies
                .iter()
                .filter(|policy| covers(policy, json!(["UPDATE"]), of_kind))
                .collect::<Vec<_>>()[..]
            else {
                panic!("{case:?}: one policy for the updates of {kind:?}")
            };
            let name = if kind.shape == Shape::PodTemplate { "pod" } else { "podAnnotations" };
            let pod = list(&policy["spec"]["variables"]).iter().find(|variable| variable["name"] == name);
            let expected = format!("dyn(object).?{}.orValue({{}})", kind.template.join(".?"));
            assert_eq!(
                pod.map(|pod| text(&pod["expression"])),
                Some(expected.as_str()),
                "{case:?}: {kind:?}"
            );
            let may_be_set = list(&policy["spec"]["variables"]).iter().any(|variable| {
                let expression = text(&variable["expression"]);
                expression.contains(&format!("== '{}'", RESTART_AT.name()))
                    && expression.contains(&format!("== '{}'", kind.group))
                    && expression.contains(&format!("== '{}'", kind.plural))
            });
            assert_eq!(may_be_set, kind.actions.asked.contains(&RESTART_AT), "{case:?}: {kind:?}");
            assert!(
                policies.iter().any(|policy| covers(policy, json!(["CREATE", "DELETE"]), of_kind)
                    && covers(policy, json!(["*"]), &names(&[kind], "/*"))),
                "{case:?}: nothing forbids the operator to create a {kind:?}"
            );
            assert!(
                policies.iter().any(|policy| is_about(policy, kind)),
                "{case:?}: Events about a {kind:?}"
            );
        }
        let rules = policies
            .iter()
            .map(|it| covered(&it["spec"]["matchConstraints"]["resourceRules"], &json!(["UPDATE"])));
        let workloads: BTreeSet<_> = rules.flatten().collect();
        assert_eq!(workloads, names(&[case.kinds(), case.jobs()].concat(), ""), "{case:?}");
    }
}

fn is_about(policy: &Value, kind: KindRef) -> bool {
    let text = policy["spec"]["validations"].to_string();
    text.contains(&format!("'{}'", kind.api_version())) && text.contains(&format!("'{}'", kind.kind))
}

#[test]
fn c9_4_policies_know_the_kinds_that_are_not_rolled_out() {
    for case in CASES {
        let objects = render(case);
        let policies = of_kind(&objects, "ValidatingAdmissionPolicy");
        if policies.is_empty() {
            continue;
        }
        let covering = |operations: Value, kinds: &BTreeSet<_>| {
            let covers = |policy: &&&Value| {
                covered(&policy["spec"]["matchConstraints"]["resourceRules"], &operations).is_superset(kinds)
            };
            policies.iter().filter(covers).count()
        };
        let jobs = names(&JOBS, "");
        let nothing_else = covering(json!(["CREATE", "DELETE"]), &jobs);
        assert_eq!((nothing_else, covering(json!(["*"]), &names(&JOBS, "/*"))), (1, 1), "{case:?}");
        let made = covering(json!(["CREATE", "DELETE"]), &names(&[JOB], ""));
        let updates = covering(json!(["UPDATE"]), &jobs);
        let expected = if case.has_jobs() { (2, 1) } else { (1, 0) };
        assert_eq!((made, updates), expected, "{case:?}");
        for kind in JOBS {
            let has_events = policies.iter().any(|policy| is_about(policy, kind));
            assert_eq!(has_events, case.has_jobs(), "{case:?}: Events about a {kind:?}");
        }
    }
}

#[test]
fn c1_1_the_tests_of_the_chart_render_what_they_look_for() {
    let objects = render(CASES[0]);
    assert!(!list(&the(&objects, "MutatingWebhookConfiguration")["webhooks"][0]["rules"]).is_empty());
    assert!(!of_kind(&objects, "ValidatingAdmissionPolicy").is_empty());
}

/// The operator's `--workload` flags.
fn workloads(args: &[&str]) -> Vec<String> {
    let args: Vec<_> = args.iter().map(ToString::to_string).collect();
    let objects = parse(&template("helm", "reloader", &args).unwrap()).unwrap();
    let deployment = the(&objects, "Deployment");
    let args = list(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
    args.iter().filter_map(|arg| text(arg).strip_prefix("--workload=")).map(str::to_owned).collect()
}

#[test]
fn c9_1_the_operator_is_told_of_the_kinds_that_the_chart_is_told_of() {
    let values = "--set-json=workloads=[\"argo-rollouts\",\
        {\"group\":\"example.com\",\"version\":\"v1\",\"resource\":\"servers\",\"kind\":\"Server\",\
         \"template\":\"spec.pod\"},\
        {\"group\":\"example.com\",\"version\":\"v1\",\"resource\":\"databases\",\"kind\":\"Database\",\
         \"annotations\":\"spec.podAnnotations\"}]";
    let expected = [
        "argo-rollouts",
        "example.com/v1/servers:Server=spec.pod",
        "example.com/v1/databases:Database=annotations:spec.podAnnotations",
    ];
    assert_eq!(workloads(&[values]), expected);
    assert_eq!(workloads(&[]), [""; 0]);
    let presets: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    assert_eq!(workloads(&[&format!("--set=workloads={{{}}}", presets.join(","))]), presets);
}

#[test]
fn c9_1_wrong_kinds_are_refused_with_what_would_be_right() {
    let own = |fields: &str| format!("[{{{fields}}}]");
    let server = |place: &str| {
        own(&format!(r#""group":"example.com","version":"v1","resource":"servers","kind":"Server",{place}"#))
    };
    for (workloads, expected) in [
        (
            r#"["argo"]"#.to_owned(),
            "known are argo-rollouts, knative-services, openkruise, openshift-deploymentconfigs",
        ),
        (
            r#"["openkruise","openkruise"]"#.to_owned(),
            "clonesets.apps.kruise.io is there twice, by openkruise",
        ),
        (
            own(r#""group":"apps","version":"v1","resource":"deployments","kind":"A","template":"spec.a""#),
            "is built in",
        ),
        (
            own(r#""group":"example.com","version":"v1","kind":"Server","template":"spec.a""#),
            "has no resource",
        ),
        (
            own(
                r#""group":"batch","version":"v1","resource":"jobs","kind":"Job","template":"spec.template""#,
            ),
            "is built in, and not rolled out",
        ),
        (
            own(
                r#""group":"example.com","version":"v1","resource":"Server","kind":"Server","template":"spec.a""#,
            ),
            "\"Server\" cannot be its resource",
        ),
        (server(r#""template":"spec.a","annotations":"spec.b""#), "needs either template"),
        (own(r#""group":"a.b","version":"v1","resource":"a","kind":"A""#), "needs either template"),
        (server(r#""template":"spec..a""#), "is no path"),
        (server(r#""template":"""#), "is no path"),
        (server(r#""template":"metadata""#), "nothing that its pods are made of"),
        (server(r#""annotations":"status.annotations""#), "nothing that its pods are made of"),
        (
            server(r#""template":"spec.template.metadata.annotations""#),
            "template is the path of the whole pod template",
        ),
        (server(r#""path":"spec.template""#), "additional properties 'path' not allowed"),
        ("[5]".to_owned(), "at '/workloads/0': got number, want string or object"),
    ] {
        let args = [format!("--set-json=workloads={workloads}")];
        let refused = template("helm", "reloader", &args).unwrap_err();
        assert!(refused.contains(expected), "{workloads}: {refused}");
    }
}
