"""Which workers go when there are too many. A busy one is never chosen."""

from __future__ import annotations

from collections.abc import Iterable

from .sample import WorkerSample


def choose_victims(workers: Iterable[WorkerSample], count: int) -> tuple[WorkerSample, ...]:
    """At most `count` workers to cordon: those that do not work yet first, then the longest idle, then the newest.

    The choice only says where to begin. A task may be claimed between the sample and the cordon, so a victim goes only
    after it says itself that it is drained.
    """
    idle = [worker for worker in workers if not worker.busy]
    idle.sort(key=lambda worker: (worker.registered, -worker.idle_seconds, worker.age_seconds, worker.name))
    return tuple(idle[: max(0, count)])
