"""Evidence of a failed end-to-end test, printed: the log of the operator, the resource, pods and events."""

from __future__ import annotations

import subprocess

from e2e.cluster.kubectl import ClusterCommand, CommandError

_LINES = 120


def show(kubectl: ClusterCommand, namespace: str, operator_namespace: str) -> None:
    """Print it, while the namespace is there."""
    here, there = ("--namespace", namespace), ("--namespace", operator_namespace)
    _print(kubectl, "logs", *there, "-l", "app.kubernetes.io/name=taskfleet", f"--tail={_LINES}", "--prefix")
    _print(kubectl, "get", "pods", *there, "-o", "wide")
    _print(kubectl, "get", "tq", *here, "-o", "yaml")
    _print(kubectl, "get", "all,configmap,serviceaccount,pdb", *here, "-o", "wide")
    _print(kubectl, "get", "events", *here, "--sort-by=.lastTimestamp")
    _print(kubectl, "logs", *here, "-l", "app.kubernetes.io/instance", "--tail=20", "--prefix", "--all-containers")


def _print(kubectl: ClusterCommand, *arguments: str) -> None:
    try:
        shown = kubectl(*arguments, timeout=30)
    except (CommandError, subprocess.TimeoutExpired) as failed:
        shown = str(failed)
    lines = shown.splitlines()[-3 * _LINES :]
    print(f"--- kubectl {' '.join(arguments)}", *lines, sep="\n")
