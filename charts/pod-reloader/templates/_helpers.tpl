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

{{/* The full name with a suffix, within the 63 characters that Services and labels may have. Takes a list of the root and
the suffix. */}}
{{- define "pod-reloader.suffixed" -}}
{{- $suffix := printf "-%s" (last .) }}
{{- include "pod-reloader.fullname" (first .) | trunc (sub 63 (len $suffix) | int) | trimSuffix "-" }}{{ $suffix }}
{{- end }}

{{- define "pod-reloader.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pod-reloader.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "pod-reloader.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "pod-reloader.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The chart's labels and the user's, which win. Takes a list of the root and the user's. */}}
{{- define "pod-reloader.labelsWith" -}}
{{- $labels := include "pod-reloader.labels" (first .) | fromYaml }}
{{- last . | default dict | mergeOverwrite $labels | toYaml }}
{{- end }}

{{/* What tells our pods from those of SAP's chart, which an upgrade leaves running for a while beside ours: their
certificate is one that the API server no longer trusts. A key of our own, since users set the common ones to what they
like. */}}
{{- define "pod-reloader.servingLabels" -}}
{{ include "pod-reloader.selectorLabels" . }}
pod-reloader/serving: "true"
{{- end }}

{{/* The Lease: one per release, since releases in one namespace may watch different namespaces. A release called
pod-reloader keeps SAP's name for it, so that the two never lead at once while one takes over from the other. */}}
{{- define "pod-reloader.leaseName" -}}
{{- $fullname := include "pod-reloader.fullname" . }}
{{- if eq $fullname "pod-reloader" }}pod-reloader.cs.sap.com
{{- else }}pod-reloader.cs.sap.com-{{ $fullname }}
{{- end }}
{{- end }}

{{- define "pod-reloader.serviceAccountName" -}}
{{- /* A name has to be given where no account is made: pod-reloader.validate sees to it. */}}
{{- default (include "pod-reloader.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{/* SAP's image cannot run with this chart: values that name it come from an installation that is being taken over, and
mean "the image of the chart". It is known by its repository alone, also in mirrors that keep the registry's name. Whatever
else the values name is taken as it is. */}}
{{- define "pod-reloader.isSapsImage" -}}
{{- if regexMatch "^(ghcr[.]io|.+/ghcr([.]io)?)/sap/pod-reloader$" (default "" .Values.image.repository) }}true{{ end }}
{{- end }}

{{- define "pod-reloader.image" -}}
{{- $repository := .Values.image.repository }}
{{- $tag := .Values.image.tag }}
{{- $digest := .Values.image.digest }}
{{- if include "pod-reloader.isSapsImage" . }}
{{- $repository = "" }}
{{- $tag = "" }}
{{- $digest = "" }}
{{- end }}
{{- $repository = default (index .Chart.Annotations "pod-reloader/image-repository") $repository }}
{{- $tag = default .Chart.AppVersion $tag }}
{{- $repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- /* A tag that has it already may have no second one. */}}
{{- if and $digest (not (hasSuffix $digest $tag)) }}@{{ $digest }}{{ end }}
{{- end }}
