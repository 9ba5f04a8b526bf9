{{/*
The kinds of workload, once for all that names them: the webhook's rules, rights and policies. The operator's own list is
crates/core/src/kind; tests/tests/chart/kinds.rs holds the two against each other. What the API server itself writes into
annotations of a kind, and overrules whoever sets it, is in "serverAnnotations".
*/}}
{{- define "pod-reloader.kinds" -}}
- {group: apps, version: v1, kind: Deployment, resource: deployments, template: spec.template}
- {group: apps, version: v1, kind: StatefulSet, resource: statefulsets, template: spec.template}
- {group: apps, version: v1, kind: DaemonSet, resource: daemonsets, template: spec.template, serverAnnotations: [deprecated.daemonset.template.generation]}
{{- end }}

{{/* Those whose pod template is at the path that the argument is, or all, as a JSON list with an item for each API group
and version. */}}
{{- define "pod-reloader.kindGroups" -}}
{{- $template := . }}
{{- $groups := dict }}
{{- range include "pod-reloader.kinds" . | fromYamlArray }}
{{- if or (not $template) (eq .template $template) }}
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

{{/* Where pod templates are, each path once, as a JSON list. */}}
{{- define "pod-reloader.templatePaths" -}}
{{- $paths := list }}
{{- range include "pod-reloader.kinds" . | fromYamlArray }}
{{- $paths = append $paths .template }}
{{- end }}
{{- $paths | uniq | toJson }}
{{- end }}

{{/* Their names for people: `Deployments, StatefulSets and DaemonSets`. */}}
{{- define "pod-reloader.kindsInWords" -}}
{{- $names := list }}
{{- range include "pod-reloader.kinds" . | fromYamlArray }}
{{- $names = append $names (printf "%ss" .kind) }}
{{- end }}
{{- join ", " (initial $names) }} and {{ last $names }}
{{- end }}

{{/* Their API groups, as a list in CEL. */}}
{{- define "pod-reloader.kindGroupsInCel" -}}
{{- $names := list }}
{{- range include "pod-reloader.kindGroups" "" | fromJsonArray }}
{{- $names = append $names .group }}
{{- end -}}
['{{ join "', '" (uniq $names) }}']
{{- end }}
