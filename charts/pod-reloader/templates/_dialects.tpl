{{/*
What dialects read of a workload and around it, once for all that names it: the webhook's conditions and the policies.
The operator's own list is the dialects' `keys` in crates/core/src/dialect; tests/tests/chart/agreement.rs holds the two
against each other. Whatever may have a workload follow something must be here, or its writes are never sent to the webhook.
*/}}
{{- define "pod-reloader.dialectKeys" -}}
- {dialect: sap, key: pod-reloader.cs.sap.com/configmaps, place: annotation, effect: optsIn, kinds: [ConfigMap]}
- {dialect: sap, key: pod-reloader.cs.sap.com/secrets, place: annotation, effect: optsIn, kinds: [Secret]}
- {dialect: sap, key: pod-reloader.cs.sap.com/ignored, place: label, effect: leavesAlone}
- {dialect: sap, key: pod-reloader.cs.sap.com/disabled, place: label, effect: leavesAlone}
- {dialect: own, key: pod-reloader.cs.sap.com/auto, place: annotation, effect: switches, kinds: [ConfigMap, Secret]}
- {dialect: own, key: pod-reloader.cs.sap.com/auto, place: templateAnnotation, effect: switches, kinds: [ConfigMap, Secret]}
- {dialect: own, key: pod-reloader.cs.sap.com/exclude-configmaps, place: annotation, effect: refines}
- {dialect: own, key: pod-reloader.cs.sap.com/exclude-secrets, place: annotation, effect: refines}
- {dialect: own, key: pod-reloader.cs.sap.com/ignored, place: label, effect: leavesAlone}
- {dialect: own, key: pod-reloader.cs.sap.com/disabled, place: label, effect: leavesAlone}
{{- end }}

{{/* The values of `auto` that have something followed, as a JSON list. */}}
{{- define "pod-reloader.autoValues" -}}
["true","configmaps","secrets"]
{{- end }}

{{/* Namespaces whose label does not count, in CEL: the system's, and the operator's own. */}}
{{- define "pod-reloader.unlabelledInCel" -}}
['kube-system', '{{ .Release.Namespace }}']
{{- end }}

{{/* The keys by which workloads can opt in, as a JSON list with an item for all dialects that leave workloads alone by the
same labels: `optsIn`, `switches` and `leavesAlone`. Without Secrets, keys that are about nothing else are left out. */}}
{{- define "pod-reloader.dialects" -}}
{{- $root := . }}
{{- $dialects := dict }}
{{- range include "pod-reloader.dialectKeys" . | fromYamlArray }}
{{- $dialect := default (dict "optsIn" list "switches" list "leavesAlone" list) (get $dialects .dialect) }}
{{- if or (not (has .effect (list "optsIn" "switches"))) (has "ConfigMap" .kinds) (include "pod-reloader.hasSecrets" $root) }}
{{- $_ := set $dialect .effect (append (default list (get $dialect .effect)) .) }}
{{- end }}
{{- $_ := set $dialects .dialect $dialect }}
{{- end }}
{{- $groups := dict }}
{{- range $dialect := $dialects }}
{{- $labels := list }}
{{- range $dialect.leavesAlone }}
{{- $labels = append $labels .key }}
{{- end }}
{{- $name := sortAlpha $labels | join "," }}
{{- $group := default (dict "optsIn" list "switches" list) (get $groups $name) }}
{{- if or $dialect.optsIn $dialect.switches }}
{{- $_ := set $groups $name (dict "optsIn" (concat $group.optsIn $dialect.optsIn) "switches" (concat $group.switches $dialect.switches) "leavesAlone" $dialect.leavesAlone) }}
{{- end }}
{{- end }}
{{- values $groups | toJson }}
{{- end }}

