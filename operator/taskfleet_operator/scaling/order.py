"""The scaling order: the part of a TaskQueue that determines the number of its workers."""

from __future__ import annotations

from dataclasses import dataclass

from ..autoscaler import ScalingOverrides
from ..resource.autoscaler_spec import AutoscalerSpec
from ..resource.taskqueue import TaskQueueResource
from .overrides import overrides_of


@dataclass(frozen=True, slots=True)
class QueueTarget:
    """A queue of the manifest: its name and its latency target in seconds."""

    name: str
    target_latency_seconds: float | None = None


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


def order_of(resource: TaskQueueResource) -> ScalingOrder:
    """The order in a TaskQueue. ConfigurationError names an annotation with an invalid value."""
    spec = resource.spec
    return ScalingOrder(
        queues=tuple(QueueTarget(queue.name, queue.target_latency_seconds) for queue in spec.queues),
        autoscaler=spec.autoscaler,
        overrides=overrides_of(resource),
        concurrency=spec.worker.concurrency,
        processes=spec.worker.processes,
    )
