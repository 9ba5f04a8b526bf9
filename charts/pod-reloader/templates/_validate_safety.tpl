{{/* What is unsafe, or could not work with the rights that there would be. */}}

{{/* The operator's rights on Secrets must not go to an account that pods get without asking. */}}
{{- define "pod-reloader.validateAccount" -}}
{{- $name := default "" .Values.serviceAccount.name }}
{{- if and (not .Values.serviceAccount.create) (not $name) }}
{{- fail "serviceAccount.create is false, so serviceAccount.name must name the account to use: without it, the namespace's account `default` would get the operator's rights, and every pod there that names no account of its own" }}
{{- end }}
{{- if eq (include "pod-reloader.serviceAccountName" .) "default" }}
{{- fail "the operator needs a service account of its own: every pod of the namespace that names none has the account `default`; choose another serviceAccount.name" }}
{{- end }}
{{- if and $name (or (gt (len $name) 253) (not (regexMatch "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" $name))) }}
{{- fail (printf "serviceAccount.name: %q cannot be the name of a service account, which has lower-case letters, digits, dashes and dots only" $name) }}
{{- end }}
{{- if and (not .Values.rbac.create) (not $name) }}
{{- fail "rbac.create is false, so serviceAccount.name must name an account that somebody else grants what the operator needs: `helm template` with rbac.create=true, and --show-only templates/rbac.yaml, prints that" }}
{{- end }}
{{- end }}

{{- define "pod-reloader.validateWebhook" -}}
{{- /* A version that is written as a number can lie between two. */}}
{{- if not (has (default "" .Values.tls.minVersion | toString) (list "" "VersionTLS12" "VersionTLS13" "1.2" "1.3")) }}
{{- fail (printf "tls.minVersion: there is no TLS %v; choose VersionTLS12 or VersionTLS13" .Values.tls.minVersion) }}
{{- end }}
{{- $clientCA := .Values.webhook.clientCA }}
{{- if and $clientCA.existingConfigMap $clientCA.existingSecret }}
{{- fail "webhook.clientCA.existingConfigMap and webhook.clientCA.existingSecret exclude each other: the CA comes from one of the two" }}
{{- end }}
{{- if and $clientCA.names (not (or $clientCA.existingConfigMap $clientCA.existingSecret)) }}
{{- fail "webhook.clientCA.names are names in certificates that a CA has signed: set webhook.clientCA.existingConfigMap or webhook.clientCA.existingSecret, too; without a CA anybody could call the webhook" }}
{{- end }}
{{- if has (default "ca.crt" $clientCA.key) (list "." "..") }}
{{- fail (printf "webhook.clientCA.key: %q cannot be the key of a ConfigMap or Secret" $clientCA.key) }}
{{- end }}
{{- if not (include "pod-reloader.hasWebhook" .) }}
{{- range $key, $value := dict "webhook.certManager.enabled" .Values.webhook.certManager.enabled "webhook.existingSecret" .Values.webhook.existingSecret "webhook.caBundle" .Values.webhook.caBundle "webhook.clientCA" (or $clientCA.existingConfigMap $clientCA.existingSecret) }}
{{- if $value }}
{{- fail (printf "webhook.enabled is false, but %s is set: without the webhook there is nothing that it would be for; leave one of them out" $key) }}
{{- end }}
{{- end }}
{{- if .Values.metrics.secure }}
{{- fail "metrics.secure needs webhook.enabled: the metrics are served with the webhook's certificate" }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.secure (eq (include "pod-reloader.certificates" .) "existing") .Values.metrics.serviceMonitor.enabled (not .Values.metrics.serviceMonitor.tlsConfig) }}
{{- fail "metrics.secure with webhook.existingSecret needs metrics.serviceMonitor.tlsConfig: the chart cannot know how Prometheus verifies your certificate" }}
{{- end }}
{{- end }}

