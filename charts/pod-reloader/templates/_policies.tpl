{{/*
What the operator's account may write, in CEL. A validation that fails refuses the operator's own write and nobody
else's; still, none of these can fail on an odd object: what may be absent is looked up with optionals. `dyn` has maps
compared whole, with fields of later versions of Kubernetes too. Each takes a time that grows with the number of
annotations and of fields alone, and stays below what the API server allows up to some 45,000 annotations. What all
annotations have in common is looked up once; that none is gone follows from their number.
*/}}

{{/* What the metadata of an object is looked up by that is updated. */}}
{{- define "pod-reloader.metadataVariables" -}}
- name: annotations
  expression: dyn(object).metadata.?annotations.orValue({})
- name: oldAnnotations
  expression: dyn(oldObject).metadata.?annotations.orValue({})
- name: labels
  expression: dyn(object).metadata.?labels.orValue({})
- name: oldLabels
  expression: dyn(oldObject).metadata.?labels.orValue({})
# Who applied which fields, on the server's side. An entry that has one of our annotations changes when we write that.
- name: appliers
  expression: dyn(object).metadata.?managedFields.orValue([]).filter(entry, entry.?operation.orValue('') == 'Apply')
- name: oldAppliers
  expression: dyn(oldObject).metadata.?managedFields.orValue([]).filter(entry, entry.?operation.orValue('') == 'Apply')
{{- end }}

{{/* Of its metadata our annotations alone change: those in the variable `exempt`. The argument says of an applier `old`
whether other fields that the operator writes were theirs; none if empty. */}}
{{- define "pod-reloader.metadataValidations" -}}
- reason: Forbidden
  message: pod-reloader may not change who applied which fields of a workload (managedFields)
  expression: |-
    size(variables.appliers) == size(variables.oldAppliers) &&
    variables.oldAppliers.all(old, variables.appliers.exists(entry,
      entry.?manager == old.?manager && entry.?subresource == old.?subresource &&
      (entry.?fieldsV1 == old.?fieldsV1 ||
        old.?fieldsV1[?'f:metadata'][?'f:annotations'][?'f:pod-reloader.cs.sap.com/observed-config'].hasValue() ||
        old.?fieldsV1[?'f:metadata'][?'f:annotations'][?'f:pod-reloader.cs.sap.com/config-hash'].hasValue()
        {{- with . }} ||
        {{ . }}
        {{- end }})))
- reason: Forbidden
  message: pod-reloader may change no annotation of a workload but pod-reloader.cs.sap.com/observed-config
  expression: |-
    variables.annotations.all(key,
      variables.oldAnnotations[?key] == variables.annotations[?key] || key in variables.exempt) &&
    size(variables.annotations) - variables.exempt.filter(key, key in variables.annotations).size() ==
      size(variables.oldAnnotations) - variables.exempt.filter(key, key in variables.oldAnnotations).size()
- reason: Forbidden
  message: pod-reloader may only remove the annotation pod-reloader.cs.sap.com/config-hash of a workload itself
  expression: |-
    !('pod-reloader.cs.sap.com/config-hash' in variables.annotations) ||
    variables.annotations[?'pod-reloader.cs.sap.com/config-hash'] ==
      variables.oldAnnotations[?'pod-reloader.cs.sap.com/config-hash']
- reason: Forbidden
  message: pod-reloader may not change labels, owners or finalizers of a workload
  expression: |-
    variables.labels == variables.oldLabels &&
    dyn(object).metadata.?ownerReferences.orValue([]) == dyn(oldObject).metadata.?ownerReferences.orValue([]) &&
    dyn(object).metadata.?finalizers.orValue([]) == dyn(oldObject).metadata.?finalizers.orValue([]) &&
    dyn(object).metadata.?generateName == dyn(oldObject).metadata.?generateName
{{- end }}

{{/* Updates of workloads with a pod template, or a map of annotations, at a place: the annotations that make a reload, on
those that have opted in. The arguments are the chart's root and the place. `level0` and what follows are the objects around
it, `level0` within the workload itself; custom resources need not have them all. */}}
{{- define "pod-reloader.workloadsPolicy" -}}
{{- $root := index . 0 }}
{{- $place := index . 1 }}
{{- $isMap := hasPrefix "annotations:" $place }}
{{- $path := trimPrefix "annotations:" $place | splitList "." }}
{{- $toAnnotations := ternary $path (concat $path (list "metadata" "annotations")) $isMap }}
{{- $settable := false }}
{{- range include "pod-reloader.kinds" $root | fromJsonArray }}
{{- if and .onChange (eq .place $place) }}{{ $settable = . }}{{ end }}
{{- end -}}
matchConstraints:
  resourceRules:
  {{- range include "pod-reloader.kindGroups" (list $root $place) | fromJsonArray }}
  - apiGroups: [{{ quote .group }}]
    apiVersions: [{{ .version }}]
    operations: [UPDATE]
    resources: [{{ join ", " .resources }}]
    scope: Namespaced
  {{- end }}
