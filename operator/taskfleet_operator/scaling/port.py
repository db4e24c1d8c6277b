"""The port of the control loop: a fleet of workers whose number can be set, in Kubernetes or on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..autoscaler import FleetSample, ScalingDecision, ScalingState, WorkerSample
from .order import ScalingOrder
from .sampling import QueueReader, Reading, Replicas


class ScalingRedis(QueueReader, Protocol):
    """What a control loop needs of the Redis of its queues."""

    @property
    def notice(self) -> str:
        """What a reader of the status should know about this Redis, "" when all is well."""
        ...

    def next_poll(self, now: float, interval: float) -> float:
        """The time of the next poll on the monotonic clock."""
        ...

    async def cordon(self, name: str, *, ttl_seconds: float) -> None: ...

    async def uncordon(self, name: str) -> None: ...

    def note(self, scaler: str, look: Look) -> None:
        """Keep a decision for those who ask later why. It neither waits nor raises."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one look at a fleet, with the order that it followed.

    `reading` and `workers` are None when Redis could not be read. `decision` is None at a look between two decisions,
    which only refreshes the figures. `lag_seconds` is how long after its time the decision was made; `notice` is what
    a reader should know about Redis, "" when all is well. `refused` is why the decision could not be carried out.
    `decide` gave the number `decided` at the time `now`, with the memory `before`; the loop may have held it.
    """

    order: ScalingOrder
    replicas: Replicas
    sample: FleetSample
    reading: Reading | None
    workers: tuple[WorkerSample, ...] | None
    decision: ScalingDecision | None
    lag_seconds: float = 0.0
    notice: str = ""
    refused: Exception | None = None
    decided: int = 0
    now: float = 0.0
    before: ScalingState | None = None


class Fleet(Protocol):
    """The workers of one TaskQueue. The loop decides; a fleet carries out and reports.

    The number falls no sooner than `settle_seconds` after a mark, so that the platform has seen the mark. Every
    `refresh_seconds` the loop looks without deciding; infinity when no figures are shown between decisions.
    """

    @property
    def settle_seconds(self) -> float: ...

    @property
    def refresh_seconds(self) -> float: ...

    def order(self) -> ScalingOrder:
        """The order of the current manifest."""
        ...

    def replicas(self) -> Replicas | None:
        """The replicas now, None while there is nothing to scale."""
        ...

    def initial_state(self, current: int, now: float) -> ScalingState:
        """The state for the first decision, with the times that were kept across a restart."""
        ...

    async def mark(self, name: str) -> bool:
        """Mark this replica as the next to remove. False when it no longer exists."""
        ...

    async def unmark(self, name: str) -> None:
        """Remove a mark."""
        ...

    async def resize(self, replicas: int, removed: Sequence[str], decision: ScalingDecision) -> None:
        """Set the number of replicas. `removed` are the marked replicas that are removed with it."""
        ...

    async def hand_over(self, workers: Sequence[WorkerSample], broker: ScalingRedis) -> bool:
        """Continue to replace workers of an earlier version, at each look. Returns whether that is under way."""
        ...

    async def tell(self, look: Look) -> float:
        """Show the result of a look. Returns the seconds after which to decide again, for current figures."""
        ...

    def failed(self, error: Exception) -> None:
        """A look has met this error. The loop continues with the next one, unless this raises."""
        ...
