"""Pod trouble: why the workers of a TaskQueue do not start, in the words of Kubernetes and of the worker itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from taskfleet import showing

from ..store.cluster_store import Object, is_ready

_DETAIL = 500  # characters
_PULL = frozenset(
    {
        "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable",
        "ImageInspectError", "SignatureValidationFailed",
    }
)  # fmt: skip
_CRASH_LOOP = "CrashLoopBackOff"
_ORDINARY = frozenset({"ContainerCreating", "PodInitializing"})
# The kubelet alternates between the two words and repeats one inside the other.
_PULL_PREFIX = re.compile(r'^(Back-off pulling image "[^"]*": )?((ErrImagePull|ImagePullBackOff): )?')
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_FAILURES = (
    ("exceeded quota", "QuotaExceeded"),
    ("violates PodSecurity", "PodSecurityViolation"),
    ("usage per ", "LimitRangeViolation"),
    ("limit to request ratio", "LimitRangeViolation"),
    ("admission webhook", "AdmissionDenied"),
    ("ValidatingAdmissionPolicy", "AdmissionDenied"),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """`reason` is one word, `message` one bounded line. Both stay the same while the trouble is the same."""

    reason: str
    message: str


def trouble_of(
    deployment: Object | None, replica_sets: Iterable[Object], pods: Iterable[Object], failed: Iterable[Object] = ()
) -> Trouble | None:
    """The first trouble: of a pod, of one that a node has evicted or refused, of the creation of pods, of the rollout.

    `failed` pods stay for long; the last of them counts until a newer pod is ready.
    """
    pods = list(pods)
    found = sorted(
        (rank, str(pod["metadata"].get("creationTimestamp")), pod["metadata"]["name"], trouble)
        for pod in pods
        if not is_ready(pod)
        for rank, trouble in enumerate(_of_pod(pod))
        if trouble is not None
    )
    if found:
        _, _, name, trouble = found[0]
        return Trouble(_word(trouble[0]), f"pod {name}: {showing.shown(trouble[1], _DETAIL)}")
    good_since = max((_made(pod) for pod in pods if is_ready(pod)), default="")
    last = max(failed, key=lambda pod: (_made(pod), str(pod["metadata"]["name"])), default=None)
    if last is not None and _made(last) >= good_since:
        status = last.get("status") or {}
        told = showing.shown(str(status.get("message") or "its node has ended it"), _DETAIL)
        return Trouble(_word(status.get("reason")), f"pod {last['metadata']['name']}: {told}")
    newest_first = sorted(replica_sets, key=lambda one: str(one["metadata"].get("creationTimestamp")), reverse=True)
    for one in (*newest_first, *((deployment,) if deployment is not None else ())):
        if (failure := _condition(one, "ReplicaFailure", "True")) is not None:
            message = str(failure.get("message") or "")
            reason = next((reason for sign, reason in _FAILURES if sign in message), failure.get("reason"))
            told = showing.shown(_without_pod_name(message), _DETAIL)
            return Trouble(_word(reason, "FailedCreate"), f"pods cannot be created: {told}")
    if deployment is not None and (stuck := _condition(deployment, "Progressing", "False")) is not None:
        message = showing.shown(str(stuck.get("message") or ""), _DETAIL)
        return Trouble(_word(stuck.get("reason"), "RolloutStopped"), message)
    return None


def _made(body: Object) -> str:
    return str(body["metadata"].get("creationTimestamp"))


def _word(reason: Any, otherwise: str = "PodFailed") -> str:
    """A reason of Kubernetes, as a condition may have it. A container runtime or a scheduler may give any text."""
    return reason if isinstance(reason, str) and _REASON.fullmatch(reason) else otherwise


_Words = tuple[str, str]


def _of_pod(pod: Object) -> Iterator[_Words | None]:
    """The troubles of one pod, those first that say most."""
    status = pod.get("status") or {}
    containers = [
        *((f"init container {one['name']}", one) for one in status.get("initContainerStatuses") or ()),
        *((f"container {one['name']}", one) for one in status.get("containerStatuses") or ()),
    ]
    for of in (_crash, _waiting):
        yield next((words for where, one in containers if (words := of(where, one)) is not None), None)
    scheduled = _condition(pod, "PodScheduled", "False")
    yield (
        None if scheduled is None else (str(scheduled.get("reason")), str(scheduled.get("message") or "not scheduled"))
    )


def _crash(where: str, container: Object) -> _Words | None:
    """A container that ended with a failure, and waits for its next start or has just started again."""
    ended: dict[str, Any] = _part(container, "state", "terminated") or _part(container, "lastState", "terminated")
    waiting = _part(container, "state", "waiting").get("reason")
    if container.get("ready") or not (waiting == _CRASH_LOOP or ended.get("exitCode")):
        return None
    code = ended.get("exitCode")
    how = f"ended with exit code {code}" if code is not None else "ends again and again"
    if (reason := ended.get("reason")) not in (None, "Error", "Completed"):
        how = f"{how} ({reason})"
    last = _last_line(str(ended.get("message") or ""))
    return "CrashLoop", f"{where} {how}" + (f": {last}" if last else "")


def _waiting(where: str, container: Object) -> _Words | None:
    """A container that cannot be started: its image, its configuration, a secret that is missing."""
    waiting = _part(container, "state", "waiting")
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if not reason or reason in _ORDINARY or reason == _CRASH_LOOP:
        return None
    if reason in _PULL:
        said = _PULL_PREFIX.sub("", message)
        return "ImagePull", f"{where}: image {container.get('image')} cannot be pulled" + (f": {said}" if said else "")
    return reason, f"{where} cannot be started" + (f": {message}" if message else "")


def _last_line(text: str) -> str:
    """The last line that says something: of a traceback, the error."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _part(container: Object, state: str, part: str) -> dict[str, Any]:
    found: dict[str, Any] = (container.get(state) or {}).get(part) or {}
    return found


def _condition(body: Object, kind: str, status: str) -> Object | None:
    conditions: Iterable[Object] = (body.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == status), None)


def _without_pod_name(message: str) -> str:
    """Without the name of the pod that was refused, which differs at each attempt."""
    return re.sub(r'^pods "[^"]*" is forbidden: ', "", message)
