{{- /* What the operator does in a namespace that it serves: the same in a Role and in the ClusterRole. */}}
{{- define "taskfleet.rules" -}}
- apiGroups: [taskfleet.io]        # patch: the finalizer of deletionPolicy Purge, and nothing else
  resources: [taskqueues]
  verbs: [get, list, watch, patch]
- apiGroups: [taskfleet.io]
  resources: [taskqueues/status]
  verbs: [patch]
- apiGroups: [taskfleet.io]        # owner references that block the deletion of the owner
  resources: [taskqueues/finalizers]
  verbs: [update]
- apiGroups: [apps]                # server-side apply is a patch; the garbage collector deletes
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]                # a pod belongs to a Deployment by way of its ReplicaSet
  resources: [replicasets]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [serviceaccounts, configmaps, services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]              # delete: a TaskQueue may change its mind about having one
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]                  # patch: the deletion cost of an idle pod, the protection of a busy one
  resources: [pods]
  verbs: [list, watch, patch]
- apiGroups: [""]                  # the readiness gate of updateStrategy Drain
  resources: [pods/status]
  verbs: [patch]
- apiGroups: [""]                  # those that a TaskQueue names, one by one
  resources: [secrets]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
