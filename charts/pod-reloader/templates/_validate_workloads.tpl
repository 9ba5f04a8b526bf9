{{/* Kinds that the operator would refuse, and what the API server would refuse in what is made of them. */}}
{{- define "pod-reloader.validateWorkloads" -}}
{{- $presets := include "pod-reloader.presetKinds" "" | fromYaml }}
{{- $seen := dict }}
{{- range include "pod-reloader.builtInKinds" "" | fromYamlArray }}
{{- $_ := set $seen (printf "%s.%s" .resource .group) "is built in, and always on: leave it out" }}
{{- end }}
{{- range include "pod-reloader.jobKinds" "" | fromYamlArray }}
{{- $_ := set $seen (printf "%s.%s" .resource .group) "is built in, and not rolled out: its annotation on-change says what is done" }}
{{- end }}
{{- range .Values.workloads }}
{{- $kinds := list . }}
{{- $name := printf "%v" . }}
{{- if kindIs "string" . }}
{{- if not (hasKey $presets .) }}
{{- fail (printf "workloads: %q is no preset; known are %s. A kind of your own is an object with group, version, resource, kind, and template or annotations" . (keys $presets | sortAlpha | join ", ")) }}
{{- end }}
{{- $kinds = index $presets . }}
{{- else }}
{{- $name = printf "%s.%s" (default "?" .resource) (default "?" .group) }}
{{- include "pod-reloader.validateOwnKind" (list $name .) }}
{{- end }}
{{- range $kinds }}
{{- $resource := printf "%s.%s" .resource .group }}
{{- with get $seen $resource }}
{{- fail (printf "workloads: %s %s" $resource .) }}
{{- end }}
{{- $_ := set $seen $resource (printf "is there twice, by %s: name it once" $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The arguments are what to call it, and the kind. */}}
{{- define "pod-reloader.validateOwnKind" -}}
{{- $name := index . 0 }}
{{- $kind := index . 1 }}
{{- range $field, $pattern := dict "group" "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" "version" "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" "resource" "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" "kind" "^[A-Z][A-Za-z0-9]*$" }}
{{- if not (get $kind $field) }}
{{- fail (printf "workloads: %s has no %s; a kind of your own is an object with group, version, resource, kind, and template or annotations" $name $field) }}
{{- end }}
{{- if not (regexMatch $pattern (get $kind $field)) }}
{{- fail (printf "workloads: %s: %q cannot be its %s, as in {group: example.com, version: v1, resource: servers, kind: Server, template: spec.template}" $name (get $kind $field) $field) }}
{{- end }}
{{- end }}
{{- if eq (hasKey $kind "template") (hasKey $kind "annotations") }}
{{- fail (printf "workloads: %s needs either template, the path of its pod template, or annotations, the path of a map of annotations for its pods" $name) }}
{{- end }}
{{- $path := ternary $kind.annotations $kind.template (hasKey $kind "annotations") }}
{{- if not (regexMatch "^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*){0,15}$" $path) }}
{{- fail (printf "workloads: %s: %q is no path: names of members with dots between them are wanted, such as spec.template" $name $path) }}
{{- end }}
{{- if has (splitList "." $path | first) (list "metadata" "apiVersion" "kind" "status") }}
{{- fail (printf "workloads: %s: at %q there is nothing that its pods are made of; a path is wanted such as spec.template" $name $path) }}
{{- end }}
{{- if and (hasKey $kind "template") (eq (splitList "." $path | last) "annotations") }}
{{- fail (printf "workloads: %s: template is the path of the whole pod template, such as spec.template; for a map of annotations alone, write annotations: %s" $name $path) }}
{{- end }}
{{- end }}
