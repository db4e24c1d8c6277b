"""A decision and its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .history import ScalingState
from .queue_terms import QueueTerms


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The outcome of one look at a TaskQueue.

    `reason` is one CamelCase word, `message` the formula with its numbers. `limited_by` names the last rule that
    changed the recommended number, "" when none did; `limit_message` may say more about it. `terms` are the figures of
    the whole TaskQueue, for metrics; `queues` are the terms of each queue. `state` is an argument of the next call.
    An `advice` is only told: nobody carries it out.
    """

    desired: int
    current: int
    reason: str
    message: str
    limited_by: str
    terms: Mapping[str, float]
    queues: tuple[QueueTerms, ...]
    state: ScalingState
    fallback: bool = False
    panicking: bool = False
    limit_message: str = ""
    advice: bool = False

    @property
    def changed(self) -> bool:
        return self.desired != self.current

    def held(self, rule: str, message: str) -> ScalingDecision:
        """This decision while no single replica can be chosen for removal: none is removed, or all."""
        if not 0 < self.desired < self.current:
            return self
        return replace(self, desired=self.current, limited_by=rule, limit_message=message)

    @property
    def stops_all(self) -> bool:
        """Whether the user wants no worker at all: `suspend`, a pause at zero, or a number of zero."""
        return not self.desired and self.reason in {"Suspended", "Paused", "Disabled"}

    @property
    def drains_busy(self) -> bool:
        """Whether busy workers are drained, too.

        The user wants fewer replicas than there are busy workers, or the running tasks fit into fewer workers. A worker
        that drains finishes what it runs.
        """
        by_user = self.reason in {"Suspended", "Paused"} or self.limited_by == "TooManyReplicas"
        return by_user or self.desired < self.terms.get("busy_workers", 0)