variables:
{{ include "pod-reloader.metadataVariables" "" }}
{{- range $i, $_ := initial $path }}
- name: level{{ $i }}
  expression: dyn(object).?{{ slice $path 0 (add1 $i) | join ".?" }}.orValue({})
- name: oldLevel{{ $i }}
  expression: dyn(oldObject).?{{ slice $path 0 (add1 $i) | join ".?" }}.orValue({})
{{- end }}
{{- if $isMap }}
- name: podAnnotations
  expression: dyn(object).?{{ join ".?" $path }}.orValue({})
- name: oldPodAnnotations
  expression: dyn(oldObject).?{{ join ".?" $path }}.orValue({})
{{- else }}
- name: pod
  expression: dyn(object).?{{ join ".?" $path }}.orValue({})
- name: oldPod
  expression: dyn(oldObject).?{{ join ".?" $path }}.orValue({})
- name: podMetadata
  expression: variables.pod.?metadata.orValue({})
- name: oldPodMetadata
  expression: variables.oldPod.?metadata.orValue({})
- name: podAnnotations
  expression: variables.podMetadata.?annotations.orValue({})
- name: oldPodAnnotations
  expression: variables.oldPodMetadata.?annotations.orValue({})
{{- end }}
- name: exempt
  expression: |-
    ['pod-reloader.cs.sap.com/observed-config', 'pod-reloader.cs.sap.com/config-hash']
    {{- range include "pod-reloader.kinds" $root | fromJsonArray }}
    {{- if and .serverAnnotations (eq .place $place) }} +
      (request.resource.group == '{{ .group }}' && request.resource.resource == '{{ .resource }}' ? ['{{ join "', '" .serverAnnotations }}'] : [])
    {{- end }}
    {{- end }}
- name: saysNo
  expression: variables.oldAnnotations[?'pod-reloader.cs.sap.com/auto'].orValue('') == 'false'
{{- if include "pod-reloader.heedsObjectMarks" $root }}
- name: isRecorded
  expression: "!variables.saysNo && 'pod-reloader.cs.sap.com/observed-config' in variables.oldAnnotations"
{{- end }}
{{- if include "pod-reloader.heedsNamespaceLabels" $root }}
- name: isLabelled
  expression: |-
    !(request.namespace in {{ include "pod-reloader.unlabelledInCel" $root }}) &&
      dyn(namespaceObject).metadata.?labels[?'pod-reloader.cs.sap.com/auto'].orValue('') in ['{{ include "pod-reloader.autoValues" "" | fromJsonArray | join "', '" }}'] &&
      !variables.saysNo
{{- end }}
- name: isManaged
  expression: |-
    {{- include "pod-reloader.isManagedInCel" $root | nindent 4 }}
{{- if include "pod-reloader.heedsObjectMarks" $root }}
# A workload that follows a marked object is recorded at first, without a word of its own; that restarts nothing.
- name: mayBeRecorded
  expression: |-
    !variables.saysNo &&
    {{- include "pod-reloader.isNotLeftAloneInCel" $root | nindent 4 }}
{{- end }}
{{- with $settable }}
# What on-change of a {{ .kind }} can have set in its spec, instead of the hash.
- name: mayBeSet
  expression: |-
    variables.isManaged && request.resource.group == '{{ .group }}' && request.resource.resource == '{{ .resource }}' &&
      variables.oldAnnotations[?'pod-reloader.cs.sap.com/on-change'].orValue('').trim() == '{{ .onChange }}' ? ['{{ .member }}'] : []
{{- end }}
- name: keepsHash
  expression: |-
    variables.podAnnotations[?'pod-reloader.cs.sap.com/config-hash'] ==
      variables.oldPodAnnotations[?'pod-reloader.cs.sap.com/config-hash']
