//! Values that are wrong are refused with a message that says where and why; values that are only odd are not.

use crate::helm::{HELMS, parse, template};

/// What is set, and what the message has to say.
const BAD: &[(&str, &str)] = &[
    ("replicas=2", "additional properties 'replicas' not allowed"),
    ("image.registry=registry.example.com", "at '/image': additional properties 'registry' not allowed"),
    ("webhook.certmanager.enabled=true", "at '/webhook': additional properties 'certmanager' not allowed"),
    (
        "webhook.objectSelector.matchlabels.a=b",
        "at '/webhook/objectSelector': additional properties 'matchlabels'",
    ),
    ("metrics.enabled=true", "at '/metrics': additional properties 'enabled' not allowed"),
    ("networkPolicy.ingress=[]", "at '/networkPolicy': additional properties 'ingress' not allowed"),
    ("replicaCount=two", "at '/replicaCount': got string, want integer"),
    ("replicaCount=-1", "at '/replicaCount': minimum: got -1, want 0"),
    ("image=registry.example.com/pod-reloader", "at '/image': got string, want object"),
    // As a number it would come out as 2.0250101e+07.
    ("image.tag=20250101", "at '/image/tag': got number, want"),
    (
        "image.pullPolicy=always",
        "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
    ),
    ("imagePullSecrets={my-registry}", "at '/imagePullSecrets/0': got string, want object"),
    ("imagePullSecrets[0].nmae=my-registry", "at '/imagePullSecrets/0': missing property 'name'"),
    ("nodeSelector.gpu=true", "at '/nodeSelector/gpu': got boolean, want"),
    ("nodeSelector={a}", "at '/nodeSelector': got array, want"),
    ("tolerations.key=a", "at '/tolerations': got object, want"),
    ("topologySpreadConstraints[0].topologyKey=rack", "at '/topologySpreadConstraints/0': missing propert"),
    (
        "defaultZoneSpreadPolicy=Sometimes",
        "at '/defaultZoneSpreadPolicy': value must be one of 'ScheduleAnyway', 'DoNotSchedule'",
    ),
    ("podLabels.a=1", "at '/podLabels/a': got number, want"),
    ("podAnnotations.a=true", "at '/podAnnotations/a': got boolean, want"),
    ("podSecurityContext=none", "at '/podSecurityContext': got string, want"),
    ("resources=small", "at '/resources': got string, want"),
    ("hostNetwork=yes-please", "at '/hostNetwork': got string, want"),
    (
        "dnsPolicy=clusterFirst",
        "at '/dnsPolicy': value must be one of 'ClusterFirst', 'ClusterFirstWithHostNet', 'Default'",
    ),
    ("terminationGracePeriodSeconds=0", "at '/terminationGracePeriodSeconds': minimum: got 0, want 1"),
    ("terminationGracePeriodSeconds=45s", "at '/terminationGracePeriodSeconds': got string, want integer"),
    ("pdb.enabled=maybe", "at '/pdb/enabled': got string, want"),
    ("pdb.minAvailable=half", "at '/pdb/minAvailable': 'half' does not match pattern"),
    ("pdb.maxUnavailable=0.5", "at '/pdb/maxUnavailable': '0.5' does not match pattern"),
    ("webhook.failurePolicy=ignore", "at '/webhook/failurePolicy': value must be one of 'Fail', 'Ignore'"),
    ("webhook.timeoutSeconds=31", "at '/webhook/timeoutSeconds': maximum: got 31, want 30"),
    ("webhook.timeoutSeconds=10s", "at '/webhook/timeoutSeconds': got string, want integer"),
    ("webhook.matchConditions[0].name=a", "at '/webhook/matchConditions/0': missing property 'expression'"),
    ("webhook.certManager.duration=90d", "at '/webhook/certManager/duration': '90d' does not match pattern"),
    ("hash=sha256", "at '/hash': value must be one of 'content', 'version'"),
    ("settleWindow=2", "at '/settleWindow': got number, want"),
    ("settleWindow=2 seconds", "at '/settleWindow': '2 seconds' does not match pattern"),
    ("maxConcurrentPatches=0", "at '/maxConcurrentPatches': minimum: got 0, want 1"),
    ("maxConcurrentPatches=2000", "at '/maxConcurrentPatches': maximum: got 2,000, want 1,024"),
    ("namespaces=shop", "at '/namespaces': got string, want"),
    ("namespaces={Shop}", "at '/namespaces/0': 'Shop' does not match pattern"),
    ("namespaces={shop,shop}", "at '/namespaces': items at 0 and 1 are equal"),
    ("log.level=loud", "at '/log/level': 'loud' does not match pattern"),
    ("log.format=xml", "at '/log/format': value must be one of 'json', 'text'"),
    ("extraArgs=--zap-devel", "at '/extraArgs': got string, want"),
    ("extraEnv.A=b", "at '/extraEnv': got object, want"),
    ("serviceAccount.create=no-thanks", "at '/serviceAccount/create': got string, want"),
    ("metrics.service.port=70000", "at '/metrics/service/port': maximum: got 70,000, want 65,535"),
    (
        "networkPolicy.apiServerPorts={https}",
        "at '/networkPolicy/apiServerPorts/0': got string, want integer",
    ),
    ("image.digest=sha256:abc", "at '/image/digest': 'sha256:abc' does not match pattern"),
    ("webhook.enabled=maybe", "at '/webhook/enabled': got string, want"),
    ("webhook.clientCA.names={a,,b}", "at '/webhook/clientCA/names/1': '' does not match pattern"),
    ("webhook.clientCA.key=../ca.crt", "at '/webhook/clientCA/key': '../ca.crt' does not match pattern"),
    (
        "webhook.objectSelector.matchExpressions[0].key=a,webhook.objectSelector.matchExpressions[0].operator=Gt",
        "at '/webhook/objectSelector/matchExpressions/0/operator': value must be one of 'In', 'NotIn'",
    ),
    ("tls.minVersion=1.1", "at '/tls/minVersion': '1.1' does not match pattern"),
    ("tls.minVersion=TLSv1.2", "at '/tls/minVersion': 'TLSv1.2' does not match pattern"),
    (
        "tls.cipherSuites={ECDHE-RSA-AES128}",
        "at '/tls/cipherSuites/0': 'ECDHE-RSA-AES128' does not match pattern",
    ),
    ("secrets=false", "at '/secrets': got boolean, want object"),
    ("jobs=false", "at '/jobs': got boolean, want object"),
    (
        "admissionPolicy.validationActions={Refuse}",
        "at '/admissionPolicy/validationActions/0': value must be one",
    ),
    ("admissionPolicy.validationActions={Deny,Warn}", "at '/admissionPolicy/validationActions': "),
    ("flowSchema.matchingPrecedence=0", "at '/flowSchema/matchingPrecedence': minimum: got 0, want 1"),
    (
        "networkPolicy.apiServerCIDRs={10.0.0.1}",
        "at '/networkPolicy/apiServerCIDRs/0': '10.0.0.1' does not match",
    ),
    ("metrics.secure=very", "at '/metrics/secure': got string, want"),
    // Half of the chart would be gone, rather than its default.
    ("webhook=null", "missing property 'webhook'"),
    ("replicaCount=null", "missing property 'replicaCount'"),
];

