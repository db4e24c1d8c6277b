"""What the tasks of a memory wait for: whether a worker has anything to do, and when the next thing happens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal

from taskfleet.memory.model import QueueModel
from taskfleet.memory.store import MemoryStore
from taskfleet.options import QueueOptions
from taskfleet.protocol import envelope
from taskfleet.protocol.partitions import queue_of

if TYPE_CHECKING:
    from taskfleet.application import Application

Delays = Literal["none", "retries", "all"]
"""The delays whose time may be passed, besides those of rate limits."""


class Outlook:
    """Reads the queues of one memory by the options of one application. All times are in milliseconds by its clock."""

    def __init__(self, application: Application, store: MemoryStore) -> None:
        self._application = application
        self._store = store

    def is_busy(self, apart: Collection[str] = ()) -> bool:
        """Whether a task runs, or a worker could claim one now. Running tasks `apart` do not count."""
        with self._store.lock:
            now = self._store.now()
            return any(
                _has_work(model, self._application.known_options_of(model.name), now, apart) for model in self._models()
            )

    def runs_only_gathered(self, gathered: int, apart: Collection[str]) -> bool:
        """Whether the running tasks are those `apart` and the number that `gathered` says, and none can be claimed."""
        with self._store.lock:
            leased = {task_id for model in self._models() for task_id in model.leases}
            return len(leased.difference(apart)) == gathered and not self.is_busy(leased)

    def settled(self, ids: Collection[str]) -> bool:
        """Whether none of these tasks is about to run: each has ended, or waits for its delay."""
        with self._store.lock:
            return not any(_is_about_to_run(model, task_id) for model in self._models() for task_id in ids)

    def next_event(self, delays: Delays, until: float | None = None) -> float | None:
        """When the next thing happens that waits for time; `None` when nothing is waited for.

        Without `until`, ticks of schedules are no reason to let time pass: they happen for ever. They do happen on the
        way to something else.
        """
        with self._store.lock:
            now = self._store.now()
            models = [model for model in self._models() if not model.paused]
            starts = [at for model in models if (at := self._next_start(model, now)) is not None]
            due = [at for model in models if (at := model.delayed.first_score()) is not None]
            again = [at for model in models for at in _retries(model)] if delays == "retries" else []
            ticks = [at for at in self._store.ticks() if at > now]
            if until is not None:
                coming = [at for at in (*starts, *due, *ticks) if at <= until]
                return min(coming) if coming else until if until > now else None
            wanted = starts + (due if delays == "all" else again)
            return min([*wanted, *due, *ticks]) if wanted else None

    def waiting(self) -> list[str]:
        """A line for each kind of unfinished task: how many, which, where, and what they wait for."""
        with self._store.lock:
            now = self._store.now()
            kinds: Counter[str] = Counter()
            for model in self._models():
                for task_id, why in self._reasons(model, now):
                    name, _ = envelope.name_of(model.tasks[task_id])
                    kinds[f"{name} in {queue_of(model.name)} ({why})"] += 1
        return [f"{count} {kind}" for kind, count in kinds.most_common()]

    def _models(self) -> list[QueueModel]:
        return list(self._store.models.values())

    def _next_start(self, model: QueueModel, now: int) -> float | None:
        """When a rate limit lets the next task start; `None` when none waits for one."""
        at = [score for score in [model.retry_at.first_score()] if score is not None]
        token = _token_at(model, self._application.known_options_of(model.name), now)
        if _ready(model) and token > now:
            at.append(token)
        return max(min(at), now + 1) if at else None

    def _reasons(self, model: QueueModel, now: int) -> Iterator[tuple[str, str]]:
        parked = {task_id: key for key, some in model.parked.items() for task_id in some}
        for task_id in model.tasks:
            due = model.delayed.score(task_id)
            if task_id in model.leases:
                yield task_id, "running"
            elif due is not None:
                state = "to be retried" if model.history_of(task_id).attempt > 1 else "due"
                yield task_id, f"{state} in {max(0.0, due - now) / 1000:.0f} s"
            elif task_id in model.blocked:
                yield task_id, "waiting for other tasks"
            elif task_id in parked:
                yield task_id, f"waiting for its limit key {parked[task_id]!r}"
            else:
                yield task_id, "its queue is paused" if model.paused else "ready"


def _ready(model: QueueModel) -> int:
    return len(model.ready) - model.counts["removed"] + len(model.fair)


def _has_work(model: QueueModel, options: QueueOptions, now: int, apart: Collection[str]) -> bool:
    """Whether a worker runs, or could claim, a task of this partition."""
    if model.outbox or (len(model.leases) and any(task_id not in apart for task_id in model.leases)):
        return True
    if model.paused:
        return False
    if model.delayed.count_up_to(now) > 0 or model.retry_at.count_up_to(now) > 0:
        return True
    full = options.concurrency is not None and 0 < options.concurrency <= len(model.leases)
    return _ready(model) > 0 and not full and _token_at(model, options, now) <= now


def _token_at(model: QueueModel, options: QueueOptions, now: int) -> float:
    """When the rate limit of the queue has a token."""
    limit = options.rate_limit
    if limit is None or model.tokens is None:
        return now
    tokens = min(limit.burst, model.tokens + max(0, now - model.filled_ms) * limit.tasks_per_second / 1000)
    return now if tokens >= 1 else now + max(1, math.ceil((1 - tokens) * 1000 / limit.tasks_per_second))


def _is_about_to_run(model: QueueModel, task_id: str) -> bool:
    if task_id not in model.tasks or model.paused:
        return False
    delayed = task_id in model.delayed and model.history_of(task_id).attempt == 1
    return not delayed


def _retries(model: QueueModel) -> list[float]:
    return [at for task_id, at in model.delayed.items() if model.history_of(task_id).attempt > 1]
