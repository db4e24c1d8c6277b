"""One worker as a process: its signals, its probes and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.parent_process import Parent
from taskfleet.process import event_loop, exiting, requests
from taskfleet.queue import TaskQueue
from taskfleet.runtime.worker import Worker

if TYPE_CHECKING:
    from taskfleet.process.figures_pipe import FiguresReport
    from taskfleet.process.metrics import WorkerCollector

logger = showing.logger("taskfleet.worker")

_LEAVE_SECONDS = 15.0  # beyond the grace period, for a process whose parent is gone


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """The options of a process.

    `probe_port` 0 serves no probes. `burst` ends the process when its queues are empty; it runs no scheduler. `name` is
    that of the worker; None makes one. `orphan_seconds` is how long a drain may take after the parent is gone; None
    stands for the grace period and a little more. `figures` is the pipe to a supervisor that shows the figures.
    """

    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    number: int = 0
    probe_host: str = "::"  # all addresses of both families: the kubelet probes from outside the pod
    probe_port: int = 0
    burst: bool = False
    name: str | None = None
    orphan_seconds: float | None = None
    figures: int | None = None


def import_for_children() -> None:
    """Import what a worker imports when it runs, in a process that is about to be forked: its children share it."""
    importlib.import_module("taskfleet.scheduling.scheduler")
    event_loop.loop_class()


def settle_memory() -> None:
    """Keep the garbage collector away from modules that stay loaded, and from tasks that end at once.

    With the default thresholds of the interpreter, a third of a worker's processor time goes into scanning objects that
    reference counting frees a moment later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def patience(queue: TaskQueue) -> float:
    """How long (s) a drain may take after the parent is gone."""
    return queue.settings.workers.shutdown_grace_period + _LEAVE_SECONDS


def run(queue: TaskQueue, options: ProcessOptions, parent: Parent | None = None) -> int:
    """Run one worker in this process until a signal or the parent has drained it; return the exit code.

    The code is 1 when the worker stopped because its handlers cannot be stopped; start another one then. The process
    ends within seconds, even if tasks or threads remain.
    """
    code = event_loop.run(_run(queue, options, parent or Parent()))
    for number in requests.signals():
        signal.signal(number, signal.SIG_IGN)  # the requested drain is complete
    return code


async def _run(queue: TaskQueue, options: ProcessOptions, parent: Parent) -> int:
    worker = Worker(
        queue, queues=options.queues or None, concurrency=options.concurrency, name=options.name, number=options.number
    )
    probes, sender = None, None
    if options.figures is not None:
        from taskfleet.process.figures_pipe import FiguresSender
        from taskfleet.process.metrics import WorkerCollector

        sender = FiguresSender(options.figures, functools.partial(_report, worker, WorkerCollector.of(worker)))
    if options.probe_port:
        # Imported only here: a worker without probes needs neither an HTTP server nor the library of the metrics.
        from taskfleet.process.metrics import WorkerCollector
        from taskfleet.process.probes import ProbeServer

        probes = ProbeServer(worker.health, WorkerCollector.of(worker), options.probe_host, options.probe_port)
    loop = asyncio.get_running_loop()

    asked = requests.Requests(worker.drain, _end_at_once)
    for number in requests.signals():
        loop.add_signal_handler(number, asked.heard, number)
    left_alone = patience(queue) if options.orphan_seconds is None else options.orphan_seconds
    parent.listen(lambda: _call(loop, asked.told), _end_at_once, left_alone)
    if probes is not None:
        probes.start()
    if sender is not None:
        sender.start()
    settle_memory()
    code = 1
    try:
        if queue.settings.scheduler.enabled and not options.burst:
            await queue.start_scheduler()
        watch = None
        if options.burst:
            from taskfleet.process import burst

            watch = asyncio.create_task(burst.end_when_empty(worker))
        try:
            await worker.run()
        finally:
            if watch is not None:
                await end([watch])
        code = 1 if worker.health.unhealthy else 0
    finally:
        exiting.soon(code)
        await queue.close()
        if sender is not None:
            sender.close()
        if probes is not None:
            probes.close()
    if len(worker.stopping):
        exiting.now(code)  # the loop would wait for these handlers
    return code


def _report(worker: Worker, collector: WorkerCollector) -> FiguresReport:
    from taskfleet.process.figures_pipe import FiguresReport

    health = worker.health
    return FiguresReport(
        "" if health.alive else health.why_not_alive() or "not alive",
        "" if health.ready else health.why_not_ready(),
        collector.families(),
    )


def _end_at_once() -> NoReturn:
    # Running tasks keep their leases until these expire; then another worker takes them over. No task is lost.
    logger.warning("second signal: ending at once")
    os._exit(1)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # ignored when the loop is closed, with its work done
        loop.call_soon_threadsafe(function)