/// Odd, but right: what is set, and what has to be rendered somewhere.
const ODD: &[(&str, &str)] = &[
    ("replicaCount=0", "replicas: 0"),
    ("pdb.minAvailable=1", "minAvailable: 1"),
    ("pdb.minAvailable=25%", "minAvailable: 25%"),
    ("pdb.minAvailable=null", "minAvailable: 1"),
    ("image.tag=null", concat!("pod-reloader:v", env!("CARGO_PKG_VERSION"))),
    ("tls.minVersion=1.3", "--tls-min-version=1.3"),
    ("tls.minVersion=null", "--log-format=json"),
    ("webhook.enabled=null", "--webhook-bind-address=:9443"),
    ("secrets.enabled=null", "resources: [configmaps, secrets]"),
    ("jobs.enabled=null", "resources: [jobs]"),
    ("admissionPolicy.enabled=null", "kind: ValidatingAdmissionPolicy"),
    ("admissionPolicy.validationActions=null", "- Deny"),
    ("otherReleases.refuse=null", "replicas: 2"),
    ("networkPolicy.enabled=true,networkPolicy.apiServerCIDRs=null", "policyTypes: [Ingress, Egress]"),
    ("image.repository=null", concat!("pod-reloader:v", env!("CARGO_PKG_VERSION"))),
    ("image.repository=registry.example.com:5000/pod-reloader", "registry.example.com:5000/pod-reloader:"),
    ("podSecurityContext.runAsUser=null", "runAsNonRoot: true"),
    ("podSecurityContext.sysctls[0].name=net.ipv4.ip_unprivileged_port_start", "sysctls:"),
    ("resources.limits.example\\.com/gpu=1", "example.com/gpu: 1"),
    ("resources=null", "replicas: 2"),
    ("affinity.podAntiAffinity.unknownToUs=true", "unknownToUs: true"),
    ("webhook.annotations=null", "failurePolicy: Fail"),
    ("webhook.certManager.enabled=null", "--webhook-configuration-name=x-pod-reloader"),
    ("webhook.caBundle=null", "failurePolicy: Fail"),
    ("namespaces=null", "kind: ClusterRole"),
    ("imagePullSecrets=null", "replicas: 2"),
    ("topologySpreadConstraints=null", "topologyKey: kubernetes.io/hostname"),
    ("defaultHostNameSpreadPolicy=null", "whenUnsatisfiable: ScheduleAnyway"),
    ("hostNetwork=null", "hostNetwork: false"),
    ("settleWindow=0s", "--settle-window=0s"),
    ("settleWindow=1.5s", "--settle-window=1.5s"),
    ("log.level=null", "--log-format=json"),
    ("log.level=3", "--zap-log-level=3"),
    ("extraArgs=null", "--log-format=json"),
    ("global.imageRegistry=registry.example.com", "replicas: 2"),
];

fn set(assignment: &str) -> Vec<String> {
    vec!["--set".into(), assignment.into()]
}

#[test]
fn wrong_values_are_refused() {
    for helm in HELMS {
        let mut missed = vec![];
        for (assignment, message) in BAD {
            match template(helm, "x", &set(assignment)) {
                Ok(_) => missed.push(format!("{assignment}: accepted")),
                Err(error) if error.contains(message) => {}
                Err(error) => missed.push(format!("{assignment}: expected {message:?} in {error}")),
            }
        }
        assert!(missed.is_empty(), "{helm}:\n{}", missed.join("\n"));
    }
}

#[test]
fn odd_values_are_taken() {
    for helm in HELMS {
        let mut missed = vec![];
        for (assignment, expected) in ODD {
            match template(helm, "x", &set(assignment)) {
                Ok(text) if text.contains(expected) => {
                    if let Err(error) = parse(&text) {
                        missed.push(format!("{assignment}: {error}"));
                    }
                }
                Ok(_) => missed.push(format!("{assignment}: {expected:?} is not rendered")),
                Err(error) => missed.push(format!("{assignment}: {error}")),
            }
        }
        assert!(missed.is_empty(), "{helm}:\n{}", missed.join("\n"));
    }
}
