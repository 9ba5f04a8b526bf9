{{/* What would go wrong later, and be hard to understand then. The schema has seen to the types before. */}}
{{- define "pod-reloader.validate" -}}
{{- $fullname := include "pod-reloader.fullname" . }}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" $fullname) }}
{{- fail (printf "%q cannot be the name of a Service, which has lower-case letters, digits and dashes only: set fullnameOverride to a name that can" $fullname) }}
{{- end }}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.leaderElection.enabled) }}
{{- fail "leaderElection.enabled must be true with more than one replica: all of them would reconcile" }}
{{- end }}
{{- include "pod-reloader.validateDurations" . }}
{{- include "pod-reloader.validateShutdown" . }}
{{- include "pod-reloader.validateAccount" . }}
{{- include "pod-reloader.validateWebhook" . }}
{{- include "pod-reloader.validateCertificates" . }}
{{- include "pod-reloader.validateScope" . }}
{{- include "pod-reloader.validateWorkloads" . }}
{{- include "pod-reloader.validateNetwork" . }}
{{- include "pod-reloader.validateImage" . }}
{{- include "pod-reloader.validateOtherReleases" . }}
{{- range tuple "serviceMonitor" "prometheusRule" }}
{{- if and (index $.Values.metrics .).enabled (not $.Values.metrics.service.enabled) }}
{{- fail (printf "metrics.%s.enabled needs metrics.service.enabled: Prometheus finds the pods through that Service" .) }}
{{- end }}
{{- end }}
{{- range .Values.webhook.matchConditions }}
{{- if has .name (list "opted-in" "not-ignored" "not-being-deleted" "not-own-patch") }}
{{- fail (printf "webhook.matchConditions: the name %q is taken by the chart's own condition; choose another" .name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "pod-reloader.validateCertificates" -}}
{{- $certificates := include "pod-reloader.certificates" . }}
{{- if and .Values.webhook.certManager.enabled .Values.webhook.existingSecret }}
{{- fail "webhook.certManager.enabled and webhook.existingSecret exclude each other: the certificate comes from one of the two" }}
{{- end }}
{{- if and (eq $certificates "existing") (not .Values.webhook.caBundle) (not (include "pod-reloader.isInjectedByUser" .)) }}
{{- fail "webhook.existingSecret needs webhook.caBundle, the CA that signed the certificate (--set-file webhook.caBundle=ca.crt); or have cert-manager's CA injector set it, with the annotation cert-manager.io/inject-ca-from-secret in webhook.annotations" }}
{{- end }}
{{- if and (eq $certificates "self-made") .Values.webhook.caBundle }}
{{- fail "webhook.caBundle is set, but the operator makes its own CA: set webhook.existingSecret or webhook.certManager.enabled too, or leave webhook.caBundle out" }}
{{- end }}
{{- end }}

{{/* How many seconds a duration is. */}}
{{- define "pod-reloader.seconds" -}}
{{- $seconds := 0.0 }}
{{- $units := dict "ns" 1e-9 "us" 1e-6 "µs" 1e-6 "ms" 1e-3 "s" 1.0 "m" 60.0 "h" 3600.0 }}
{{- range regexFindAll "[0-9.]+[a-zµ]+" (default "" .) -1 }}
{{- $unit := regexFind "[a-zµ]+$" . }}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (index $units $unit)) }}
{{- end }}
{{- $seconds }}
{{- end }}

{{/* The most that the operator takes for its flags. */}}
{{- define "pod-reloader.validateDurations" -}}
{{- if gt (include "pod-reloader.seconds" .Values.settleWindow | float64) 3600.0 }}
{{- fail (printf "settleWindow (%s) must be at most 1h" .Values.settleWindow) }}
{{- end }}
{{- if gt (include "pod-reloader.seconds" .Values.shutdownDelay | float64) 600.0 }}
{{- fail (printf "shutdownDelay (%s) must be at most 10m" .Values.shutdownDelay) }}
{{- end }}
{{- end }}

{{- define "pod-reloader.validateShutdown" -}}
{{- $delay := include "pod-reloader.seconds" .Values.shutdownDelay | float64 }}
{{- if ge $delay (float64 .Values.terminationGracePeriodSeconds) }}
{{- fail (printf "terminationGracePeriodSeconds (%d) must be longer than shutdownDelay (%s): pods would be killed while they still answer" (int .Values.terminationGracePeriodSeconds) .Values.shutdownDelay) }}
{{- end }}
{{- end }}
