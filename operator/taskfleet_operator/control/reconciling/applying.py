"""Applying: the writes that bring one child in line with its TaskQueue. None of them can hit a foreign object.

Server-side apply creates what does not exist and has no way to say "only if absent". So an absent child is created with
POST, which fails when somebody else was first, and an existing one is applied with its uid as a precondition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...children import Child, ChildKind
from ..api.kubernetes_api import AUTOSCALER, OPERATOR, ApiError, KubernetesApi, NotLeadingError
from ..store.cluster_store import Object

_SETTLE_ATTEMPTS = 5  # other controllers write to a new Deployment at the same moment
_NO_DRY_RUN = "does not support dry run"


@dataclass(frozen=True, slots=True)
class Change:
    """A child that has to be written: as it should be, and as it is, None for an absent one.

    `replicas` is the number with which a scaled child is created.
    """

    kind: ChildKind
    wanted: Child
    live: Object | None
    replicas: int = 0


class ApplyError(Exception):
    """The API server did not accept a child. `error` is its answer."""

    def __init__(self, kind: ChildKind, error: ApiError) -> None:
        super().__init__(str(error))
        self.kind = kind
        self.error = error

    @property
    def spares_the_others(self) -> bool:
        """Whether the other children can be applied without this one: it is forbidden, and the pods do not read it."""
        return self.kind.spare and self.error.status == 403


async def rehearse(change: Change, cluster: KubernetesApi) -> Object | None:
    """The child as it will be: a dry run with validation and admission. `ApplyError` when it would be refused.

    None when an admission webhook of the cluster cannot take part in dry runs: then the write itself is the test.
    """
    try:
        return await cluster.dry_run_apply(_applied(change), OPERATOR)
    except ApiError as error:
        if _NO_DRY_RUN in str(error):
            return None
        raise ApplyError(change.kind, await _taken(change, cluster) or error) from None


async def _taken(change: Change, cluster: KubernetesApi) -> ApiError | None:
    """The refusal of an absent child may be about an object that somebody has just made under its name."""
    metadata = change.wanted["metadata"]
    if change.live is not None or not await cluster.get(
        change.kind.api_version, change.kind.kind, metadata["namespace"], metadata["name"]
    ):
        return None
    return ApiError(409, f"{change.kind.kind} {metadata['name']!r} has been made by somebody else in the meantime")


async def write(change: Change, rehearsed: Object | None, cluster: KubernetesApi) -> Object:
    """Create or apply a child, and return it as it is now."""
    try:
        if change.live is None:
            return await _create(change, rehearsed, cluster)
        applied = await cluster.apply(_applied(change), OPERATOR)
        return await _settle(change, applied, applied, cluster) if is_unsettled(applied) else applied
    except NotLeadingError:
        raise
    except ApiError as error:
        raise ApplyError(change.kind, error) from None


def is_unsettled(live: Object) -> bool:
    """Whether the operator was stopped between the creation of a child and its first apply.

    A field of both the creation and the apply would stay when the apply no longer has it.
    """
    return any(_is_creation(entry) for entry in live["metadata"].get("managedFields") or ())


async def _create(change: Change, rehearsed: Object | None, cluster: KubernetesApi) -> Object:
    body = change.wanted
    if change.kind.scaled:
        # Without a number the Deployment would start with one replica.
        body = {**body, "spec": {**body["spec"], "replicas": change.replicas}}
    created = await cluster.create(body, OPERATOR)
    if rehearsed is None:
        owned = {**change.wanted, "metadata": {**change.wanted["metadata"], "uid": created["metadata"]["uid"]}}
        created = rehearsed = await cluster.apply(owned, OPERATOR)
    return await _settle(change, created, rehearsed, cluster)


async def _settle(change: Change, live: Object, applied: Object, cluster: KubernetesApi) -> Object:
    """Make the fields of the creation fields of the apply, and the replicas those of the autoscaler."""
    own = [entry for entry in applied["metadata"]["managedFields"] if _is_apply(entry, OPERATOR)]
    for attempt in range(_SETTLE_ATTEMPTS):
        entries = [
            entry
            for entry in live["metadata"].get("managedFields") or ()
            if not _is_creation(entry) and not _is_apply(entry, OPERATOR)
        ]
        if change.kind.scaled and not any(_is_apply(entry, AUTOSCALER) for entry in entries):
            entries.append(_replicas_entry(change.kind))
        try:
            return await cluster.set_managed_fields(dict(live), [*own, *entries])
        except ApiError as error:
            if not error.conflict or attempt == _SETTLE_ATTEMPTS - 1:
                raise
        metadata = live["metadata"]
        seen = await cluster.get(change.kind.api_version, change.kind.kind, metadata["namespace"], metadata["name"])
        if seen is None or seen["metadata"]["uid"] != metadata["uid"]:
            return live  # deleted in the meantime: the next reconcile sees what is there
        live = seen
    raise AssertionError("the last attempt returns or raises")


def _applied(change: Change) -> Child:
    if change.live is None:
        return change.wanted
    return {**change.wanted, "metadata": {**change.wanted["metadata"], "uid": change.live["metadata"]["uid"]}}


def _is_creation(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == OPERATOR and entry.get("operation") == "Update" and not entry.get("subresource")


def _is_apply(entry: Mapping[str, Any], manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")


def _replicas_entry(kind: ChildKind) -> dict[str, Any]:
    return {
        "manager": AUTOSCALER,
        "operation": "Apply",
        "apiVersion": kind.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }
