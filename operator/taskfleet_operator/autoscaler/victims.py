"""The choice of workers to remove. A busy worker is not chosen, or only drained."""

from __future__ import annotations

from collections.abc import Iterable

from .sample import WorkerSample


def choose_victims(
    workers: Iterable[WorkerSample], count: int, *, drain_busy: bool = False
) -> tuple[WorkerSample, ...]:
    """At most `count` workers to cordon: first those without a heartbeat, then those that are not ready, since
    Kubernetes removes these first anyway, then the longest idle, then the newest.

    A worker may claim a task between the sample and the cordon, so a chosen worker is removed only after it reports
    that it is drained. With `drain_busy`, for a suspended queue or a lowered maximum, busy workers come last: they
    claim no more tasks and are removed when they are done. Otherwise a fleet that is always busy would never shrink.
    """
    chosen = sorted(
        (worker for worker in workers if drain_busy or not worker.busy),
        key=lambda worker: (
            worker.busy > 0, worker.registered, worker.ready, worker.busy, -worker.idle_seconds, worker.age_seconds,
            worker.name,
        ),
    )  # fmt: skip
    return tuple(chosen[: max(0, count)])
