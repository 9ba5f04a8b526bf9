//! Rendering: by each Helm, for each Kubernetes, with long names and as a part of another chart.

use std::fs;

use pod_reloader_e2e::chart;

use crate::helm::{CASES, Case, HELMS, NAMESPACE, parse, render, run, template};
use crate::objects::{kind, map, name, text};

/// From the oldest that the chart takes up to the newest there is.
const MINORS: std::ops::RangeInclusive<u32> = 30..=36;

#[test]
fn every_supported_kubernetes_gets_the_same() {
    for helm in HELMS {
        for case in CASES {
            let expected = template(helm, case.release, &case.args()).unwrap();
            for minor in MINORS {
                // Versions of providers have a suffix, which makes them pre-releases to SemVer.
                for version in [format!("v1.{minor}.0"), format!("v1.{minor}.4-gke.1")] {
                    let mut args = case.args();
                    args.extend(["--kube-version".into(), version.clone()]);
                    let rendered = template(helm, case.release, &args);
                    assert_eq!(rendered.as_ref(), Ok(&expected), "{helm}, {version}, {case:?}");
                }
            }
        }
    }
}

#[test]
fn an_older_kubernetes_is_refused() {
    for helm in HELMS {
        let error = template(helm, "x", &["--kube-version".into(), "v1.29.14".into()]).unwrap_err();
        assert!(error.contains("chart requires kubeVersion: >=1.30.0-0"), "{helm}: {error}");
        assert!(error.contains("incompatible with Kubernetes v1.29.14"), "{helm}: {error}");
    }
}

/// In another order: they sort kinds that they do not know differently.
#[test]
fn both_helms_render_the_same() {
    for case in CASES {
        let [four, three] = HELMS.map(|helm| {
            let objects = parse(&template(helm, case.release, &case.args()).unwrap()).unwrap();
            let mut objects: Vec<_> = objects.iter().map(ToString::to_string).collect();
            objects.sort_unstable();
            objects
        });
        for (four, three) in four.iter().zip(&three) {
            assert_eq!(four, three, "{case:?}");
        }
        assert_eq!(four.len(), three.len(), "{case:?}");
    }
}

#[test]
fn nothing_is_left_unrendered() {
    for case in CASES {
        let rendered = template("helm", case.release, &case.args()).unwrap();
        for leftover in ["<no value>", "<nil>", "%!", "{{", "}}", "map["] {
            assert!(!rendered.contains(leftover), "{case:?}: {leftover} in\n{rendered}");
        }
    }
}

#[test]
fn objects_have_namespaces_names_and_labels_that_kubernetes_takes() {
    const CLUSTER_WIDE: [&str; 6] = [
        "ClusterRole",
        "ClusterRoleBinding",
        "FlowSchema",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    for case in CASES {
        for object in render(case) {
            let what = format!("{case:?}: {} {}", kind(&object), name(&object));
            let name = name(&object);
            assert!(name.len() <= 63 && !name.ends_with('-'), "{what}");
            let is_named = !object["metadata"]["namespace"].is_null();
            assert_eq!(is_named, !CLUSTER_WIDE.contains(&kind(&object)), "{what}: namespace");
            for key in ["labels", "annotations"] {
                if object["metadata"][key].is_null() && key == "annotations" {
                    continue;
                }
                for (key, value) in map(&object["metadata"][key]) {
                    let value = text(value);
                    let is_label = object["metadata"]["labels"].get(key).is_some();
                    assert!(!is_label || value.len() <= 63, "{what}: {key}={value}");
                }
            }
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/instance"], case.release, "{what}");
        }
    }
}

#[test]
fn no_two_objects_are_the_same() {
    for case in CASES {
        let objects = render(case);
        let mut ids: Vec<_> = objects
            .iter()
            .map(|object| (kind(object), object["metadata"]["namespace"].as_str(), name(object)))
            .collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "{case:?}");
    }
}

/// Values of a parent chart are merged differently: a null stays there, and `global` is added.
#[test]
fn the_chart_can_be_a_part_of_another() {
    for helm in HELMS {
        let directory = tempfile::tempdir().unwrap();
        let parent = directory.path().join("parent");
        fs::create_dir_all(parent.join("charts")).unwrap();
        let metadata = format!(
            "apiVersion: v2\nname: parent\nversion: 0.0.1\ndependencies:\n- name: pod-reloader\n  version: {}\n",
            env!("CARGO_PKG_VERSION")
        );
        fs::write(parent.join("Chart.yaml"), metadata).unwrap();
        let values = "global: {imageRegistry: registry.example.com}\npod-reloader:\n  image: {tag: null}\n  hash: null\n  \
                      podSecurityContext: {runAsUser: null}\n  pdb: {minAvailable: null}\n";
        fs::write(parent.join("values.yaml"), values).unwrap();
        let package = [
            "package".into(),
            chart::folder().display().to_string(),
            "--destination".into(),
            parent.join("charts").display().to_string(),
        ];
        run(helm, &package).unwrap();
        let args = ["template", "x", "--namespace", NAMESPACE].map(Into::into);
        let args: Vec<String> = args.into_iter().chain([parent.display().to_string()]).collect();
        let objects = parse(&run(helm, &args).unwrap()).unwrap();
        let expected = render(Case { release: "x", values: None });
        assert_eq!(objects.len(), expected.len(), "{helm}");
    }
}
