{{/* What is installed at all: each is "true" or empty. A value that is null counts as its default. */}}

{{- define "pod-reloader.hasWebhook" -}}
{{- if ne (toString .Values.webhook.enabled) "false" }}true{{ end }}
{{- end }}

{{- define "pod-reloader.hasSecrets" -}}
{{- if ne (toString .Values.secrets.enabled) "false" }}true{{ end }}
{{- end }}

{{/* Whether CronJobs and Jobs are looked at. */}}
{{- define "pod-reloader.hasJobs" -}}
{{- if ne (toString .Values.jobs.enabled) "false" }}true{{ end }}
{{- end }}

{{/* Whether the label of a namespace has its workloads opt in. */}}
{{- define "pod-reloader.heedsNamespaceLabels" -}}
{{- if ne (toString .Values.optIn.namespaces) "false" }}true{{ end }}
{{- end }}

{{/* Whether an annotation on a ConfigMap or Secret has those opt in that read it. */}}
{{- define "pod-reloader.heedsObjectMarks" -}}
{{- if ne (toString .Values.optIn.objects) "false" }}true{{ end }}
{{- end }}

{{/* Whether nothing of the cluster is needed: no webhook, whose registration is an object of the cluster, and Roles in
namespaces that are named. */}}
{{- define "pod-reloader.isNamespaced" -}}
{{- if and .Values.namespaces (not (include "pod-reloader.hasWebhook" .)) }}true{{ end }}
{{- end }}

{{/* Policies are objects of the cluster: whoever may install none of those does without. */}}
{{- define "pod-reloader.hasAdmissionPolicy" -}}
{{- if and (ne (toString .Values.admissionPolicy.enabled) "false") (not (include "pod-reloader.isNamespaced" .)) }}true{{ end }}
{{- end }}

{{/* Whether one of the values' selectors (the argument) selects anything less than all. */}}
{{- define "pod-reloader.selects" -}}
{{- if or .matchLabels .matchExpressions }}true{{ end }}
{{- end }}

{{/* A label selector as kubectl writes it: `a=b,c in (d,e),f notin (g),h,!i`. */}}
{{- define "pod-reloader.selectorText" -}}
{{- $terms := list }}
{{- range $key, $value := default dict .matchLabels }}
{{- $terms = append $terms (printf "%s=%s" $key (default "" $value)) }}
{{- end }}
{{- range default list .matchExpressions }}
{{- if eq .operator "In" }}
{{- $terms = append $terms (printf "%s in (%s)" .key (join "," .values)) }}
{{- else if eq .operator "NotIn" }}
{{- $terms = append $terms (printf "%s notin (%s)" .key (join "," .values)) }}
{{- else if eq .operator "Exists" }}
{{- $terms = append $terms .key }}
{{- else if eq .operator "DoesNotExist" }}
{{- $terms = append $terms (printf "!%s" .key) }}
{{- end }}
{{- end }}
{{- join "," $terms }}
{{- end }}
