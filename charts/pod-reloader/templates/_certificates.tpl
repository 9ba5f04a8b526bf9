{{/* Who makes the webhook's certificate: "cert-manager", "existing" or "self-made"; "none" without a webhook. */}}
{{- define "pod-reloader.certificates" -}}
{{- if not (include "pod-reloader.hasWebhook" .) }}none
{{- else if .Values.webhook.certManager.enabled }}cert-manager
{{- else if .Values.webhook.existingSecret }}existing
{{- else }}self-made
{{- end }}
{{- end }}

{{/* The Secret that is mounted; none if the operator makes its own certificate. */}}
{{- define "pod-reloader.tlsSecretName" -}}
{{- $certificates := include "pod-reloader.certificates" . }}
{{- if eq $certificates "cert-manager" }}{{ include "pod-reloader.suffixed" (list . "tls-managed") }}
{{- else if eq $certificates "existing" }}{{ .Values.webhook.existingSecret }}
{{- end }}
{{- end }}

{{/* The Secret that the operator keeps its own certificates in: it is called after the MutatingWebhookConfiguration. */}}
{{- define "pod-reloader.selfMadeSecretName" -}}
{{ include "pod-reloader.fullname" . }}-webhook-certificates
{{- end }}

{{/* And the one with the keys of its CAs. */}}
{{- define "pod-reloader.selfMadeAuthorityName" -}}
{{ include "pod-reloader.fullname" . }}-webhook-ca
{{- end }}

{{/* The caBundle in base64, if the values have one: PEM, or base64 of it. */}}
{{- define "pod-reloader.caBundle" -}}
{{- $caBundle := default "" .Values.webhook.caBundle | trim }}
{{- if contains "-----BEGIN CERTIFICATE-----" $caBundle }}
{{- printf "%s\n" $caBundle | b64enc }}
{{- else if $caBundle }}
{{- /* What base64 prints is broken into lines. */}}
{{- $caBundle = regexReplaceAll "\\s+" $caBundle "" }}
{{- if not (contains "-----BEGIN CERTIFICATE-----" (b64dec $caBundle)) }}
{{- fail "webhook.caBundle must be certificates in PEM form (-----BEGIN CERTIFICATE-----...), or base64 of that; try --set-file webhook.caBundle=ca.crt" }}
{{- end }}
{{- $caBundle }}
{{- end }}
{{- end }}

{{/* Whether the user has cert-manager's CA injector put in another CA than that of the chart's Certificate. */}}
{{- define "pod-reloader.isInjectedByUser" -}}
{{- range keys (default dict .Values.webhook.annotations) }}
{{- if hasPrefix "cert-manager.io/inject-" . }}true{{ end }}
{{- end }}
{{- end }}
