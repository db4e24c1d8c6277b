"""One AdmissionReview: from the request of the API server to its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from taskfleet import showing

from ..resource.checks import Finding
from ..resource.manifest import problems
from ..resource.taskqueue import KIND, TaskQueueResource
from .examination import Cluster, examine

_MESSAGE, _WARNING, _WARNINGS = 1024, 250, 8  # characters; the API server cuts longer warnings, and drops many


class NoReviewError(ValueError):
    """The request is no AdmissionReview."""


async def answer(review: Any, cluster: Cluster) -> dict[str, Any]:
    """The AdmissionReview to send back."""
    try:
        request: Mapping[str, Any] = review["request"]
        uid: str = request["uid"]
        kind = request["kind"]["kind"]
    except (KeyError, TypeError):
        raise NoReviewError("no AdmissionReview with a request") from None
    found = await _findings(request, cluster) if kind == KIND else []
    errors = [finding for finding in found if not finding.warning]
    response: dict[str, Any] = {"uid": uid, "allowed": not errors}
    if errors:
        text = "; ".join(map(str, errors))
        response["status"] = {"code": 422, "reason": "Invalid", "message": showing.shown(text, _MESSAGE)}
    if warnings := [showing.shown(str(finding), _WARNING) for finding in found if finding.warning]:
        response["warnings"] = warnings[:_WARNINGS]
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


async def _findings(request: Mapping[str, Any], cluster: Cluster) -> list[Finding]:
    body, before = request.get("object"), request.get("oldObject")
    if request.get("operation") not in ("CREATE", "UPDATE") or not isinstance(body, Mapping):
        return []
    # What is stored may be invalid for this version. Its labels, finalizers and status can be changed all the same.
    if isinstance(before, Mapping) and before.get("spec") == body.get("spec"):
        return []
    if body.get("metadata", {}).get("deletionTimestamp"):
        return []
    named = {"namespace": request.get("namespace"), "name": request.get("name")}
    metadata = {**{name: value for name, value in named.items() if value}, **body.get("metadata", {})}
    try:
        queue = TaskQueueResource.model_validate({"metadata": metadata, "spec": body.get("spec")})
    except pydantic.ValidationError as error:
        field, _, message = problems(error).partition(": ")
        return [Finding(field, message)]
    return await examine(queue, cluster)
