{{/*
What the operator's account may write of CronJobs and Jobs, in CEL, as _policies.tpl has it of other workloads. A policy sees
one object at a time: which Job may be deleted stands on the Job, but what the pods of a new one may be stands on another
object, and is not known here.
*/}}

{{/* Updates: what is recorded, on those that ask for something to be done. */}}
{{- define "pod-reloader.jobsPolicy" -}}
matchConstraints:
  resourceRules:
  {{- range include "pod-reloader.jobKinds" "" | fromYamlArray | include "pod-reloader.groups" | fromJsonArray }}
  - apiGroups: [{{ quote .group }}]
    apiVersions: [{{ .version }}]
    operations: [UPDATE]
    resources: [{{ join ", " .resources }}]
    scope: Namespaced
  {{- end }}
variables:
{{ include "pod-reloader.metadataVariables" "" }}
- name: exempt
  expression: |-
    ['pod-reloader.cs.sap.com/observed-config', 'pod-reloader.cs.sap.com/config-hash'] +
      ('pod-reloader.cs.sap.com/recreates' in variables.oldAnnotations ? ['pod-reloader.cs.sap.com/recreates-phase'] : [])
- name: mayBeRecorded
  expression: |-
    'pod-reloader.cs.sap.com/on-change' in variables.oldAnnotations &&
    {{- include "pod-reloader.isNotLeftAloneInCel" . | nindent 4 }}
validations:
{{ include "pod-reloader.metadataValidations" "" }}
- reason: Forbidden
  message: >-
    pod-reloader may change nothing of a CronJob or Job but the annotation pod-reloader.cs.sap.com/observed-config, and on
    what stands in for a Job pod-reloader.cs.sap.com/recreates-phase
  expression: |-
    dyn(object).all(key,
      key == 'metadata' || (key in dyn(oldObject) && dyn(oldObject)[key] == dyn(object)[key])) &&
    dyn(oldObject).all(key, key in dyn(object))
- reason: Forbidden
  message: pod-reloader may only remove annotations of its own from a CronJob or Job that does not ask for anything (on-change)
  expression: |-
    variables.mayBeRecorded ||
    !('pod-reloader.cs.sap.com/observed-config' in variables.annotations) ||
    variables.annotations[?'pod-reloader.cs.sap.com/observed-config'] ==
      variables.oldAnnotations[?'pod-reloader.cs.sap.com/observed-config']
{{- end }}

{{/* Jobs that are made: a CronJob's, and those that are made anew, with what stands in for them meanwhile. These alone are
deleted. */}}
{{- define "pod-reloader.madeJobsPolicy" -}}
matchConstraints:
  resourceRules:
  - apiGroups: [batch]
    apiVersions: [v1]
    operations: [CREATE, DELETE]
    resources: [jobs]
    scope: Namespaced
variables:
- name: job
  expression: "dyn(object) == null ? dyn(oldObject) : dyn(object)"
- name: name
  expression: variables.job.metadata.?name.orValue('')
- name: annotations
  expression: variables.job.metadata.?annotations.orValue({})
- name: owners
  expression: variables.job.metadata.?ownerReferences.orValue([])
- name: finalizers
  expression: variables.job.metadata.?finalizers.orValue([])
- name: asksForIt
  expression: variables.annotations[?'pod-reloader.cs.sap.com/on-change'].orValue('').trim() == 'recreate'
- name: standsIn
  expression: "'pod-reloader.cs.sap.com/recreates' in variables.annotations"
# The name is the CronJob's, as much of it as there is room for, and ten digits.
- name: isRun
  expression: |-
    size(variables.owners) == 1 && variables.owners.all(owner,
      owner.?apiVersion.orValue('') == 'batch/v1' && owner.?kind.orValue('') == 'CronJob' &&
      owner.?controller.orValue(false) && !owner.?blockOwnerDeletion.orValue(false) &&
      variables.name.matches('-[0-9a-f]{10}$') &&
      owner.?name.orValue('').startsWith(variables.name.substring(0, size(variables.name) - 11))) &&
    variables.annotations[?'cronjob.kubernetes.io/instantiate'].orValue('') == 'manual' && variables.finalizers == []
- name: isStandIn
  expression: |-
    variables.standsIn && variables.job.?spec.?suspend.orValue(false) &&
    variables.owners == [] && variables.finalizers == []
# With the user's own owners and finalizers; one that somebody controls is left to them. There is not always room for
# observed-config, and a Job that is refused here would be lost.
- name: isMadeAnew
  expression: variables.asksForIt && !variables.owners.exists(owner, owner.?controller.orValue(false))
validations:
- reason: Forbidden
  message: pod-reloader may make Jobs only that a CronJob is to run, that are made anew (on-change), or that stand in for these
  expression: |-
    request.operation != 'CREATE' || variables.isRun || variables.isStandIn || variables.isMadeAnew
- reason: Forbidden
  message: pod-reloader may delete Jobs only that are made anew (on-change), or that stand in for these
  expression: |-
    request.operation != 'DELETE' || variables.asksForIt || variables.standsIn
{{- end }}
