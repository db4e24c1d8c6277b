"""What a failed end-to-end test leaves on the screen: the operator's log, the resource, pods and events."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from e2e.cluster.kubectl import ClusterCommand, CommandError

_LINES = 120


@contextlib.contextmanager
def on_failure(kubectl: ClusterCommand, namespace: str, operator_namespace: str) -> Iterator[None]:
    """Print the evidence when the block fails, before the namespace is gone."""
    try:
        yield
    except BaseException:
        here, there = ("--namespace", namespace), ("--namespace", operator_namespace)
        pods = "app.kubernetes.io/name=taskfleet"
        _print(kubectl, "logs", *there, "-l", pods, f"--tail={_LINES}", "--prefix")
        _print(kubectl, "get", "pods", *there, "-o", "wide")
        _print(kubectl, "get", "tq", *here, "-o", "yaml")
        _print(kubectl, "get", "all,configmap,serviceaccount,pdb", *here, "-o", "wide")
        _print(kubectl, "get", "events", *here, "--sort-by=.lastTimestamp")
        _print(kubectl, "logs", *here, "-l", "app.kubernetes.io/instance", "--tail=20", "--prefix", "--all-containers")
        raise


def _print(kubectl: ClusterCommand, *arguments: str) -> None:
    try:
        shown = kubectl(*arguments, timeout=30)
    except (CommandError, subprocess.TimeoutExpired) as failed:
        shown = str(failed)
    lines = shown.splitlines()[-3 * _LINES :]
    print(f"--- kubectl {' '.join(arguments)}", *lines, sep="\n")