{{/* Whether one of some keys has a value that passes a test, in CEL. The arguments: `keys`, `test`, and where to look for
each place: lists of maps for `annotation`, `label` and `templateAnnotation`. */}}
{{- define "pod-reloader.someKeyInCel" -}}
{{- $terms := list }}
{{- range $place := list "annotation" "label" "templateAnnotation" }}
{{- $names := list }}
{{- range $.keys }}
{{- if eq .place $place }}
{{- $names = append $names .key }}
{{- end }}
{{- end }}
{{- if $names }}
{{- range $map := get $ $place }}
{{- $term := printf "['%s'].exists(key,\n  %s[?key].orValue('')%s)" (join "', '" $names) $map $.test }}
{{- if and (eq $place "templateAnnotation") (hasKey $ "guards") }}
{{- /* Where a custom resource's schema does not say so, these need not be a map of strings, nor anything before them one. */}}
{{- $term = printf "(%s &&\n['%s'].exists(key,\n  type(%s[?key].orValue('')) == string && %s[?key].orValue('')%s))" (get $.guards $map) (join "', '" $names) $map $map $.test }}
{{- end }}
{{- $terms = append $terms $term }}
{{- end }}
{{- end }}
{{- end }}
{{- if $terms }}{{ join " ||\n" $terms }}{{ else }}false{{ end }}
{{- end }}

{{/* The same, of `workload` in a condition of the webhook. */}}
{{- define "pod-reloader.someKeyOfWorkloadInCel" -}}
{{- $workload := "optional.ofNonZeroValue(workload)" }}
{{- $templates := list }}
{{- $guards := dict }}
{{- range include "pod-reloader.templatePaths" .root | fromJsonArray }}
{{- /* A map of annotations alone has no words; one of `workloads` that is wrong is refused elsewhere, and says why. */}}
{{- if and (kindIs "string" .) (not (hasPrefix "annotations:" (toString .))) }}
{{- $steps := list }}
{{- $map := $workload }}
{{- range concat (splitList "." .) (list "metadata" "annotations") }}
{{- $map = printf "%s.?%s" $map . }}
{{- $steps = append $steps (printf "type(%s.orValue({})) == map" $map) }}
{{- end }}
{{- $templates = append $templates $map }}
{{- $_ := set $guards $map (join " && " $steps) }}
{{- end }}
{{- end }}
{{- dict "keys" .keys "test" .test "annotation" (list (printf "%s.?metadata.?annotations" $workload)) "label" (list (printf "%s.?metadata.?labels" $workload)) "templateAnnotation" $templates "guards" $guards | include "pod-reloader.someKeyInCel" }}
{{- end }}

{{/* At least one entry that is not blank. */}}
{{- define "pod-reloader.optsInTest" -}}
.matches('[^\\s,]')
{{- end }}

{{/* A value that is not `false`; what is none that counts is warned of. */}}
{{- define "pod-reloader.switchesTest" -}}
.replace('false', '').matches('[^\\s,]')
{{- end }}

{{/* Whether, before or after a write, one of a dialect's keys has a workload opt in. The arguments are the chart's root and
the dialect. */}}
{{- define "pod-reloader.optedInInCel" -}}
{{- $root := index . 0 }}
{{- $dialect := index . 1 }}
{{- $terms := list }}
{{- if $dialect.optsIn }}
{{- $terms = append $terms (dict "root" $root "keys" $dialect.optsIn "test" (include "pod-reloader.optsInTest" "") | include "pod-reloader.someKeyOfWorkloadInCel") }}
{{- end }}
{{- if $dialect.switches }}
{{- $terms = append $terms (dict "root" $root "keys" $dialect.switches "test" (include "pod-reloader.switchesTest" "") | include "pod-reloader.someKeyOfWorkloadInCel") }}
{{- end -}}
[object, oldObject].exists(workload,
  {{- join " ||\n" $terms | nindent 2 }})
{{- end }}

{{/* Whether something is recorded of a workload: it follows a marked object, for one, without a word of its own (7.4). On a
CREATE it may be copied from another one, and does not count. */}}
{{- define "pod-reloader.isRecordedInCel" -}}
[object, oldObject].exists(workload,
  optional.ofNonZeroValue(workload).?metadata.?annotations[?'pod-reloader.cs.sap.com/observed-config'].hasValue())
{{- end }}