{{/* What needs a right in the cluster, or an object of it, cannot be in an installation that has neither. */}}
{{- define "pod-reloader.validateScope" -}}
{{- if include "pod-reloader.isNamespaced" . }}
{{- if .Values.metrics.secure }}
{{- fail "metrics.secure needs rights of the cluster (to create TokenReviews and SubjectAccessReviews), and with webhook.enabled=false and namespaces there are none: use a NetworkPolicy (networkPolicy.metricsFrom) instead" }}
{{- end }}
{{- if .Values.flowSchema.enabled }}
{{- fail "flowSchema.enabled makes an object of the cluster, and with webhook.enabled=false and namespaces there is to be none: leave one of them out" }}
{{- end }}
{{- end }}
{{- if and (not (include "pod-reloader.hasSecrets" .)) (eq (default "" .Values.hash) "version") }}
{{- fail "secrets.enabled must be true with hash=version: that hash is made of the versions of Secrets, too" }}
{{- end }}
{{- range tuple "namespaceSelector" "objectSelector" }}
{{- $which := . }}
{{- range (index $.Values.webhook .).matchExpressions }}
{{- if and (has .operator (list "In" "NotIn")) (not .values) }}
{{- fail (printf "webhook.%s.matchExpressions: %s with the operator %s needs values" $which .key .operator) }}
{{- end }}
{{- if and (has .operator (list "Exists" "DoesNotExist")) .values }}
{{- fail (printf "webhook.%s.matchExpressions: %s with the operator %s must have no values" $which .key .operator) }}
{{- end }}
{{- end }}
{{- range $key, $value := (index $.Values.webhook .).matchLabels }}
{{- if or (not (regexMatch "^[^\\s,()=!]+$" $key)) (not (regexMatch "^[-._a-zA-Z0-9]*$" (default "" $value))) }}
{{- fail (printf "webhook.%s.matchLabels: %q: %q cannot be a label" $which $key (default "" $value)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "pod-reloader.validateNetwork" -}}
{{- if and .Values.networkPolicy.enabled .Values.hostNetwork }}
{{- fail "networkPolicy.enabled has no effect on pods with hostNetwork: leave it out, and guard the nodes' ports 8080, 8081 and 9443 by other means" }}
{{- end }}
{{- end }}

{{- define "pod-reloader.validateImage" -}}
{{- $image := .Values.image }}
{{- if not (include "pod-reloader.isSapsImage" .) }}
{{- if regexMatch "\\s" (printf "%s:%s" (default "" $image.repository) (default "" $image.tag)) }}
{{- fail (printf "image.repository (%q) and image.tag (%q) must have no blanks" (default "" $image.repository) (default "" $image.tag)) }}
{{- end }}
{{- if and $image.digest (contains "sha256:" (default "" $image.tag)) (not (hasSuffix $image.digest $image.tag)) }}
{{- fail (printf "image.tag (%s) has a digest, and image.digest (%s) is another one: leave one of them out" $image.tag $image.digest) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Two installations over one workload reload it twice, and take its annotations from each other until one stands down. They
are found by their webhooks' registrations or, if they have none, by their rights, as far as Helm can look: `helm template`
cannot, and nor can an installation without rights in the cluster outside of its namespaces. A release is not another one
to itself, nor is SAP's of the same name and namespace, which this chart takes the place of.
*/}}
{{- define "pod-reloader.validateOtherReleases" -}}
{{- if ne (toString .Values.otherReleases.refuse) "false" }}
{{- $registered := list (printf "%s/%s" .Release.Namespace .Release.Name) }}
{{- $isNamespaced := include "pod-reloader.isNamespaced" . }}
{{- if not $isNamespaced }}
{{- range default list (lookup "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "" "").items }}
{{- include "pod-reloader.refuseRegistration" (list $ .) }}
{{- $instance := index (default dict .metadata.labels) "app.kubernetes.io/instance" | default "" }}
{{- $theirs := index (default dict .metadata.annotations) "meta.helm.sh/release-namespace" }}
{{- range .webhooks }}
{{- $registered = append $registered (printf "%s/%s" (default "" (default $theirs (default dict .clientConfig.service).namespace)) $instance) }}
{{- end }}
{{- end }}
{{- range default list (lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "").items }}
{{- include "pod-reloader.refuseRights" (list $ . $registered) }}
{{- end }}
{{- end }}
{{- /* Without `namespaces`, those of all. */}}
{{- range $namespace := default (list "") .Values.namespaces }}
{{- range default list (lookup "rbac.authorization.k8s.io/v1" "Role" $namespace "").items }}
{{- include "pod-reloader.refuseRights" (list $ . $registered) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes a list of the root, a Role or ClusterRole, and the releases that are judged by their registrations. */}}
{{- define "pod-reloader.refuseRights" -}}
{{- $root := first . }}
{{- $role := index . 1 }}
{{- $labels := default dict $role.metadata.labels }}
{{- $instance := index $labels "app.kubernetes.io/instance" | default "" }}
{{- $theirs := index (default dict $role.metadata.annotations) "meta.helm.sh/release-namespace" | default "" }}
{{- $isOurs := and (eq $instance $root.Release.Name) (not $theirs) }}
{{- $isKnown := has (printf "%s/%s" $theirs $instance) (index . 2) }}
{{- $patches := false }}
{{- range $role.rules }}
{{- if and (has "apps" (default list .apiGroups)) (has "patch" (default list .verbs)) }}{{ $patches = true }}{{ end }}
{{- end }}
{{- $weSelect := or (include "pod-reloader.selects" $root.Values.webhook.namespaceSelector) (include "pod-reloader.selects" $root.Values.webhook.objectSelector) }}
{{- if and $patches (hasPrefix "pod-reloader-" (index $labels "helm.sh/chart" | default "")) (not $isOurs) (not $isKnown) (not $weSelect) }}
{{- include "pod-reloader.refuseOverlap" (list $root $instance $theirs (default "every namespace" $role.metadata.namespace)) }}
{{- end }}
{{- end }}

{{/* Takes a list of the root and a MutatingWebhookConfiguration. */}}
{{- define "pod-reloader.refuseRegistration" -}}
{{- $root := first . }}
{{- $configuration := last . }}
{{- $labels := default dict $configuration.metadata.labels }}
{{- $instance := index $labels "app.kubernetes.io/instance" | default "" }}
{{- range $configuration.webhooks }}
{{- /* One that is called by a URL has no Service. */}}
{{- $namespace := default (index (default dict $configuration.metadata.annotations) "meta.helm.sh/release-namespace") (default dict .clientConfig.service).namespace | default "" }}
{{- $isOurs := and (eq $instance $root.Release.Name) (eq $namespace $root.Release.Namespace) }}
{{- $isReloader := or (eq .name "pod-reloader.cs.sap.com") (hasPrefix "pod-reloader-" (index $labels "helm.sh/chart" | default "")) }}
{{- if and $isReloader (not $isOurs) }}
{{- $theirs := list }}
{{- $others := list }}
{{- range (default dict .namespaceSelector).matchExpressions }}
{{- if and (eq .key "kubernetes.io/metadata.name") (eq .operator "In") }}
{{- $theirs = .values }}
{{- /* What parts a registration's own entries leaves nothing out. */}}
{{- else if ne .key "pod-reloader.cs.sap.com/auto" }}
{{- $others = append $others . }}
{{- end }}
{{- end }}
{{- $ours := default list $root.Values.namespaces }}
{{- $shared := "every namespace" }}
{{- $overlaps := true }}
{{- if or $ours $theirs }}
{{- $both := list }}
{{- range (default $theirs $ours) }}
{{- if or (not $ours) (not $theirs) (has . $theirs) }}{{ $both = append $both . }}{{ end }}
{{- end }}
{{- $overlaps = gt (len $both) 0 }}
{{- $shared = join ", " $both }}
{{- end }}
{{- /* Selectors may part what namespaces do not: whether they do cannot be told from here. */}}
{{- $theySelect := or $others (default dict .namespaceSelector).matchLabels (include "pod-reloader.selects" (default dict .objectSelector)) }}
{{- $weSelect := or (include "pod-reloader.selects" $root.Values.webhook.namespaceSelector) (include "pod-reloader.selects" $root.Values.webhook.objectSelector) }}
{{- if and $overlaps (not $theySelect) (not $weSelect) }}
{{- include "pod-reloader.refuseOverlap" (list $root $instance $namespace $shared) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes a list of the root, the other release's name and namespace, and what both work in. */}}
{{- define "pod-reloader.refuseOverlap" -}}
{{- fail (printf "the release %s in the namespace %s reloads workloads in %s already, and two would undo each other's work: uninstall it, or set namespaces of both so that they do not overlap (otherReleases.refuse=false installs all the same)" (default "?" (index . 1)) (default "?" (index . 2)) (index . 3)) }}
{{- end }}
