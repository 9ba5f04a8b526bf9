{{/* What of the values breaks the restricted Pod Security profile, as a JSON list of their names. */}}
{{- define "pod-reloader.restrictedFaults" -}}
{{- $faults := list }}
{{- $pod := default dict .Values.podSecurityContext }}
{{- $container := default dict .Values.securityContext }}
{{- $capabilities := default dict $container.capabilities }}
{{- $nonRoot := ternary $container.runAsNonRoot $pod.runAsNonRoot (hasKey $container "runAsNonRoot") }}
{{- if ne (toString $nonRoot) "true" }}{{ $faults = append $faults "runAsNonRoot is not true" }}{{ end }}
{{- range list $pod $container }}
{{- if eq (toString .runAsUser) "0" }}{{ $faults = append $faults "runAsUser is 0" }}{{ end }}
{{- end }}
{{- $seccomp := (default (default dict $pod.seccompProfile) $container.seccompProfile).type }}
{{- if not (has $seccomp (list "RuntimeDefault" "Localhost")) }}{{ $faults = append $faults "seccompProfile is not RuntimeDefault" }}{{ end }}
{{- if ne (toString $container.allowPrivilegeEscalation) "false" }}{{ $faults = append $faults "allowPrivilegeEscalation is not false" }}{{ end }}
{{- if $container.privileged }}{{ $faults = append $faults "privileged is true" }}{{ end }}
{{- if not (has "ALL" (default list $capabilities.drop)) }}{{ $faults = append $faults "capabilities.drop has no ALL" }}{{ end }}
{{- range $capabilities.add }}
{{- if ne . "NET_BIND_SERVICE" }}{{ $faults = append $faults (printf "capabilities.add has %s" .) }}{{ end }}
{{- end }}
{{- if .Values.hostNetwork }}{{ $faults = append $faults "hostNetwork is true" }}{{ end }}
{{- range .Values.extraVolumes }}
{{- if .hostPath }}{{ $faults = append $faults (printf "extraVolumes has a hostPath (%s)" .name) }}{{ end }}
{{- end }}
{{- $faults | toJson }}
{{- end }}
