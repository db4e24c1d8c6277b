"""The local workers as a fleet: as many as asked for, and never a busy one taken away."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from taskfleet.errors import ConfigurationError
from taskfleet.redis.broker import RedisBroker

from ..autoscaler import choose_victims
from ..sampling import Reading, Replicas, candidates, percentile, workers_of
from .plan import LocalPlan
from .worker_process import LocalWorker

_CORDON_SECONDS = 600.0
_LATENCIES_KEPT = 20
_LONGEST_BACKOFF_SECONDS = 30.0
_USAGE_EXIT = 2


class LocalFleet:
    """Worker processes that come and go as `scale` says.

    Fewer is done as in the cluster: cordon idle ones, wait until they say that they are drained, then SIGTERM.
    """

    def __init__(self, plan: LocalPlan, broker: RedisBroker, redis_url: str, folder: Path) -> None:
        self.plan = plan
        self.workers: dict[str, LocalWorker] = {}
        self.replicas = 0
        self.on_line: Callable[[str, str], None] = lambda _name, _line: None
        self.on_event: Callable[[str], None] = lambda _text: None
        self._broker = broker
        self._redis_url = redis_url
        self._folder = folder
        self._tag = secrets.token_hex(3)  # another fleet of this name, on one Redis, has workers of its own
        self._serial = 0
        self._latencies: list[float] = []
        self._crashes = 0
        self._retry_at = 0.0

    @property
    def start_latency_seconds(self) -> float | None:
        """The 90th percentile from a process's start to its first heartbeat."""
        return percentile(self._latencies)

    @property
    def leaving(self) -> list[LocalWorker]:
        """Workers that empty themselves and still count."""
        return [worker for worker in self._counted() if worker.cordoned is not None]

    def counts(self) -> Replicas:
        ready = sum(worker.registered is not None for worker in self._counted())
        return Replicas(self.replicas, ready, self.replicas - ready, frozenset(self.workers))

    async def scale(self, desired: int, reading: Reading, *, drain_busy: bool) -> None:
        """Move towards `desired` workers. Demand that returns first takes back those that were about to leave."""
        staying = self.replicas - len(self.leaving)
        if desired > staying:
            for worker in sorted(self.leaving, key=lambda one: one.cordoned or 0.0, reverse=True)[: desired - staying]:
                await self._uncordon(worker)
            self.replicas = max(self.replicas, desired)
            self._fill()
        elif desired < staying:
            missing = self.replicas - len(self._counted())
            dropped = min(missing, staying - desired)  # those that crashed and were not started again yet
            self.replicas -= dropped
            await self._cordon(staying - desired - dropped, reading, drain_busy=drain_busy)

    async def tend(self, reading: Reading | None) -> None:
        """Notice what has changed: registered, drained, ended, crashed. Called a few times each second."""
        self._reap()
        if reading is not None:
            live = workers_of(reading, frozenset(self.workers))
            for name, processes in live.items():
                worker = self.workers[name]
                if worker.registered is None and len(processes) >= self.plan.processes:
                    worker.registered = time.monotonic()
                    self._crashes = 0
                    self._latencies = [*self._latencies[1 - _LATENCIES_KEPT :], worker.age_seconds]
                if worker.cordoned is not None and all(process.state == "drained" for process in processes):
                    self._retire(worker)
            for worker in self.leaving:
                if time.monotonic() - (worker.cordoned or 0.0) > self._patience():
                    await self._uncordon(worker)  # still busy: another time
        self._fill()

    def terminate(self) -> None:
        """Ask every worker to finish what it runs and to end."""
        self.replicas = 0
        for worker in self.workers.values():
            worker.terminate()

    def kill(self) -> None:
        for worker in self.workers.values():
            worker.kill()

    def reap(self) -> bool:
        """Take note of ended workers; whether any is left."""
        self._reap()
        return bool(self.workers)

    def _counted(self) -> list[LocalWorker]:
        return [worker for worker in self.workers.values() if not worker.ending and worker.returncode is None]

    def _patience(self) -> float:
        return float(self.plan.autoscaler.scale_down.drain_timeout_seconds)

    def _fill(self) -> None:
        while len(self._counted()) < self.replicas and time.monotonic() >= self._retry_at:
            self._serial += 1
            name = f"{self.plan.name}-worker-{self._tag}-{self._serial}"
            self.workers[name] = LocalWorker(name, self.plan, self._redis_url, self._folder)

    async def _cordon(self, count: int, reading: Reading, *, drain_busy: bool) -> None:
        ages = {worker.name: worker.age_seconds for worker in self._counted() if worker.cordoned is None}
        for victim in choose_victims(candidates(reading, ages), count, drain_busy=drain_busy):
            worker = self.workers[victim.name]
            await self._broker.cordon(victim.name, ttl_seconds=max(_CORDON_SECONDS, self._patience()))
            worker.cordoned = time.monotonic()
            if not victim.registered and worker.registered is None:
                self._retire(worker)  # it has not begun

    async def _uncordon(self, worker: LocalWorker) -> None:
        await self._broker.uncordon(worker.name)
        worker.cordoned = None

    def _retire(self, worker: LocalWorker) -> None:
        if not worker.ending:
            self.replicas -= 1
            worker.terminate()

    def _reap(self) -> None:
        for worker in list(self.workers.values()):
            ended = worker.returncode is not None  # asked first: what it wrote before it ended is read below
            for line in worker.lines():
                self.on_line(worker.name, line)
            if not ended:
                continue
            del self.workers[worker.name]
            worker.close()
            if not worker.ending:
                self._crashed(worker)

    def _crashed(self, worker: LocalWorker) -> None:
        words = worker.last_lines[-1] if worker.last_lines else "it said nothing"
        if worker.registered is None and worker.returncode == _USAGE_EXIT:
            raise ConfigurationError(f"the workers cannot start: {words.removeprefix('taskfleet: ')}")
        if worker.cordoned is not None:
            self.replicas -= 1
            return
        self._crashes += 1
        delay = min(_LONGEST_BACKOFF_SECONDS, 0.5 * 2.0**self._crashes)
        self._retry_at = time.monotonic() + delay
        self.on_event(f"{worker.name} ended with {worker.returncode}; another starts in {delay:.0f} s: {words}")
