//! 1.1: the chart's kinds of workload are the operator's. One that the chart lacks would never be sent to the webhook,
//! and the operator could not read it.

use std::collections::BTreeSet;

use pod_reloader_e2e::objects::{BUILT_IN, KindRef};
use serde_json::{Value, json};

use crate::helm::{CASES, render};
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
            assert_eq!(covered(rules, &json!(["CREATE", "UPDATE"])), names(&BUILT_IN, ""), "{case:?}");
            assert!(list(rules).iter().all(|rule| rule["scope"] == "Namespaced"), "{case:?}: {rules}");
        }
    }
}

#[test]
fn c1_1_every_kind_may_be_read_and_patched_wherever_one_may() {
    let expected: BTreeSet<_> = BUILT_IN.iter().map(|kind| (kind.group, kind.plural)).collect();
    for case in CASES {
        let objects = render(case);
        let mut count = 0;
        for role in of_kind(&objects, "Role").into_iter().chain(of_kind(&objects, "ClusterRole")) {
            let rules: Vec<_> = list(&role["rules"])
                .iter()
                .filter(|rule| rule["verbs"] == json!(["get", "list", "watch", "patch"]))
                .collect();
            let granted: BTreeSet<_> = rules
                .iter()
                .flat_map(|rule| {
                    list(&rule["resources"]).iter().map(|it| (text(&rule["apiGroups"][0]), text(it)))
                })
                .collect();
            if !granted.is_empty() {
                assert_eq!(granted, expected, "{case:?}: {role}");
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
        for kind in BUILT_IN {
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
            let pod = list(&policy["spec"]["variables"]).iter().find(|variable| variable["name"] == "pod");
            let expected = format!("dyn(object).{}", kind.template.join("."));
            assert_eq!(
                pod.map(|pod| text(&pod["expression"])),
                Some(expected.as_str()),
                "{case:?}: {kind:?}"
            );
            assert!(
                policies.iter().any(|policy| covers(policy, json!(["CREATE", "DELETE"]), of_kind)
                    && covers(policy, json!(["*"]), &names(&[kind], "/*"))),
                "{case:?}: nothing forbids the operator to create a {kind:?}"
            );
            let is_about = |policy: &&&Value| {
                let text = policy["spec"]["validations"].to_string();
                text.contains(&format!("'{}'", kind.api_version()))
                    && text.contains(&format!("'{}'", kind.kind))
            };
            assert!(policies.iter().any(|policy| is_about(&policy)), "{case:?}: Events about a {kind:?}");
        }
        let rules = policies
            .iter()
            .map(|it| covered(&it["spec"]["matchConstraints"]["resourceRules"], &json!(["UPDATE"])));
        let workloads: BTreeSet<_> = rules.flatten().collect();
        assert_eq!(workloads, names(&BUILT_IN, ""), "{case:?}");
    }
}

#[test]
fn c1_1_the_tests_of_the_chart_render_what_they_look_for() {
    let objects = render(CASES[0]);
    assert!(!list(&the(&objects, "MutatingWebhookConfiguration")["webhooks"][0]["rules"]).is_empty());
    assert!(!of_kind(&objects, "ValidatingAdmissionPolicy").is_empty());
}
