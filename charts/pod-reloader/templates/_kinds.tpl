{{/*
The kinds of workload, once for all that names them: the webhook's rules, rights, policies and the operator's arguments. The
operator's own list is crates/core/src/kind; tests/tests/chart/kinds.rs holds the two against each other. What the API server
itself, or the webhook of a kind's project, writes into annotations of a kind, and overrules whoever sets it, is in
"serverAnnotations". Where a change can have a member of the spec set rather than the hash, "onChange" says which annotation
on-change asks for that, and "member" which one it is.
*/}}
{{- define "pod-reloader.builtInKinds" -}}
- {group: apps, version: v1, kind: Deployment, resource: deployments, template: spec.template}
- {group: apps, version: v1, kind: StatefulSet, resource: statefulsets, template: spec.template}
- {group: apps, version: v1, kind: DaemonSet, resource: daemonsets, template: spec.template, serverAnnotations: [deprecated.daemonset.template.generation]}
{{- end }}

{{/* Those that are never rolled out: what their annotation on-change asks for is done instead. They are not among
`pod-reloader.kinds`, since the webhook has nothing to do with them, and their templates get no hash. "verbs" are the rights
beside those that the operator has on every kind. */}}
{{- define "pod-reloader.jobKinds" -}}
- {group: batch, version: v1, kind: CronJob, resource: cronjobs}
- {group: batch, version: v1, kind: Job, resource: jobs, verbs: [create, delete]}
{{- end }}

{{/* Those of them that this installation looks at, as a JSON list. */}}
{{- define "pod-reloader.jobs" -}}
{{- $kinds := list }}
{{- if include "pod-reloader.hasJobs" . }}
{{- $kinds = include "pod-reloader.jobKinds" "" | fromYamlArray }}
{{- end }}
{{- $kinds | toJson }}
{{- end }}

{{/* Those that `workloads` can name. */}}
{{- define "pod-reloader.presetKinds" -}}
argo-rollouts:
- {group: argoproj.io, version: v1alpha1, kind: Rollout, resource: rollouts, template: spec.template, onChange: restart-at, member: restartAt}
knative-services:
- {group: serving.knative.dev, version: v1, kind: Service, resource: services, template: spec.template, serverAnnotations: [serving.knative.dev/lastModifier]}
openkruise:
- {group: apps.kruise.io, version: v1alpha1, kind: CloneSet, resource: clonesets, template: spec.template}
- {group: apps.kruise.io, version: v1beta1, kind: StatefulSet, resource: statefulsets, template: spec.template}
- {group: apps.kruise.io, version: v1alpha1, kind: DaemonSet, resource: daemonsets, template: spec.template}
openshift-deploymentconfigs:
- {group: apps.openshift.io, version: v1, kind: DeploymentConfig, resource: deploymentconfigs, template: spec.template}
{{- end }}

{{/* All kinds of this installation, as a JSON list. `place` is where the hash goes, as the operator's flag has it: the path of
a pod template, or after `annotations:` that of a map. */}}
{{- define "pod-reloader.kinds" -}}
{{- $presets := include "pod-reloader.presetKinds" "" | fromYaml }}
{{- $kinds := include "pod-reloader.builtInKinds" "" | fromYamlArray }}
{{- range $wanted := .Values.workloads }}
{{- if kindIs "string" $wanted }}
{{- $kinds = concat $kinds (default list (index $presets $wanted)) }}
{{- else }}
{{- /* What a preset knows is known of a kind of the user's own that is the same. */}}
{{- $kind := $wanted }}
{{- range $preset := $presets }}
{{- range $preset }}
{{- if and (eq .group (toString $wanted.group)) (eq .version (toString $wanted.version)) (eq .resource (toString $wanted.resource)) (eq .template (toString $wanted.template)) }}
{{- $kind = . }}
{{- end }}
{{- end }}
{{- end }}
{{- $kinds = append $kinds $kind }}
{{- end }}
{{- end }}
{{- $placed := list }}
{{- range $kinds }}
{{- $place := ternary (printf "annotations:%s" .annotations) .template (hasKey . "annotations") }}
{{- $placed = append $placed (merge (dict "place" $place) .) }}
{{- end }}
{{- $placed | toJson }}
{{- end }}

{{/* What the operator is told of one of `workloads`. */}}
{{- define "pod-reloader.workloadArgument" -}}
{{- if kindIs "string" . -}}
{{ . }}
{{- else -}}
{{ .group }}/{{ .version }}/{{ .resource }}:{{ .kind }}={{ if hasKey . "annotations" }}annotations:{{ .annotations }}{{ else }}{{ .template }}{{ end }}
{{- end }}
{{- end }}

{{/* Kinds, as a JSON list with an item for each API group and version. */}}
{{- define "pod-reloader.groups" -}}
{{- $groups := dict }}
{{- range . }}
{{- $apiVersion := printf "%s/%s" .group .version | trimPrefix "/" }}
{{- $group := default (dict "resources" list "kinds" list) (get $groups $apiVersion) }}
{{- $_ := set $groups $apiVersion (dict "group" .group "version" .version "apiVersion" $apiVersion "resources" (append $group.resources .resource) "kinds" (append $group.kinds .kind)) }}
{{- end }}
{{- $list := list }}
{{- range $group := $groups }}
{{- $list = append $list $group }}
{{- end }}
{{- $list | toJson }}
{{- end }}

{{/* The groups of those at that place, or of all if that is empty. The arguments are the chart's root and the place. */}}
{{- define "pod-reloader.kindGroups" -}}
{{- $place := index . 1 }}
{{- $kinds := list }}
{{- range include "pod-reloader.kinds" (index . 0) | fromJsonArray }}
{{- if or (not $place) (eq .place $place) }}
{{- $kinds = append $kinds . }}
{{- end }}
{{- end }}
{{- include "pod-reloader.groups" $kinds }}
{{- end }}

{{/* The groups of all that the operator looks at, Jobs as well. */}}
{{- define "pod-reloader.watchedGroups" -}}
{{- concat (include "pod-reloader.kinds" . | fromJsonArray) (include "pod-reloader.jobs" . | fromJsonArray) | include "pod-reloader.groups" }}
{{- end }}

{{/* Where hashes go, each place once, as a JSON list. */}}
{{- define "pod-reloader.templatePaths" -}}
{{- $places := list }}
{{- range include "pod-reloader.kinds" . | fromJsonArray }}
{{- $places = append $places .place }}
{{- end }}
{{- $places | uniq | toJson }}
{{- end }}

{{/* Names for people of all that the operator looks at: `Deployments, StatefulSets, DaemonSets, CronJobs and Jobs`. */}}
{{- define "pod-reloader.kindsInWords" -}}
{{- $names := list }}
{{- range concat (include "pod-reloader.kinds" . | fromJsonArray) (include "pod-reloader.jobs" . | fromJsonArray) }}
{{- $names = append $names (printf "%ss" .kind) }}
{{- end }}
{{- $names = uniq $names }}
{{- join ", " (initial $names) }} and {{ last $names }}
{{- end }}

{{/* The names of the API groups of the same, as a list in CEL. */}}
{{- define "pod-reloader.watchedGroupsInCel" -}}
{{- $names := list }}
{{- range include "pod-reloader.watchedGroups" . | fromJsonArray }}
{{- $names = append $names .group }}
{{- end -}}
['{{ join "', '" (uniq $names) }}']
{{- end }}