validations:
{{- $applied := printf "old.?fieldsV1[?'f:%s']%s.hasValue()" (join "'][?'f:" $toAnnotations) (ternary "" "[?'f:pod-reloader.cs.sap.com/config-hash']" $isMap) }}
{{- with $settable }}
{{- $applied = printf "%s ||\n        old.?fieldsV1[?'f:%s'][?'f:%s'].hasValue()" $applied (first $path) .member }}
{{- end }}
{{ include "pod-reloader.metadataValidations" $applied }}
- reason: Forbidden
  message: pod-reloader may change nothing of a workload's spec but an annotation of the pod template{{ with $settable }}, or {{ .member }} of {{ .kind }}s that ask for it (on-change){{ end }}
  expression: |-
    dyn(object).all(key,
      key in ['metadata', '{{ first $path }}'] ||
      (key in dyn(oldObject) && dyn(oldObject)[key] == dyn(object)[key])) &&
    dyn(oldObject).all(key, key in dyn(object))
{{- range $i, $next := rest $path }}
    && variables.level{{ $i }}.all(key,
      key == '{{ $next }}' ||
      {{- if and $settable (eq $i 0) }} key in variables.mayBeSet ||{{ end }}
      (key in variables.oldLevel{{ $i }} && variables.oldLevel{{ $i }}[key] == variables.level{{ $i }}[key])) &&
    variables.oldLevel{{ $i }}.all(key, key in variables.level{{ $i }})
{{- end }}
{{- if not $isMap }}
- reason: Forbidden
  message: pod-reloader may change nothing of a pod template but an annotation
  expression: |-
    variables.pod.all(key,
      key == 'metadata' || (key in variables.oldPod && variables.oldPod[key] == variables.pod[key])) &&
    variables.oldPod.all(key, key == 'metadata' || key in variables.pod) &&
    variables.podMetadata.all(key,
      key == 'annotations' ||
      (key in variables.oldPodMetadata && variables.oldPodMetadata[key] == variables.podMetadata[key])) &&
    variables.oldPodMetadata.all(key, key == 'annotations' || key in variables.podMetadata)
{{- end }}
- reason: Forbidden
  message: pod-reloader may change no annotation of a pod template but pod-reloader.cs.sap.com/config-hash
  expression: |-
    variables.podAnnotations.all(key,
      variables.oldPodAnnotations[?key] == variables.podAnnotations[?key] ||
      key == 'pod-reloader.cs.sap.com/config-hash') &&
    size(variables.podAnnotations) - ('pod-reloader.cs.sap.com/config-hash' in variables.podAnnotations ? 1 : 0) ==
      size(variables.oldPodAnnotations) - ('pod-reloader.cs.sap.com/config-hash' in variables.oldPodAnnotations ? 1 : 0)
- reason: Forbidden
  message: pod-reloader may set pod-reloader.cs.sap.com/config-hash to 64 lower-case hex digits only
  expression: |-
    variables.keepsHash ||
    variables.podAnnotations[?'pod-reloader.cs.sap.com/config-hash'].orValue('').matches('^[0-9a-f]{64}$')
- reason: Forbidden
  message: pod-reloader may only remove annotations of its own from a workload that has not opted in
  expression: |-
    variables.isManaged ||
    {{- if include "pod-reloader.heedsObjectMarks" $root }}
    (variables.keepsHash && variables.mayBeRecorded) ||
    {{- end }}
    (variables.keepsHash &&
      (!('pod-reloader.cs.sap.com/observed-config' in variables.annotations) ||
        variables.annotations[?'pod-reloader.cs.sap.com/observed-config'] ==
          variables.oldAnnotations[?'pod-reloader.cs.sap.com/observed-config']))
{{- end }}

{{/* The rest of what can be written to the same resources. RBAC grants nothing of it; this holds if somebody does. */}}
{{- define "pod-reloader.nothingElsePolicy" -}}
{{- $hasJobs := include "pod-reloader.hasJobs" . }}
{{- /* Jobs without jobs.enabled, too: nothing of them is written then. */}}
{{- $kinds := concat (include "pod-reloader.kinds" . | fromJsonArray) (include "pod-reloader.jobKinds" "" | fromYamlArray) -}}
matchConstraints:
  resourceRules:
  {{- range include "pod-reloader.groups" $kinds | fromJsonArray }}
  - apiGroups: [{{ quote .group }}]
    apiVersions: [{{ .version }}]
    operations: [CREATE, DELETE]
    resources: [{{ join ", " .resources }}]
    scope: Namespaced
  # The API server takes `{{ first .resources }}/*` for the {{ first .kinds }}s themselves, too, whose updates have a policy of their own.
  - apiGroups: [{{ quote .group }}]
    apiVersions: [{{ .version }}]
    operations: ["*"]
    resources: [{{ join "/*, " .resources }}/*]
    scope: Namespaced
  {{- end }}
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [DELETE]
    resources: [secrets]
    scope: Namespaced
  - apiGroups: [coordination.k8s.io]
    apiVersions: [v1]
    operations: [DELETE]
    resources: [leases]
    scope: Namespaced
  - apiGroups: [events.k8s.io]
    apiVersions: [v1]
    operations: [UPDATE, DELETE]
    resources: [events]
    scope: Namespaced
validations:
- reason: Forbidden
  message: >-
    {{- if $hasJobs }}
    pod-reloader may update workloads, and make and delete Jobs: it neither makes nor deletes any other, leaves their
    subresources alone, and deletes no Secret, Lease or Event
    {{- else }}
    pod-reloader may update workloads only: it neither makes nor deletes any, leaves their subresources alone, and
    deletes no Secret, Lease or Event
    {{- end }}
  expression: |-
    (!has(request.subResource) || request.subResource == '') &&
      {{- if $hasJobs }}
      ((request.resource.group == 'batch' && request.resource.resource == 'jobs') ||
        (request.operation == 'UPDATE' && request.resource.group in {{ include "pod-reloader.watchedGroupsInCel" . }}))
      {{- else }}
      request.operation == 'UPDATE' && request.resource.group in {{ include "pod-reloader.watchedGroupsInCel" . }}
      {{- end }}
{{- end }}

{{/* Its Secrets and its Lease. RBAC cannot say what an object that is created may be called. */}}
{{- define "pod-reloader.ownObjectsPolicy" -}}
matchConstraints:
  resourceRules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE, UPDATE]
    resources: [secrets]
    scope: Namespaced
  - apiGroups: [coordination.k8s.io]
    apiVersions: [v1]
    operations: [CREATE, UPDATE]
    resources: [leases]
    scope: Namespaced
