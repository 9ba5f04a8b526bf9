{{/*
The kinds of workload, once for all that names them: the webhook's rules, rights, policies and the operator's arguments. The
operator's own list is crates/core/src/kind; tests/tests/chart/kinds.rs holds the two against each other. What the API server
itself, or the webhook of a kind's project, writes into annotations of a kind, and overrules whoever sets it, is in
"serverAnnotations".
*/}}
{{- define "pod-reloader.builtInKinds" -}}
- {group: apps, version: v1, kind: Deployment, resource: deployments, template: spec.template}
- {group: apps, version: v1, kind: StatefulSet, resource: statefulsets, template: spec.template}
- {group: apps, version: v1, kind: DaemonSet, resource: daemonsets, template: spec.template, serverAnnotations: [deprecated.daemonset.template.generation]}
{{- end }}

{{/* Those that `workloads` can name. */}}
{{- define "pod-reloader.presetKinds" -}}
argo-rollouts:
- {group: argoproj.io, version: v1alpha1, kind: Rollout, resource: rollouts, template: spec.template}
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
{{- range .Values.workloads }}
{{- if kindIs "string" . }}
{{- $kinds = concat $kinds (default list (index $presets .)) }}
{{- else }}
{{- $kinds = append $kinds . }}
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

{{/* Those at that place, or all if that is empty, as a JSON list with an item for each API group and version. The arguments
are the chart's root and the place. */}}
{{- define "pod-reloader.kindGroups" -}}
{{- $place := index . 1 }}
{{- $groups := dict }}
{{- range include "pod-reloader.kinds" (index . 0) | fromJsonArray }}
{{- if or (not $place) (eq .place $place) }}
{{- $apiVersion := printf "%s/%s" .group .version | trimPrefix "/" }}
{{- $group := default (dict "resources" list "kinds" list) (get $groups $apiVersion) }}
{{- $_ := set $groups $apiVersion (dict "group" .group "version" .version "apiVersion" $apiVersion "resources" (append $group.resources .resource) "kinds" (append $group.kinds .kind)) }}
{{- end }}
{{- end }}
{{- $list := list }}
{{- range $group := $groups }}
{{- $list = append $list $group }}
{{- end }}
{{- $list | toJson }}
{{- end }}

{{/* Where hashes go, each place once, as a JSON list. */}}
{{- define "pod-reloader.templatePaths" -}}
{{- $places := list }}
{{- range include "pod-reloader.kinds" . | fromJsonArray }}
{{- $places = append $places .place }}
{{- end }}
{{- $places | uniq | toJson }}
{{- end }}

{{/* Their names for people: `Deployments, StatefulSets and DaemonSets`. */}}
{{- define "pod-reloader.kindsInWords" -}}
{{- $names := list }}
{{- range include "pod-reloader.kinds" . | fromJsonArray }}
{{- $names = append $names (printf "%ss" .kind) }}
{{- end }}
{{- $names = uniq $names }}
{{- join ", " (initial $names) }} and {{ last $names }}
{{- end }}

{{/* Their API groups, as a list in CEL. */}}
{{- define "pod-reloader.kindGroupsInCel" -}}
{{- $names := list }}
{{- range include "pod-reloader.kindGroups" (list . "") | fromJsonArray }}
{{- $names = append $names .group }}
{{- end -}}
['{{ join "', '" (uniq $names) }}']
{{- end }}
