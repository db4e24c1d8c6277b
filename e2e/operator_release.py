"""The operator, installed by its chart from the checkout, with everything on that the tests look at."""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path
from typing import Any

from e2e.cluster.kubectl import ClusterCommand, CommandError

_CHART = Path(__file__).parents[1] / "helm" / "taskfleet"
_SELECTOR = "app.kubernetes.io/name=taskfleet,app.kubernetes.io/component=operator"

BOUND = "taskfleet-e2e/policy"
"""The label of the namespaces that the chart's policy binds. The others are free."""
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


class OperatorRelease:
    """One release of the chart: two operators, the webhook, and the policy in labelled namespaces."""

    name = "taskfleet"
    namespace = "taskfleet-system"

    def __init__(self, kubectl: ClusterCommand, helm: ClusterCommand) -> None:
        self._kubectl = kubectl
        self._helm = helm
        self._values = {
            "image": {"tag": "dev"},
            # Fresh pods in each session: the tag stays `dev` when the image was built anew.
            "podAnnotations": {"run": secrets.token_hex(4)},
            "webhook": {"enabled": True},
            "policy": {
                "enabled": True,
                "namespaceSelector": {"matchLabels": {BOUND: "on"}},
                "redisHosts": ["redis.e2e-*.svc"],
            },
        }

    def install(self, *settings: str) -> None:
        """Install it, or upgrade it to these values beside the usual ones, such as `replicas=0`, and wait for it."""
        with contextlib.suppress(CommandError):
            self._kubectl("create", "namespace", self.namespace)
        self._kubectl("label", "namespace", self.namespace, RESTRICTED, "--overwrite")
        chosen = [part for setting in settings for part in ("--set", setting)]
        try:
            self._helm(
                "upgrade", "--install", self.name, str(_CHART), "--namespace", self.namespace, "--take-ownership",
                "--values", "-", *chosen, "--wait", "--timeout", "180s", stdin=json.dumps(self._values), timeout=200,
            )  # fmt: skip
        except CommandError:
            with contextlib.suppress(CommandError):
                print(self._kubectl("describe", "pods", "--namespace", self.namespace))
                print(self._kubectl("logs", "--namespace", self.namespace, "-l", _SELECTOR, "--tail=100"))
            raise

    def uninstall(self) -> None:
        self._helm("uninstall", self.name, "--namespace", self.namespace, "--wait", "--timeout", "60s")

    def pods(self) -> dict[str, Any]:
        """Its pods that are not being deleted, by name."""
        items = self._kubectl.json("get", "pods", "--namespace", self.namespace, "-l", _SELECTOR)["items"]
        return {pod["metadata"]["name"]: pod for pod in items if "deletionTimestamp" not in pod["metadata"]}

    def ready(self) -> bool:
        """Whether as many as the chart asks for are ready."""
        found = self._kubectl.json("get", "deployment", self.name, "--namespace", self.namespace)
        return bool(found["status"].get("readyReplicas", 0) == found["spec"]["replicas"])

    def lease(self) -> dict[str, Any]:
        spec: dict[str, Any] = self._kubectl.json("get", "lease", self.name, "--namespace", self.namespace)["spec"]
        return spec

    def leader(self) -> str:
        """The pod that holds the Lease, "" when none of those that are there does."""
        holder = self.lease().get("holderIdentity") or ""
        return next((name for name in self.pods() if holder.startswith(name)), "")

    def delete_pod(self, name: str, *options: str) -> None:
        self._kubectl("delete", "pod", name, "--namespace", self.namespace, "--wait=false", *options)