variables:
- name: own
  expression: |-
    request.resource.resource == 'secrets'
      ? {{ include "pod-reloader.ownSecretNames" . | fromJsonArray | join "', '" | printf "['%s']" }}
      : ['{{ include "pod-reloader.leaseName" . }}']
- name: oldOwners
  expression: "dyn(oldObject) == null ? [] : dyn(oldObject).metadata.?ownerReferences.orValue([])"
- name: oldFinalizers
  expression: "dyn(oldObject) == null ? [] : dyn(oldObject).metadata.?finalizers.orValue([])"
validations:
- reason: Forbidden
  message: pod-reloader may write Secrets and Leases of its own only, in its own namespace
  expression: |-
    request.namespace == '{{ .Release.Namespace }}' && dyn(object).metadata.name in variables.own
# A token of another account is in reach of whoever may create a Secret of that type.
- reason: Forbidden
  message: pod-reloader may write Secrets of the types Opaque and kubernetes.io/tls only, and not change the type
  expression: |-
    request.resource.resource != 'secrets' ||
    (dyn(object).?type.orValue('Opaque') in ['Opaque', 'kubernetes.io/tls'] &&
      (dyn(oldObject) == null || dyn(oldObject).?type.orValue('') == dyn(object).?type.orValue('')))
# Dropping what others put there is allowed: a damaged Secret is written anew as it was at first.
- reason: Forbidden
  message: pod-reloader may give its Secrets and its Lease neither owners nor finalizers
  expression: |-
    dyn(object).metadata.?ownerReferences.orValue([]).all(owner, owner in variables.oldOwners) &&
    dyn(object).metadata.?finalizers.orValue([]).all(finalizer, finalizer in variables.oldFinalizers)
- reason: Forbidden
  message: pod-reloader may not make its Secrets immutable
  expression: |-
    request.resource.resource != 'secrets' || !dyn(object).?immutable.orValue(false)
{{- end }}

{{/* Events about workloads, in its own name. */}}
{{- define "pod-reloader.eventsPolicy" -}}
matchConstraints:
  resourceRules:
  - apiGroups: [events.k8s.io]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [events]
    scope: Namespaced
validations:
- reason: Forbidden
  message: pod-reloader may write Events in its own name only, about {{ include "pod-reloader.kindsInWords" . }} of the same namespace
  expression: |-
    dyn(object).?reportingController.orValue('') == 'pod-reloader' &&
    ({{ range $i, $group := include "pod-reloader.watchedGroups" . | fromJsonArray }}{{ if $i }} ||
      {{ end }}(dyn(object).?regarding.?apiVersion.orValue('') == '{{ .apiVersion }}' &&
        dyn(object).?regarding.?kind.orValue('') in ['{{ join "', '" .kinds }}']){{ end }}) &&
    dyn(object).?regarding.?namespace.orValue('') == request.namespace
- reason: Forbidden
  message: pod-reloader may give its Events neither owners nor finalizers
  expression: |-
    dyn(object).metadata.?ownerReferences.orValue([]) == [] && dyn(object).metadata.?finalizers.orValue([]) == []
{{- end }}

{{/* The Secrets that the operator makes, as a JSON list. */}}
{{- define "pod-reloader.ownSecretNames" -}}
{{- $names := list "pod-reloader-key" }}
{{- if eq (include "pod-reloader.certificates" .) "self-made" }}
{{- $names = concat $names (list (include "pod-reloader.selfMadeSecretName" .) (include "pod-reloader.selfMadeAuthorityName" .)) }}
{{- end }}
{{- $names | toJson }}
{{- end }}
