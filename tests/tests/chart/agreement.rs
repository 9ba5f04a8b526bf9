//! Where one object names another, or the operator: a misspelt name installs well, and works not at all.

use std::collections::BTreeSet;
use std::process::Command;

use pod_reloader_core::dialect::{ALL, Dialect, Effect, Key, Place};
use pod_reloader_core::name::ConfigKind;
use pod_reloader_e2e::{chart, operator_binary};
use serde_json::{Value, json};

use crate::helm::{CASES, Case, NAMESPACE, parse, render, template};
use crate::objects::{kind, list, name, named, of_kind, pods, selects, text, the};

/// The operator's container and the labels of its pods.
fn operator(objects: &[Value]) -> (&Value, &Value, &Value) {
    let template = &the(objects, "Deployment")["spec"]["template"];
    (&template["spec"], &template["spec"]["containers"][0], &template["metadata"]["labels"])
}

/// The value of a flag in the container's arguments.
fn flag<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    list(&container["args"]).iter().find_map(|arg| text(arg).strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn selectors_find_the_operators_pods_and_no_others() {
    for case in CASES {
        let objects = render(case);
        let (_, _, labels) = operator(&objects);
        let mut selectors =
            vec![("Deployment", &the(&objects, "Deployment")["spec"]["selector"]["matchLabels"])];
        for service in of_kind(&objects, "Service") {
            selectors.push((name(service), &service["spec"]["selector"]));
        }
        for budget in of_kind(&objects, "PodDisruptionBudget") {
            selectors.push(("PodDisruptionBudget", &budget["spec"]["selector"]["matchLabels"]));
        }
        for policy in of_kind(&objects, "NetworkPolicy") {
            selectors.push(("NetworkPolicy", &policy["spec"]["podSelector"]["matchLabels"]));
        }
        let spread = &the(&objects, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"];
        for constraint in list(spread) {
            selectors.push(("topologySpreadConstraints", &constraint["labelSelector"]["matchLabels"]));
        }
        let (_, test_labels, _) = pods(&objects).into_iter().find(|(_, other, _)| *other != labels).unwrap();
        for (what, selector) in selectors {
            assert!(selects(selector, labels), "{case:?}, {what}: {selector} does not select {labels}");
            assert!(!selects(selector, test_labels), "{case:?}, {what} selects the test's pod");
        }
    }
}

#[test]
fn ports_agree() {
    for case in CASES {
        let objects = render(case);
        let (_, container, _) = operator(&objects);
        for (port, flag_name) in [
            ("metrics", "--metrics-bind-address"),
            ("probes", "--health-probe-bind-address"),
            ("webhooks", "--webhook-bind-address"),
        ] {
            if flag_name == "--webhook-bind-address" && !case.has_webhook() {
                assert_eq!(flag(container, flag_name), Some("0"), "{case:?}");
                assert!(named(&container["ports"], port).is_none(), "{case:?}");
                continue;
            }
            let number = &named(&container["ports"], port).unwrap()["containerPort"];
            assert_eq!(flag(container, flag_name), Some(format!(":{number}").as_str()), "{case:?}");
        }
        for probe in ["livenessProbe", "readinessProbe"] {
            let port = text(&container[probe]["httpGet"]["port"]);
            assert!(named(&container["ports"], port).is_some(), "{case:?}, {probe}: {port}");
        }
        for service in of_kind(&objects, "Service") {
            for port in list(&service["spec"]["ports"]) {
                let target = text(&port["targetPort"]);
                assert!(
                    named(&container["ports"], target).is_some(),
                    "{case:?}, {}: {target}",
                    name(service)
                );
            }
        }
        for policy in of_kind(&objects, "NetworkPolicy") {
            let open: Vec<_> =
                list(&policy["spec"]["ingress"]).iter().map(|rule| &rule["ports"][0]["port"]).collect();
            let expected = ["webhooks", "probes", "metrics"];
            assert_eq!(open, expected[usize::from(!case.has_webhook())..], "{case:?}");
        }
        for monitor in of_kind(&objects, "ServiceMonitor") {
            let found: Vec<_> = of_kind(&objects, "Service")
                .into_iter()
                .filter(|service| {
                    selects(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"])
                })
                .collect();
            assert_eq!(found.len(), 1, "{case:?}: the ServiceMonitor's Services");
            let port = text(&monitor["spec"]["endpoints"][0]["port"]);
            assert!(named(&found[0]["spec"]["ports"], port).is_some(), "{case:?}");
        }
    }
}

#[test]
fn the_webhook_leads_to_the_service_with_a_certificate_for_it() {
    for case in CASES {
        let objects = render(case);
        let (spec, container, _) = operator(&objects);
        if !case.has_webhook() {
            assert!(of_kind(&objects, "MutatingWebhookConfiguration").is_empty(), "{case:?}");
            continue;
        }
        let configuration = the(&objects, "MutatingWebhookConfiguration");
        let client = &configuration["webhooks"][0]["clientConfig"];
        assert_eq!(client["service"]["path"], "/mutate", "{case:?}");
        assert_eq!(client["service"]["namespace"], NAMESPACE, "{case:?}");
        let services = of_kind(&objects, "Service");
        let service =
            services.iter().find(|service| service["metadata"]["name"] == client["service"]["name"]).unwrap();
        let port = list(&service["spec"]["ports"])
            .iter()
            .find(|port| port["port"] == client["service"]["port"])
            .unwrap();
        assert_eq!(port["targetPort"], "webhooks", "{case:?}");

        if let Some(directory) = flag(container, "--webhook-tls-directory") {
            let mount = list(&container["volumeMounts"])
                .iter()
                .find(|mount| mount["mountPath"] == directory)
                .unwrap();
            assert!(mount["subPath"].is_null(), "{case:?}: a subPath is never updated");
            let secret = &named(&spec["volumes"], text(&mount["name"])).unwrap()["secret"]["secretName"];
            for certificate in of_kind(&objects, "Certificate").iter().filter(|it| it["spec"]["isCA"] != true)
            {
                assert_eq!(certificate["spec"]["secretName"], *secret, "{case:?}");
                let host = format!("{}.{NAMESPACE}.svc", name(service));
                assert!(list(&certificate["spec"]["dnsNames"]).contains(&json!(host)), "{case:?}: {host}");
                let injected = &configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
                assert_eq!(*injected, format!("{NAMESPACE}/{}", name(certificate)), "{case:?}");
            }
            for reference in
                of_kind(&objects, "Certificate").iter().map(|it| &it["spec"]["issuerRef"]["name"])
            {
                let issuers = of_kind(&objects, "Issuer");
                assert!(
                    issuers.iter().any(|issuer| issuer["metadata"]["name"] == *reference),
                    "{case:?}: {reference}"
                );
            }
        } else {
            assert_eq!(
                flag(container, "--webhook-configuration-name"),
                Some(name(configuration)),
                "{case:?}"
            );
            let roles = of_kind(&objects, "ClusterRole");
            let rule = roles
                .iter()
                .flat_map(|role| list(&role["rules"]))
                .find(|rule| rule["resources"] == json!(["mutatingwebhookconfigurations"]));
            assert_eq!(rule.unwrap()["resourceNames"], json!([name(configuration)]), "{case:?}");
        }
    }
}

#[test]
fn rights_are_granted_to_the_account_that_pods_use() {
    for case in CASES {
        let objects = render(case);
        let accounts: Vec<_> = of_kind(&objects, "ServiceAccount").into_iter().map(name).collect();
        let users: Vec<_> =
            pods(&objects).iter().map(|(_, _, spec)| text(&spec["serviceAccountName"])).collect();
        assert_eq!(accounts.len(), users.len(), "{case:?}");
        assert!(users.iter().all(|user| accounts.contains(user)), "{case:?}: {users:?} {accounts:?}");
        for (_, _, spec) in pods(&objects) {
            assert_eq!(
                spec["automountServiceAccountToken"], true,
                "{case:?}: the accounts have none mounted"
            );
        }
        for binding in objects.iter().filter(|object| kind(object).ends_with("RoleBinding")) {
            let subject = &binding["subjects"][0];
            assert!(users.contains(&text(&subject["name"])), "{case:?}: {subject}");
            assert_eq!(subject["namespace"], NAMESPACE, "{case:?}");
            let role = objects.iter().find(|role| {
                role["kind"] == binding["roleRef"]["kind"]
                    && role["metadata"]["name"] == binding["roleRef"]["name"]
                    && role["metadata"]["namespace"] == binding["metadata"]["namespace"]
            });
            assert!(role.is_some(), "{case:?}: {binding}");
        }
    }
}

/// With namespaces, nothing of other namespaces can be read.
#[test]
fn rights_of_the_cluster_are_no_more_than_needed() {
    for case in CASES {
        let objects = render(case);
        let has_namespaces = matches!(case.values, Some("everything" | "one-namespace" | "namespaced"));
        for role in of_kind(&objects, "ClusterRole") {
            for rule in list(&role["rules"]) {
                assert!(!rule.to_string().contains('*'), "{case:?}: {rule}");
                let is_own = rule["resourceNames"].is_array();
                assert!(is_own || !has_namespaces, "{case:?}: {rule}");
            }
        }
        for role in of_kind(&objects, "Role") {
            assert!(!role["rules"].to_string().contains('*'), "{case:?}: {role}");
        }
    }
}

/// Without a webhook, and with namespaces, whoever may install nothing of the cluster can install all there is.
#[test]
fn a_namespaced_installation_has_no_object_of_the_cluster() {
    const OF_NAMESPACES: [&str; 11] = [
        "Deployment",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "PrometheusRule",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
        "Certificate",
    ];
    let more = [
        vec![],
        vec!["--set=admissionPolicy.enabled=true", "--set=replicaCount=1", "--set=pdb.enabled=false"],
        vec!["--set=secrets.enabled=true", "--set=serviceAccount.name=mine"],
        vec!["--set=hash=version,secrets.enabled=true", "--set=webhook.failurePolicy=Ignore"],
    ];
    for more in more {
        let mut args = Case { release: "reloader", values: Some("namespaced") }.args();
        args.extend(more.iter().map(ToString::to_string));
        let objects = parse(&template("helm", "reloader", &args).unwrap()).unwrap();
        assert!(objects.len() > 8, "{more:?}: {}", objects.len());
        for object in objects {
            assert!(OF_NAMESPACES.contains(&kind(&object)), "{more:?}: {object}");
            let namespace = text(&object["metadata"]["namespace"]);
            assert!([NAMESPACE, "shop", "billing"].contains(&namespace), "{more:?}: {object}");
        }
    }
}

#[test]
fn policies_know_the_account_the_secrets_and_the_lease() {
    for case in CASES {
        let objects = render(case);
        let (spec, container, _) = operator(&objects);
        let policies = of_kind(&objects, "ValidatingAdmissionPolicy");
        // One more for each place where kinds of workload have their pod template.
        let templates: BTreeSet<_> = case.kinds().into_iter().map(|kind| kind.template).collect();
        let on_jobs = if case.has_jobs() { 2 } else { 0 };
        let expected = if case.has_webhook() { 3 + on_jobs + templates.len() } else { 0 };
        assert_eq!(policies.len(), expected, "{case:?}");
        let user = format!("'system:serviceaccount:{NAMESPACE}:{}'", text(&spec["serviceAccountName"]));
        for policy in &policies {
            assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{case:?}");
            let [condition] = list(&policy["spec"]["matchConditions"]) else { panic!("{policy}") };
            assert!(text(&condition["expression"]).ends_with(&user), "{case:?}: {condition}");
            let bindings = of_kind(&objects, "ValidatingAdmissionPolicyBinding");
            let bound = bindings.iter().filter(|it| it["spec"]["policyName"] == policy["metadata"]["name"]);
            assert_eq!(bound.count(), 1, "{case:?}: {policy}");
        }
        let all = policies.iter().map(ToString::to_string).collect::<String>();
        for role in of_kind(&objects, "Role") {
            for name in list(&role["rules"]).iter().flat_map(|rule| list(&rule["resourceNames"])) {
                let quoted = format!("'{}'", text(name));
                assert!(policies.is_empty() || all.contains(&quoted), "{case:?}: {quoted}");
            }
        }
        let lease = flag(container, "--leader-election-id").unwrap();
        assert!(policies.is_empty() || all.contains(&format!("'{lease}'")), "{case:?}: {lease}");
    }
}

/// Runs the operator with these arguments and one that ends it as soon as all before it were understood.
fn understands(args: &[String]) -> Result<(), String> {
    let output = Command::new(operator_binary().unwrap()).args(args).arg("--version").output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn the_operator_understands_its_arguments() {
    for case in CASES {
        for (pod, _, spec) in pods(&render(case)) {
            let args = list(&spec["containers"][0]["args"]).iter();
            let args: Vec<_> = args.map(|arg| text(arg).replace("$(POD_NAMESPACE)", NAMESPACE)).collect();
            assert!(!args.is_empty());
            assert_eq!(understands(&args), Ok(()), "{case:?}, {pod}: {args:?}");
        }
    }
    for bad in ["--settle-windows=2s", "--settle-window=2", "--log-format=xml"] {
        assert!(understands(&[bad.to_owned()]).is_err(), "{bad} is not noticed");
    }
}

/// The keys that the chart's list has, each as the list writes it.
fn keys_of_the_chart() -> Vec<Value> {
    let helpers = std::fs::read_to_string(chart::folder().join("templates/_dialects.tpl")).unwrap();
    let (_, list) = helpers.split_once("define \"pod-reloader.dialectKeys\" -}}").unwrap();
    let (list, _) = list.split_once("{{- end }}").unwrap();
    parse(list).unwrap().remove(0).as_array().unwrap().clone()
}

fn as_in_the_chart(dialect: &dyn Dialect, key: &Key) -> Option<Value> {
    let place = match key.place {
        Place::Annotation => "annotation",
        Place::Label => "label",
        Place::TemplateAnnotation => "templateAnnotation",
        // No condition can look there: what they do is recorded on the workload, or told by an entry for the namespace.
        Place::ConfigAnnotation | Place::NamespaceLabel => return None,
    };
    let mut line = json!({"dialect": dialect.name(), "key": key.name, "place": place});
    match key.effect {
        Effect::OptsIn(kinds) | Effect::Switches(kinds) => {
            let is_switch = matches!(key.effect, Effect::Switches(_));
            line["effect"] = if is_switch { "switches" } else { "optsIn" }.into();
            line["kinds"] = kinds.iter().map(|kind| kind.as_str()).collect();
        }
        Effect::LeavesAlone => line["effect"] = "leavesAlone".into(),
        Effect::Refines => line["effect"] = "refines".into(),
    }
    Some(line)
}

#[test]
fn the_chart_knows_the_keys_that_dialects_read() {
    let keys = ALL.iter().flat_map(|dialect| dialect.keys().iter().map(move |key| (*dialect, key)));
    let expected: Vec<_> = keys.clone().filter_map(|(dialect, key)| as_in_the_chart(dialect, key)).collect();
    assert_eq!(keys_of_the_chart(), expected);

    for follows_secrets in [true, false] {
        let args = [format!("--set=secrets.enabled={follows_secrets},admissionPolicy.enabled=true")];
        let objects = parse(&template("helm", "reloader", &args).unwrap()).unwrap();
        let webhook = &the(&objects, "MutatingWebhookConfiguration")["webhooks"][0]["matchConditions"];
        let managed = of_kind(&objects, "ValidatingAdmissionPolicy")
            .into_iter()
            .find_map(|policy| named(&policy["spec"]["variables"], "isManaged"))
            .unwrap();
        for (_, key) in keys.clone().filter(|(dialect, key)| as_in_the_chart(*dialect, key).is_some()) {
            let (condition, is_there) = match key.effect {
                Effect::OptsIn(kinds) | Effect::Switches(kinds) => {
                    ("opted-in", follows_secrets || kinds != [ConfigKind::Secret])
                }
                Effect::LeavesAlone => ("not-ignored", true),
                Effect::Refines => continue,
            };
            for condition in [named(webhook, condition).unwrap(), managed] {
                let names_it = text(&condition["expression"]).contains(&format!("'{}'", key.name));
                assert_eq!(names_it, is_there, "{key:?}, with Secrets: {follows_secrets}: {condition}");
            }
        }
    }
}
