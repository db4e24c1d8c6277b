"""The facts about a TaskQueue at one moment: its queues, its workers, its replicas, and the user's overrides."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueSample:
    """The figures of one queue in Redis.

    `backlog` is ready and not claimed; `in_flight` is claimed; `parked` waits for its limit key. `due` counts delayed
    and scheduled tasks, ticks of schedules included, that come due within the drain horizon, `due_within_start` those
    that come due before a new pod could run them. `*_total` are counters since the queue's first task: of tasks that
    became ready to run, of runs that ended, and of the time for which tasks ran. Then come the queue's own limits, None
    without one.

    When several TaskQueues serve the queue, the counts and limits are the part of this one. The counters and `parked`
    are always those of the whole queue, of which `share` is this part: a part that changes must not move a counter.
    """

    name: str
    backlog: int
    in_flight: int = 0
    delayed: int = 0
    due: int = 0
    due_within_start: int = 0
    dead: int = 0
    oldest_age_seconds: float = 0.0
    runnable_total: int = 0
    attempts_total: int = 0
    busy_ms_total: int = 0
    parked: int = 0
    target_latency_seconds: float | None = None
    rate_per_second: float | None = None
    concurrency: int | None = None
    rate_per_second_per_key: float | None = None
    concurrency_per_key: int | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class WorkerSample:
    """One pod, or one local process, as a candidate for removal; all its worker processes taken together.

    `processes` counts live worker processes; without one the worker is not `registered`. `busy` counts running tasks;
    `idle_seconds` is how long there have been none; `age_seconds` runs from its creation. `cordoned`: its heartbeat
    reports that it claims no more tasks. `drained`: and that no task is running. `marked`: the platform removes it
    first. `ready`: the platform takes it for one that works; Kubernetes removes others first, whatever their marks.
    `silent`: its heartbeats have stopped while it was busy, and its tasks may still run.
    """

    name: str
    registered: bool
    busy: int = 0
    idle_seconds: float = 0.0
    age_seconds: float = 0.0
    drained: bool = False
    cordoned: bool = False
    marked: bool = False
    processes: int = 0
    ready: bool = True
    silent: bool = False


@dataclass(frozen=True, slots=True)
class ScalingOverrides:
    """`spec.suspend`, `spec.replicas` and the pause annotations, with KEDA's meaning.

    `replicas` is the number while `spec.autoscaler.mode` is Disabled.
    """

    suspend: bool = False
    replicas: int = 1
    paused: bool = False
    paused_replicas: int | None = None
    paused_scale_in: bool = False
    paused_scale_out: bool = False
    force_activation: bool = False


NO_OVERRIDES = ScalingOverrides()


@dataclass(frozen=True, slots=True)
class FleetSample:
    """All facts for one decision.

    `current_replicas` is the requested number (`spec.replicas` of the Deployment); `pending_replicas` are requested and
    not ready. `workers_registered` counts replicas with a heartbeat, `busy_workers` replicas that run a task.
    `oldest_run_seconds` is the age of the run that has taken longest so far, over all workers, 0 when none is known.
    `start_latency_seconds` is the 90th percentile from pod creation to registered worker, None while unknown. `failure`
    is the reason why the queues could not be read; then only the replica counts and the overrides are known.
    """

    queues: tuple[QueueSample, ...]
    workers_registered: int
    busy_workers: int
    current_replicas: int
    ready_replicas: int
    pending_replicas: int = 0
    slots_per_replica: int = 1
    oldest_run_seconds: float = 0.0
    start_latency_seconds: float | None = None
    overrides: ScalingOverrides = NO_OVERRIDES
    failure: str = ""

    @classmethod
    def failed(
        cls, reason: str, current_replicas: int, ready_replicas: int, overrides: ScalingOverrides = NO_OVERRIDES
    ) -> FleetSample:
        """A sample whose queues could not be read, for `reason` (one line)."""
        return cls(
            queues=(),
            workers_registered=0,
            busy_workers=0,
            current_replicas=current_replicas,
            ready_replicas=ready_replicas,
            overrides=overrides,
            failure=reason or "the queues could not be read",
        )

    @property
    def backlog(self) -> int:
        return sum(queue.backlog for queue in self.queues)

    @property
    def in_flight(self) -> int:
        return sum(queue.in_flight for queue in self.queues)

    @property
    def due_within_start(self) -> int:
        return sum(queue.due_within_start for queue in self.queues)

    @property
    def has_free_slots(self) -> bool:
        """Whether a worker could start another task at once."""
        return self.in_flight < self.workers_registered * self.slots_per_replica
