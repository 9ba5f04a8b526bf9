{{/* Names and labels are those of SAP's chart: a Deployment's selector cannot change, and its releases are upgraded in
place. */}}
{{- define "pod-reloader.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "pod-reloader.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "pod-reloader.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pod-reloader.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "pod-reloader.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "pod-reloader.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What tells our pods from those of SAP's chart, which an upgrade leaves running for a while beside ours: their
certificate is one that the API server no longer trusts. */}}
{{- define "pod-reloader.servingLabels" -}}
app.kubernetes.io/part-of: pod-reloader
{{- end }}

{{- define "pod-reloader.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "pod-reloader.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* SAP's image cannot run with this chart: values that name it come from an installation that is being taken over, and
mean "the image of the chart". */}}
{{- define "pod-reloader.isSapsImage" -}}
{{- if regexMatch "^[^/]+/sap/pod-reloader$" .Values.image.repository }}true{{ end }}
{{- end }}

{{- define "pod-reloader.image" -}}
{{- $repository := .Values.image.repository }}
{{- $tag := .Values.image.tag | toString }}
{{- if include "pod-reloader.isSapsImage" . }}
{{- $repository = index .Chart.Annotations "pod-reloader/image-repository" | default "pod-reloader" }}
{{- $tag = "" }}
{{- end }}
{{- $tag = default .Chart.AppVersion $tag }}
{{- if contains ":" $tag }}
{{- printf "%s@%s" $repository $tag }}
{{- else }}
{{- printf "%s:%s" $repository $tag }}
{{- end }}
{{- end }}

{{/* Who makes the webhook's certificate: "cert-manager", "existing" or "self-made". */}}
{{- define "pod-reloader.certificates" -}}
{{- if and .Values.webhook.certManager.enabled .Values.webhook.existingSecret }}
{{- fail "webhook.certManager.enabled and webhook.existingSecret exclude each other: the certificate comes from one of the two" }}
{{- end }}
{{- if .Values.webhook.certManager.enabled }}cert-manager
{{- else if .Values.webhook.existingSecret }}existing
{{- else }}self-made
{{- end }}
{{- end }}

{{/* The Secret that is mounted; none if the operator makes its own certificate. */}}
{{- define "pod-reloader.tlsSecretName" -}}
{{- $certificates := include "pod-reloader.certificates" . }}
{{- if eq $certificates "cert-manager" }}{{ include "pod-reloader.fullname" . }}-tls-managed
{{- else if eq $certificates "existing" }}{{ .Values.webhook.existingSecret }}
{{- end }}
{{- end }}

{{/* The caBundle in base64, if the values have one: PEM, or base64 of it. */}}
{{- define "pod-reloader.caBundle" -}}
{{- with .Values.webhook.caBundle | trim }}
{{- if hasPrefix "-----BEGIN " . }}
{{- printf "%s\n" . | b64enc }}
{{- else if hasPrefix "-----BEGIN " (b64dec .) }}
{{- . }}
{{- else }}
{{- fail "webhook.caBundle must be certificates in PEM form (-----BEGIN CERTIFICATE-----...), or base64 of that; try --set-file webhook.caBundle=ca.crt" }}
{{- end }}
{{- end }}
{{- end }}

{{/* What goes wrong later, and is hard to understand then. */}}
{{- define "pod-reloader.validate" -}}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.leaderElection.enabled) }}
{{- fail "leaderElection.enabled must be true with more than one replica: all of them would reconcile" }}
{{- end }}
{{- $certificates := include "pod-reloader.certificates" . }}
{{- $isInjected := or (hasKey .Values.webhook.annotations "cert-manager.io/inject-ca-from-secret") (hasKey .Values.webhook.annotations "cert-manager.io/inject-ca-from") }}
{{- if and (eq $certificates "existing") (not .Values.webhook.caBundle) (not $isInjected) }}
{{- fail "webhook.existingSecret needs webhook.caBundle, the CA that signed the certificate (--set-file webhook.caBundle=ca.crt); or have cert-manager's CA injector set it, with the annotation cert-manager.io/inject-ca-from-secret in webhook.annotations" }}
{{- end }}
{{- if and (eq $certificates "self-made") .Values.webhook.caBundle }}
{{- fail "webhook.caBundle is set, but the operator makes its own CA: set webhook.existingSecret or webhook.certManager.enabled too, or leave webhook.caBundle out" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs metrics.service.enabled: a ServiceMonitor finds pods through their Service" }}
{{- end }}
{{- range .Values.webhook.matchConditions }}
{{- if has .name (list "opted-in" "not-ignored") }}
{{- fail (printf "webhook.matchConditions: the name %q is taken by the chart's own condition; choose another" .name) }}
{{- end }}
{{- end }}
{{- end }}
