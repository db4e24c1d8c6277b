"""Protection from node autoscalers: a pod that runs a long task asks them to let it finish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from taskfleet.protocol.worker_info import WorkerInfo

from ...scaling.silent_workers import STALE_HEARTBEAT_SECONDS
from ..store.cluster_store import Object

ANNOTATIONS = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


class EvictionProtection:
    """Knows which pods have just been patched, until the watch shows it."""

    def __init__(self) -> None:
        self._patched: dict[str, bool] = {}  # by uid of the pod

    def changes(
        self,
        pods: Mapping[str, Object],
        workers: Iterable[WorkerInfo],
        after_seconds: float | None,
        template: Mapping[str, str],
    ) -> dict[str, bool]:
        """The pods whose protection has to change, with whether they are to be protected. `after_seconds` None: never.

        A pod whose workers have sent no heartbeat for a while stays as it is: nobody knows what it runs. An annotation
        that the pod template has (`template`) is the user's, and stays.
        """
        if ANNOTATIONS.keys() & template.keys():
            return {}
        oldest = _oldest_runs(workers)
        found: dict[str, bool] = {}
        uids = {name: str(pod["metadata"].get("uid", name)) for name, pod in pods.items()}
        self._patched = {uid: on for uid, on in self._patched.items() if uid in uids.values()}
        for name, pod in pods.items():
            shown = _is_protected(pod)
            if self._patched.get(uids[name]) == shown:
                del self._patched[uids[name]]
            protected = self._patched.get(uids[name], shown)
            if after_seconds is None:
                wanted = False
            elif name in oldest:
                wanted = oldest[name] > 0 and oldest[name] >= after_seconds
            else:
                wanted = protected
            if wanted != protected:
                found[name] = wanted
        return found

    def patched(self, pod: Object, protected: bool) -> None:
        """This change has been written."""
        self._patched[str(pod["metadata"].get("uid", pod["metadata"]["name"]))] = protected


def patch(protected: bool) -> dict[str, str | None]:
    """The annotations of a merge patch: None removes one."""
    return {name: value if protected else None for name, value in ANNOTATIONS.items()}


def _oldest_runs(workers: Iterable[WorkerInfo]) -> dict[str, float]:
    """For each pod with a live worker process, how long its oldest run has taken; 0 when it runs nothing."""
    found: dict[str, float] = {}
    for worker in workers:
        if worker.heartbeat_age_seconds <= STALE_HEARTBEAT_SECONDS:
            run = worker.oldest_run_seconds + worker.heartbeat_age_seconds if worker.oldest_run_seconds else 0.0
            found[worker.name] = max(found.get(worker.name, 0.0), run)
    return found


def _is_protected(pod: Object) -> bool:
    annotations = pod["metadata"].get("annotations") or {}
    return any(annotations.get(name) == value for name, value in ANNOTATIONS.items())
