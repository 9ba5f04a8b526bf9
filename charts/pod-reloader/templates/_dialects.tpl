{{/*
What dialects read of a workload's own metadata, once for all that names it: the webhook's conditions and the policies.
The operator's own list is the dialects' `keys` in crates/core/src/dialect; tests/tests/chart/agreement.rs holds the two
against each other. Whatever may have a workload follow something must be here, or its writes are never sent to the webhook.
*/}}
{{- define "pod-reloader.dialectKeys" -}}
- {dialect: sap, key: pod-reloader.cs.sap.com/configmaps, place: annotation, effect: optsIn, kinds: [ConfigMap]}
- {dialect: sap, key: pod-reloader.cs.sap.com/secrets, place: annotation, effect: optsIn, kinds: [Secret]}
- {dialect: sap, key: pod-reloader.cs.sap.com/ignored, place: label, effect: leavesAlone}
- {dialect: sap, key: pod-reloader.cs.sap.com/disabled, place: label, effect: leavesAlone}
{{- end }}

{{/* The dialects by which a workload can opt in, each with its keys by their effect, as a JSON list. Without Secrets, the
keys that are about nothing else are left out. */}}
{{- define "pod-reloader.dialects" -}}
{{- $root := . }}
{{- $dialects := dict }}
{{- range include "pod-reloader.dialectKeys" . | fromYamlArray }}
{{- $dialect := default (dict "optsIn" list "leavesAlone" list) (get $dialects .dialect) }}
{{- if or (ne .effect "optsIn") (has "ConfigMap" .kinds) (include "pod-reloader.hasSecrets" $root) }}
{{- $_ := set $dialect .effect (append (default list (get $dialect .effect)) .) }}
{{- end }}
{{- $_ := set $dialects .dialect $dialect }}
{{- end }}
{{- $list := list }}
{{- range $dialect := $dialects }}
{{- if $dialect.optsIn }}
{{- $list = append $list $dialect }}
{{- end }}
{{- end }}
{{- $list | toJson }}
{{- end }}

{{/* Whether one of some keys has a value that passes a test, in CEL. The arguments: `keys`, `test`, and where to look for
each place, `annotation` and `label`. */}}
{{- define "pod-reloader.someKeyInCel" -}}
{{- $terms := list }}
{{- range $place := list "annotation" "label" }}
{{- $names := list }}
{{- range $.keys }}
{{- if eq .place $place }}
{{- $names = append $names .key }}
{{- end }}
{{- end }}
{{- if $names }}
{{- $terms = append $terms (printf "['%s'].exists(key,\n  %s[?key].orValue('')%s)" (join "', '" $names) (get $ $place) $.test) }}
{{- end }}
{{- end }}
{{- if $terms }}{{ join " ||\n" $terms }}{{ else }}false{{ end }}
{{- end }}

{{/* The same, of `workload` in a condition of the webhook. */}}
{{- define "pod-reloader.someKeyOfWorkloadInCel" -}}
{{- $metadata := "optional.ofNonZeroValue(workload).?metadata" }}
{{- dict "keys" .keys "test" .test "annotation" (printf "%s.?annotations" $metadata) "label" (printf "%s.?labels" $metadata) | include "pod-reloader.someKeyInCel" }}
{{- end }}

{{/* At least one entry that is not blank. */}}
{{- define "pod-reloader.optsInTest" -}}
.matches('[^\\s,]')
{{- end }}

{{/* Whether, before or after a write, one of these keys has a workload opt in. */}}
{{- define "pod-reloader.optedInInCel" -}}
[object, oldObject].exists(workload,
  {{- dict "keys" . "test" (include "pod-reloader.optsInTest" "") | include "pod-reloader.someKeyOfWorkloadInCel" | nindent 2 }})
{{- end }}

{{/* Whether a write concerns a dialect at all. */}}
{{- define "pod-reloader.isOptedInInCel" -}}
{{- $keys := list }}
{{- range include "pod-reloader.dialects" . | fromJsonArray }}
{{- $keys = concat $keys .optsIn }}
{{- end }}
{{- include "pod-reloader.optedInInCel" $keys }}
{{- end }}

{{/* Whether a write concerns a dialect that does not leave the workload alone before and after it, given that it concerns
one at all. */}}
{{- define "pod-reloader.isNotIgnoredInCel" -}}
{{- $dialects := include "pod-reloader.dialects" . | fromJsonArray }}
{{- range $i, $dialect := $dialects }}
{{- if $i }} ||
{{ end }}
{{- if gt (len $dialects) 1 }}{{ include "pod-reloader.optedInInCel" .optsIn }} &&
{{ end -}}
![object, oldObject].all(workload,
  workload == null ||
  {{- dict "keys" .leavesAlone "test" " == 'true'" | include "pod-reloader.someKeyOfWorkloadInCel" | nindent 2 }})
{{- end }}
{{- end }}

{{/* The same, of a workload before a write, in a policy that has its annotations and labels as variables. */}}
{{- define "pod-reloader.someOldKeyInCel" -}}
{{- dict "keys" .keys "test" .test "annotation" "variables.oldAnnotations" "label" "variables.oldLabels" | include "pod-reloader.someKeyInCel" }}
{{- end }}

{{/* Whether a workload is managed, in such a policy. */}}
{{- define "pod-reloader.isManagedInCel" -}}
{{- range $i, $dialect := include "pod-reloader.dialects" . | fromJsonArray }}
{{- if $i }} ||
{{ end -}}
({{ dict "keys" .optsIn "test" (include "pod-reloader.optsInTest" "") | include "pod-reloader.someOldKeyInCel" }}) &&
!({{ dict "keys" .leavesAlone "test" " == 'true'" | include "pod-reloader.someOldKeyInCel" }})
{{- end }}
{{- end }}
