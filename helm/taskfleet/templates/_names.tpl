{{- define "taskfleet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "taskfleet.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains (include "taskfleet.name" .) .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "taskfleet.name" .) | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Cluster-wide names carry the namespace: two releases of one name may live in two namespaces. */}}
{{- define "taskfleet.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "taskfleet.fullname" .) }}
{{- end }}

{{- define "taskfleet.selector" -}}
app.kubernetes.io/name: {{ include "taskfleet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "taskfleet.labels" -}}
{{ include "taskfleet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: taskfleet
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "taskfleet.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "taskfleet.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- /* Without a name it would be `default`: then every pod of the namespace would get the operator's permissions. */}}
{{- required "serviceAccount.name: name the account to use when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "taskfleet.leaseName" -}}
{{- default (include "taskfleet.fullname" .) .Values.leaderElection.leaseName }}
{{- end }}

{{- define "taskfleet.webhookSecret" -}}
{{- if eq .Values.webhook.certificate "Secret" }}
{{- required "webhook.secretName: name the secret with tls.crt, tls.key and ca.crt" .Values.webhook.secretName }}
{{- else }}
{{- printf "%s-webhook" (include "taskfleet.fullname" .) }}
{{- end }}
{{- end }}

{{- /* A pattern of the policy as a regular expression: `*` is any characters; the rest is literal. */}}
{{- define "taskfleet.pattern" -}}
{{- printf "^%s$" (. | replace "." "[.]" | replace "*" ".*") }}
{{- end }}

{{- define "taskfleet.subject" -}}
- kind: ServiceAccount
  name: {{ include "taskfleet.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "taskfleet.dashboard.fullname" -}}
{{- include "taskfleet.fullname" . | trunc 53 | trimSuffix "-" }}-dashboard
{{- end }}

{{- define "taskfleet.dashboard.selector" -}}
app.kubernetes.io/name: {{ include "taskfleet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: dashboard
{{- end }}

{{- define "taskfleet.dashboard.labels" -}}
{{- merge (include "taskfleet.dashboard.selector" . | fromYaml) (include "taskfleet.labels" . | fromYaml) | toYaml }}
{{- end }}

{{- define "taskfleet.dashboard.namespace" -}}
{{- default .Release.Namespace .Values.dashboard.namespace }}
{{- end }}

{{- define "taskfleet.dashboard.serviceAccountName" -}}
{{- if .Values.dashboard.serviceAccount.create }}
{{- default (include "taskfleet.dashboard.fullname" .) .Values.dashboard.serviceAccount.name }}
{{- else }}
{{- required "dashboard.serviceAccount.name: name the account to use when dashboard.serviceAccount.create is false" .Values.dashboard.serviceAccount.name }}
{{- end }}
{{- end }}