{{/* Whether a write concerns a dialect at all. */}}
{{- define "pod-reloader.isOptedInInCel" -}}
{{- $all := dict "optsIn" list "switches" list }}
{{- range include "pod-reloader.dialects" . | fromJsonArray }}
{{- $all = dict "optsIn" (concat $all.optsIn .optsIn) "switches" (concat $all.switches .switches) }}
{{- end }}
{{- include "pod-reloader.optedInInCel" (list . $all) }}
{{- if include "pod-reloader.heedsObjectMarks" . }} ||
{{ include "pod-reloader.isRecordedInCel" . }}
{{- end }}
{{- end }}

{{/* The same where the label of the namespace has workloads opt in that do not say otherwise. */}}
{{- define "pod-reloader.isOptedInByNamespaceInCel" -}}
(!(request.namespace in {{ include "pod-reloader.unlabelledInCel" . }}) &&
  [object, oldObject].exists(workload,
    workload != null &&
    optional.ofNonZeroValue(workload).?metadata.?annotations[?'pod-reloader.cs.sap.com/auto'].orValue('') != 'false')) ||
{{ include "pod-reloader.isOptedInInCel" . }}
{{- end }}

{{/* Whether a write concerns a dialect that does not leave the workload alone before and after it, given that it concerns
one at all. */}}
{{- define "pod-reloader.isNotIgnoredInCel" -}}
{{- $root := . }}
{{- $dialects := include "pod-reloader.dialects" . | fromJsonArray }}
{{- range $i, $dialect := $dialects }}
{{- if $i }} ||
{{ end }}
{{- if gt (len $dialects) 1 }}{{ include "pod-reloader.optedInInCel" (list $root .) }} &&
{{ end -}}
![object, oldObject].all(workload,
  workload == null ||
  {{- dict "root" $root "keys" .leavesAlone "test" " == 'true'" | include "pod-reloader.someKeyOfWorkloadInCel" | nindent 2 }})
{{- end }}
{{- end }}

{{/* The same, of a workload before a write, in a policy that has its annotations and labels as variables. */}}
{{- define "pod-reloader.someOldKeyInCel" -}}
{{- dict "keys" .keys "test" .test "annotation" (list "variables.oldAnnotations") "label" (list "variables.oldLabels") "templateAnnotation" (list "variables.oldPodAnnotations") | include "pod-reloader.someKeyInCel" }}
{{- end }}

{{/* Whether no dialect leaves the workload alone, in such a policy. */}}
{{- define "pod-reloader.isNotLeftAloneInCel" -}}
{{- $keys := list }}
{{- range include "pod-reloader.dialects" . | fromJsonArray }}
{{- $keys = concat $keys .leavesAlone }}
{{- end -}}
!({{ dict "keys" ($keys | uniq) "test" " == 'true'" | include "pod-reloader.someOldKeyInCel" }})
{{- end }}

{{/* Whether a workload is managed, in such a policy: by its own words, by what is recorded of it, or by its namespace. */}}
{{- define "pod-reloader.isManagedInCel" -}}
{{- $root := . }}
{{- range $i, $dialect := include "pod-reloader.dialects" . | fromJsonArray }}
{{- if $i }} ||
{{ end -}}
(
{{- with .optsIn }}({{ dict "keys" . "test" (include "pod-reloader.optsInTest" "") | include "pod-reloader.someOldKeyInCel" }}) || {{ end }}
{{- with .switches }}({{ dict "keys" . "test" (include "pod-reloader.switchesTest" "") | include "pod-reloader.someOldKeyInCel" }}) || {{ end }}
{{- if include "pod-reloader.heedsNamespaceLabels" $root }}variables.isLabelled || {{ end }}
{{- if include "pod-reloader.heedsObjectMarks" $root }}variables.isRecorded || {{ end }}false) &&
!({{ dict "keys" .leavesAlone "test" " == 'true'" | include "pod-reloader.someOldKeyInCel" }})
{{- end }}
{{- end }}
