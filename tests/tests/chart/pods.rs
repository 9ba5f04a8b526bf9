//! What every pod of the chart must be like: the restricted Pod Security profile, and more.

use serde_json::{Value, json};

use crate::helm::{CASES, Case, render};
use crate::objects::{list, pods, text};

/// Volumes of other types are not for the restricted profile.
const VOLUMES: [&str; 6] = ["configMap", "csi", "downwardAPI", "emptyDir", "projected", "secret"];

#[test]
fn pods_fit_the_restricted_profile() {
    for case in CASES {
        let objects = render(case);
        let pods = pods(&objects);
        assert_eq!(pods.len(), 2, "{case:?}: the operator and its test");
        for (name, _, spec) in pods {
            let faults = faults(spec);
            assert!(faults.is_empty(), "{case:?}, pod {name}: {faults:?}");
        }
    }
}

#[test]
fn only_who_wants_it_gets_a_cpu_limit_or_the_nodes_network() {
    for case in CASES {
        for (name, _, spec) in pods(&render(case)) {
            let container = &spec["containers"][0];
            let is_limited = !container["resources"]["limits"]["cpu"].is_null();
            assert_eq!(is_limited, case.values == Some("saps"), "{case:?}, pod {name}: CPU limit");
            assert!(
                !container["resources"]["limits"]["memory"].is_null(),
                "{case:?}, pod {name}: memory limit"
            );
            let has_nodes_network = spec["hostNetwork"] == true;
            let wants_it = case.values == Some("own-certificate") && name.ends_with("pod-reloader");
            assert_eq!(has_nodes_network, wants_it, "{case:?}, pod {name}: the node's network");
        }
    }
}

#[test]
fn faults_are_found() {
    let good = pods(&render(Case { release: "pod-reloader", values: None }))[0].2.clone();
    for (pointer, value) in [
        ("/securityContext/runAsNonRoot", json!(null)),
        ("/securityContext/runAsUser", json!(0)),
        ("/securityContext/runAsUser", json!("65532")),
        ("/securityContext/seccompProfile/type", json!("Unconfined")),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(null)),
        ("/containers/0/securityContext/readOnlyRootFilesystem", json!(false)),
        ("/containers/0/securityContext/capabilities", json!({"drop": ["NET_RAW"]})),
        ("/containers/0/securityContext/capabilities", json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value.clone();
        assert_eq!(faults(&bad).len(), 1, "{pointer}: {value}");
    }
    let mut bad = good;
    bad["volumes"] = json!([{"name": "etc", "hostPath": {"path": "/etc"}}]);
    bad["hostPID"] = json!(true);
    assert_eq!(faults(&bad).len(), 2);
}

/// What the profile forbids, and what it leaves open but we do not want.
fn faults(spec: &Value) -> Vec<String> {
    let mut faults = vec![];
    let mut expect = |is_so: bool, what: &str| {
        if !is_so {
            faults.push(what.to_owned());
        }
    };
    let pod = &spec["securityContext"];
    expect(pod["runAsNonRoot"] == true, "runAsNonRoot is not true");
    // A name in the image's USER could not be checked by the kubelet.
    expect(pod["runAsUser"].as_u64().is_some_and(|user| user > 0), "no numeric user");
    expect(pod["seccompProfile"]["type"] == "RuntimeDefault", "no seccomp profile");
    for key in ["hostPID", "hostIPC"] {
        expect(spec[key].is_null(), key);
    }
    for volume in list(&spec["volumes"]) {
        expect(VOLUMES.iter().any(|kind| !volume[kind].is_null()), text(&volume["name"]));
    }
    expect(list(&spec["initContainers"]).is_empty(), "init containers are not looked at");
    for container in list(&spec["containers"]) {
        let context = &container["securityContext"];
        expect(context["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation is not false");
        expect(context["readOnlyRootFilesystem"] == true, "the root file system can be written");
        expect(context["capabilities"] == json!({"drop": ["ALL"]}), "capabilities");
        expect(context["privileged"] != true, "privileged");
        for key in ["runAsNonRoot", "runAsUser", "seccompProfile"] {
            expect(context[key].is_null(), "the container overrides the pod's context");
        }
        for port in list(&container["ports"]) {
            expect(port["hostPort"].is_null(), "a port of the node");
        }
    }
    faults
}
