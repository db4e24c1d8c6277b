{{- /* What the operator does in a namespace that it serves: the same in a Role and in the ClusterRole. */}}
{{- define "taskfleet.rules" -}}
- apiGroups: [taskfleet.io]
  resources: [taskqueues]
  verbs: [get, list, watch, patch]
- apiGroups: [taskfleet.io]
  resources: [taskqueues/status]
  verbs: [get, patch, update]
- apiGroups: [taskfleet.io]        # owner references that block the deletion of the owner
  resources: [taskqueues/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch, update]
- apiGroups: [""]
  resources: [serviceaccounts, configmaps, services]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [""]                  # patch: the deletion cost of an idle pod
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [""]                  # those that a TaskQueue names, one by one
  resources: [secrets]
  verbs: [get]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
