"""The scaling order: the part of a TaskQueue that determines the number of its workers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..autoscaler import ScalingOverrides
from ..resource.autoscaler_spec import AutoscalerSpec
from ..resource.queue_spec import QueueSpec
from ..resource.taskqueue import TaskQueueResource
from .overrides import overrides_of


@dataclass(frozen=True, slots=True)
class QueueShare:
    """The part of a queue's demand that falls to one of the TaskQueues that serve it, from `low` to `high` of 1."""

    low: float = 0.0
    high: float = 1.0

    def of(self, count: int) -> int:
        """This part of so many tasks. The parts of all TaskQueues together are the whole."""
        return math.floor(count * self.high + _ROUNDING) - math.floor(count * self.low + _ROUNDING)

    def of_limit(self, limit: float | None) -> float | None:
        return None if limit is None else limit * self.width

    @property
    def width(self) -> float:
        return self.high - self.low


WHOLE = QueueShare()
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class QueueTarget:
    """A queue of the manifest: its name, its latency target in seconds, its own limits, None without one, how long its
    leases hold, and the part of its demand that these workers serve."""

    name: str
    target_latency_seconds: float | None = None
    rate_per_second: float | None = None
    concurrency: int | None = None
    rate_per_second_per_key: float | None = None
    concurrency_per_key: int | None = None
    lease_seconds: float = 30.0
    share: QueueShare = WHOLE


@dataclass(frozen=True, slots=True)
class ScalingOrder:
    """The part of a TaskQueue that determines the number of workers. A replica has `concurrency` slots per process."""

    queues: tuple[QueueTarget, ...]
    autoscaler: AutoscalerSpec
    overrides: ScalingOverrides
    concurrency: int
    processes: int

    @property
    def slots_per_replica(self) -> int:
        return self.concurrency * self.processes

    def capacity(self, current: int) -> int:
        """The slots that this TaskQueue may have at most. Without somebody who adds replicas, that is the `current`
        number of them."""
        overrides = self.overrides
        if overrides.suspend:
            return 0
        if self.autoscaler.mode == "Disabled":
            most = overrides.replicas
        elif self.autoscaler.mode == "Recommend":
            most = current
        elif overrides.paused_replicas is not None:
            most = overrides.paused_replicas
        else:
            most = current if overrides.paused or overrides.paused_scale_out else self.autoscaler.max_replicas
        return most * self.slots_per_replica

    def shared(self, shares: Mapping[str, QueueShare]) -> ScalingOrder:
        """This order with these parts of its queues."""
        targets = tuple(replace(target, share=shares.get(target.name, WHOLE)) for target in self.queues)
        return replace(self, queues=targets)


def order_of(resource: TaskQueueResource) -> ScalingOrder:
    """The order in a TaskQueue. ConfigurationError names an annotation with an invalid value."""
    spec = resource.spec
    return ScalingOrder(
        queues=tuple(_target(queue) for queue in spec.queues),
        autoscaler=spec.autoscaler,
        overrides=overrides_of(resource),
        concurrency=spec.worker.concurrency,
        processes=spec.worker.processes,
    )


def _target(queue: QueueSpec) -> QueueTarget:
    rate, per_key = queue.rate_limit, queue.rate_limit_per_key
    return QueueTarget(
        name=queue.name,
        target_latency_seconds=queue.target_latency_seconds,
        rate_per_second=None if rate is None else float(rate.tasks_per_second),
        concurrency=queue.concurrency,
        rate_per_second_per_key=None if per_key is None else float(per_key.tasks_per_second),
        concurrency_per_key=queue.concurrency_per_key,
        lease_seconds=queue.lease_seconds,
    )
