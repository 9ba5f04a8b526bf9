{{/*
The webhook's entries: one for workloads that opt in themselves, and one for each value of the label by which a namespace
opts in for its workloads (7.4). The arguments are the chart's root and that value, empty for the former.
*/}}
{{- define "pod-reloader.webhookEntry" }}
{{- $root := index . 0 }}
{{- $label := index . 1 }}
- name: {{ with $label }}auto-{{ . }}.{{ end }}pod-reloader.cs.sap.com
  admissionReviewVersions: [v1]
  clientConfig:
    {{- /* Left to the operator or to the CA injector otherwise; an upgrade does not touch what they put here. */}}
    {{- with include "pod-reloader.caBundle" $root }}
    caBundle: {{ . }}
    {{- end }}
    service:
      name: {{ include "pod-reloader.fullname" $root | quote }}
      namespace: {{ $root.Release.Namespace | quote }}
      path: /mutate{{ with $label }}/auto-{{ . }}{{ end }}
      port: 443
  sideEffects: None
  failurePolicy: {{ $root.Values.webhook.failurePolicy }}
  timeoutSeconds: {{ int $root.Values.webhook.timeoutSeconds }}
  matchPolicy: Equivalent
  # A webhook that runs after this one may change the template or the lists.
  reinvocationPolicy: IfNeeded
  rules:
  {{- range include "pod-reloader.kindGroups" (list $root "") | fromJsonArray }}
  - apiGroups: [{{ quote .group }}]
    apiVersions: [{{ .version }}]
    operations: [CREATE, UPDATE]
    resources: [{{ join ", " .resources }}]
    scope: Namespaced
  {{- end }}
  {{- with $root.Values.webhook.objectSelector }}
  {{- if or .matchLabels .matchExpressions }}
  objectSelector:
    {{- with .matchLabels }}
    matchLabels:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .matchExpressions }}
    matchExpressions:
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- end }}
  {{- $expressions := include "pod-reloader.namespaceExpressions" (list $root $label) | fromJsonArray }}
  {{- if or $root.Values.webhook.namespaceSelector.matchLabels $expressions }}
  namespaceSelector:
    {{- with $root.Values.webhook.namespaceSelector.matchLabels }}
    matchLabels:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $expressions }}
    matchExpressions:
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  # A condition that fails counts as a failed call, and would block workloads that never asked for us. These cannot:
  # what may be absent (oldObject on a CREATE, the maps, the keys) is looked up with optionals, and what is found in
  # annotations and labels is always a string.
  matchConditions:
  {{- if $label }}
  # All that does not opt out, before or after the write.
  - name: opted-in
    expression: |-
      {{- include "pod-reloader.isOptedInByNamespaceInCel" $root | nindent 6 }}
  {{- else }}
  # By words of its own before or after the write, since the write that opts out is for us, too, or recorded before it.
  - name: opted-in
    expression: |-
      {{- include "pod-reloader.isOptedInInCel" $root | nindent 6 }}
  {{- end }}
  # Ignored before and after the write; a CREATE has no before.
  - name: not-ignored
    expression: |-
      {{- include "pod-reloader.isNotIgnoredInCel" $root | nindent 6 }}
  # What is being deleted needs no reload, and its deletion must not need us: the garbage collector's own writes too.
  - name: not-being-deleted
    expression: |-
      !has(object.metadata.deletionTimestamp)
  # The reconciler's own patches would pass as they are: asking costs each of them a tenth of its time.
  - name: not-own-patch
    expression: |-
      {{ printf "request.userInfo.username != 'system:serviceaccount:%s:%s'" $root.Release.Namespace (include "pod-reloader.serviceAccountName" $root) }} ||
      request.operation != 'UPDATE' || request.?options.?fieldManager.orValue('') != 'pod-reloader'
  {{- with $root.Values.webhook.matchConditions }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Which namespaces an entry is for, as a JSON list of match expressions: each namespace has one entry. The arguments are
the same. */}}
{{- define "pod-reloader.namespaceExpressions" -}}
{{- $root := index . 0 }}
{{- $label := index . 1 }}
{{- $expressions := list }}
{{- with $root.Values.namespaces }}
{{- $expressions = append $expressions (dict "key" "kubernetes.io/metadata.name" "operator" "In" "values" .) }}
{{- end }}
{{- $expressions = concat $expressions (default list $root.Values.webhook.namespaceSelector.matchExpressions) }}
{{- if $label }}
{{- $expressions = append $expressions (dict "key" "pod-reloader.cs.sap.com/auto" "operator" "In" "values" (list $label)) }}
{{- else if include "pod-reloader.heedsNamespaceLabels" $root }}
{{- $expressions = append $expressions (dict "key" "pod-reloader.cs.sap.com/auto" "operator" "NotIn" "values" (include "pod-reloader.autoValues" "" | fromJsonArray)) }}
{{- end }}
{{- $expressions | toJson }}
{{- end }}
