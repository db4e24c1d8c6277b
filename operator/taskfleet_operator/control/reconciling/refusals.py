"""Refusals: what a reconcile that did not succeed says in the status, and when the next one follows.

Every exception has its words here. The last resort names the class of the error and its text in one line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from taskfleet import describing

from ..api.kubernetes_api import ApiError
from ..pods.handover import HandoverWaitsError
from ..redis.redis_credentials import MissingSecretError
from ..status.conditions import Condition
from .applying import ApplyError
from .ownership import EndingChildError, ForeignObjectError

RESYNC_SECONDS = 60.0
_SOON_SECONDS = 1.0
_OWN_METADATA = re.compile(r"[ \[]metadata\.(labels|annotations)\b")  # of the child itself, not of its pod template


class InvalidSpecError(Exception):
    """A field that cannot be used; the text begins with its path."""


@dataclass(frozen=True, slots=True)
class ReconcileRefusal:
    """`invalid`: only a change of the spec can help.

    `stops`: the workers are not as the spec wants them, so that `Ready` says it too.
    `passing`: it usually goes away by itself, so that only a repeated one is told.
    `after` is in seconds; None leaves it to the growing delay.
    """

    reason: str
    message: str
    invalid: bool = False
    stops: bool = True
    passing: bool = False
    after: float | None = None

    def conditions(self) -> list[Condition]:
        found = [Condition("Reconciled", False, self.reason, self.message)]
        if self.invalid:
            found.append(Condition("SpecValid", False, "Invalid", self.message))
        if self.stops:
            found.append(Condition("Ready", False, self.reason, self.message))
        return found


def refusal_of(error: Exception) -> ReconcileRefusal:
    """The words for an error of a reconcile."""
    match error:
        case InvalidSpecError():
            return ReconcileRefusal("SpecInvalid", str(error), invalid=True, after=RESYNC_SECONDS)
        case ForeignObjectError():
            after = _SOON_SECONDS if error.passing else None
            return ReconcileRefusal("ForeignObject", str(error), after=after)
        case EndingChildError():
            return ReconcileRefusal("ChildIsEnding", str(error), stops=error.stops, passing=True, after=_SOON_SECONDS)
        case MissingSecretError():
            return ReconcileRefusal("SecretMissing", str(error), after=RESYNC_SECONDS)  # a new secret ends the wait
        case ApplyError() if error.error.invalid:
            field = _field_of(error.kind.kind, str(error))
            return ReconcileRefusal("SpecInvalid", f"{field}: {error}", invalid=True, after=RESYNC_SECONDS)
        case ApplyError():
            told = _answer(error.error, f"the {error.kind.kind} was not accepted: ")
            return replace(told, stops=False) if error.spares_the_others else told
        case ApiError():
            return _answer(error, "")
        case HandoverWaitsError():
            return ReconcileRefusal("RolloutWaits", str(error), stops=False, after=_SOON_SECONDS)
        case _:
            return ReconcileRefusal(
                "ReconcileFailed", f"{type(error).__name__}: {describing.text_of(error)}", stops=False
            )


def _answer(error: ApiError, of: str) -> ReconcileRefusal:
    """The words for an answer of the API server that is not about the spec."""
    text = str(error)
    if error.status == 403 and "exceeded quota" in text:
        return ReconcileRefusal("QuotaExceeded", f"{of}{text}")
    if "admission webhook" in text or "ValidatingAdmissionPolicy" in text:
        return ReconcileRefusal("AdmissionDenied", f"{of}{text}")
    if error.status == 403:
        return ReconcileRefusal("Forbidden", f"{of}{text}")
    if error.conflict:
        return ReconcileRefusal("Conflict", f"{of}{text}", stops=False, passing=True)
    return ReconcileRefusal("ApiServerError", f"{of}{text}", stops=False, passing=True)


def _field_of(kind: str, text: str) -> str:
    """The field of the TaskQueue behind the API server's message about a child.

    The schema of the TaskQueue checks the other fields before the operator sees them.
    """
    if _OWN_METADATA.search(text):
        return "spec.worker.metadata"
    if kind == "PodDisruptionBudget":
        return "spec.worker.podDisruptionBudget"
    if kind != "Deployment":
        return "metadata.name"
    return "spec.worker.updateStrategy" if "spec.strategy" in text else "spec.worker.template"
