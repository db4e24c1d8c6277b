"""A worker as a process: signals, probes, several processes under one parent."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taskfleet import showing
from taskfleet.errors import ConfigurationError
from taskfleet.queue import TaskQueue
from taskfleet.runtime import event_loop, exiting
from taskfleet.runtime.probes import ProbeServer
from taskfleet.runtime.worker import Worker

logger = showing.logger("taskfleet.worker")

_PR_SET_PDEATHSIG = 1
_STABLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """`probe_port` 0 serves no probes. Process n of several serves them on `probe_port` + n."""

    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    number: int = 0
    probe_host: str = "0.0.0.0"  # noqa: S104 - the kubelet probes from outside the pod
    probe_port: int = 0


def settle_memory() -> None:
    """Keep the garbage collector away from what is loaded for good, and from tasks that end at once.

    With the interpreter's own thresholds a third of a worker's processor time goes into looking at objects that
    reference counting frees a moment later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def run(queue: TaskQueue, options: ProcessOptions) -> int:
    """Run one worker in this process until SIGTERM or SIGINT has drained it; returns the exit code.

    It is 1 when the worker has left of its own accord, for handlers that cannot be stopped: start another. The process
    ends within seconds of it, whatever is left in it.
    """
    return event_loop.run(_run(queue, options))


async def _run(queue: TaskQueue, options: ProcessOptions) -> int:
    worker = Worker(queue, queues=options.queues or None, concurrency=options.concurrency, number=options.number)
    probes = ProbeServer(worker, options.probe_host, options.probe_port) if options.probe_port else None
    loop = asyncio.get_running_loop()

    asked = False

    def asked_to_end() -> None:
        nonlocal asked
        if asked:
            # What still runs keeps its lease until that ends; another worker then takes over. Nothing is lost.
            logger.warning("second signal: ending at once")
            os._exit(1)
        asked = True
        worker.drain()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end)
    if probes is not None:
        probes.start()
    settle_memory()
    code = 1
    try:
        if queue.settings.scheduler.enabled:
            await queue.start_scheduler()
        await worker.run()
        code = 1 if worker.unhealthy else 0
    finally:
        exiting.soon(code)
        await queue.close()
        if probes is not None:
            probes.close()
    if len(worker.stopping):
        exiting.now(code)  # the loop would wait for them
    return code


def supervise(command: Callable[[int], Sequence[str]], processes: int) -> int:
    """Keep `processes` children of `command(n)` running until a signal has drained them all.

    A child that dies is started again, later and later when it dies early. Returns 0, or 1 when a child had to be
    ended by a second signal.
    """
    children: dict[int, subprocess.Popen[bytes]] = {}
    started: dict[int, float] = {}
    retry_at = dict.fromkeys(range(processes), 0.0)
    failures = dict.fromkeys(range(processes), 0)
    ending = False

    def forward(number: int, _frame: object) -> None:
        nonlocal ending
        ending = True
        for child in children.values():
            if child.poll() is None:
                child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    status = 0
    while True:
        now = time.monotonic()
        for n in range(processes):
            child = children.get(n)
            if child is not None and child.poll() is not None:
                code = children.pop(n).returncode
                if ending:
                    status = status or (1 if code else 0)
                    continue
                failures[n] = 0 if now - started[n] > _STABLE_SECONDS else failures[n] + 1
                delay = min(30.0, 0.5 * 2.0 ** failures[n])
                logger.warning("worker process %d ended with %d; started again in %.1f s", n, code, delay)
                retry_at[n] = now + delay
            if n not in children and not ending and now >= retry_at[n]:
                children[n] = subprocess.Popen(command(n), preexec_fn=_end_with_parent)
                started[n] = now
        if ending and not children:
            return status
        time.sleep(0.1)


def _end_with_parent() -> None:
    # A parent that is killed with -9 can tell nobody: the kernel tells its children, who drain.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def load_app(path: str) -> TaskQueue:
    """The `TaskQueue` at `module:attribute`; `ConfigurationError` says which part of it is wrong."""
    import importlib

    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigurationError(f"APP {path!r}: write module:attribute, such as shop.tasks:queue")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ConfigurationError(
                f"APP {path!r}: there is no module {error.name!r} on the path; run this where it can be imported, "
                "or set PYTHONPATH"
            ) from None
        raise ConfigurationError(f"APP {path!r}: importing it failed: no module {error.name!r}") from error
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"APP {path!r}: importing it failed: {type(error).__name__}: {error}") from error
    queue = getattr(module, attribute, None)
    if queue is None:
        raise ConfigurationError(f"APP {path!r}: module {module_name!r} has no {attribute!r}")
    if not isinstance(queue, TaskQueue):
        raise ConfigurationError(f"APP {path!r}: {attribute!r} is a {type(queue).__name__}, not a TaskQueue")
    return queue
