"""The fleet port on one machine: worker processes in place of pods, and a view in place of a status."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet import showing
from taskfleet.errors import BrokerConnectionError, ConfigurationError

from ..autoscaler import ScalingDecision, ScalingState, WorkerSample
from ..scaling.order import ScalingOrder
from ..scaling.port import Look, ScalingRedis
from ..scaling.sampling import Reading, Replicas, registered_of
from .local_workers import LocalWorkers
from .view import Picture, QueueRow, View, WorkerRow

logger = showing.logger("taskfleet.up")

_REFRESH_SECONDS = 1.0  # of the table
_STARTING_REFRESH_SECONDS = 0.2  # no event reports a worker's registration


class ProcessFleet:
    """The worker processes of one plan. Each is ended by name, so that no mark is needed before the number falls."""

    settle_seconds = 0.0

    def __init__(self, title: str, order: ScalingOrder, workers: LocalWorkers, view: View) -> None:
        self._title = title
        self._order = order
        self._workers = workers
        self._view = view
        self._decision: ScalingDecision | None = None

    @property
    def refresh_seconds(self) -> float:
        starting = any(not worker.registered for worker in self._workers.counted().values())
        return _STARTING_REFRESH_SECONDS if starting else _REFRESH_SECONDS

    def order(self) -> ScalingOrder:
        return self._order

    def replicas(self) -> Replicas:
        wanted, counted = self._workers.wanted, self._workers.counted()
        ready = sum(worker.registered for worker in counted.values())
        return Replicas(
            current=wanted,
            ready=ready,
            pending=wanted - ready,
            ages={name: worker.age_seconds for name, worker in counted.items()},
            absent=wanted - len(counted),  # they have crashed and are restarted later
        )

    def initial_state(self, current: int, now: float) -> ScalingState:
        return ScalingState.initial(current, now)

    async def mark(self, name: str) -> bool:
        return True

    async def unmark(self, name: str) -> None: ...

    async def resize(self, replicas: int, removed: Sequence[str], decision: ScalingDecision) -> None:
        self._workers.resize(replicas, removed)

    async def hand_over(self, workers: Sequence[WorkerSample], broker: ScalingRedis) -> bool:
        return False  # `taskfleet up` runs one version

    async def tell(self, look: Look) -> float:
        if look.decision is not None and look.refused is None:
            before = self._decision
            if before is None or look.decision.desired != before.desired or not look.decision.changed:
                self._view.decided(look.decision)
            self._decision = look.decision
        if look.reading is not None and look.workers is not None:
            self._workers.note_registered(registered_of(look.workers, look.order.processes))
            self._view.picture(self._picture(look.reading))
        return float("inf")

    def failed(self, error: Exception) -> None:
        """An application that cannot start ends the fleet, and so does a closed stdout."""
        if isinstance(error, (ConfigurationError, OSError)):
            raise error
        if not isinstance(error, BrokerConnectionError):  # the failed sample has reported it
            logger.error("a look at the queues met an error; the fleet goes on", exc_info=error)

    def _picture(self, reading: Reading) -> Picture:
        known = {name: processes[-1] for name, processes in reading.workers.items()}
        rows: list[WorkerRow] = []
        for worker in self._workers.all.values():
            info = known.get(worker.name)
            state = "draining" if worker.ending else info.state if info else "starting"
            busy = info.busy if info else 0
            rows.append(WorkerRow(worker.name, state, busy, self._order.slots_per_replica, worker.age_seconds))
        queues = [(target.name, reading.stats[target.name]) for target in self._order.queues]
        return Picture(
            title=self._title,
            replicas=self._workers.wanted,
            maximum=self._order.autoscaler.max_replicas,
            queues=[
                QueueRow(
                    name,
                    stats.ready,
                    stats.in_flight,
                    stats.delayed,
                    stats.dead,
                    stats.oldest_age_seconds,
                    stats.finished_total,
                )
                for name, stats in queues
            ],
            workers=rows,
            decision=self._decision,
        )
