"""The Python side of a peer's program: JSON lines in, JSON lines out, and a tally of its tasks.

It runs inside the environments of the peers, so it needs nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Request = dict[str, Any]
Reply = dict[str, Any]

_TRACED_SECONDS = 0.01  # how long a traced task takes: long enough to be caught in the middle


def now() -> float:
    """Microseconds of the machine's monotonic clock: all processes of a run share it."""
    return time.monotonic_ns() / 1e3


def say(message: Reply) -> None:
    print(json.dumps(message), flush=True)


class Tally:
    """The tasks of one measurement. Times are microseconds.

    `note` is for tasks that run on one thread; `note_safely` for those of a thread pool.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.expect(0, lambda: None)

    def expect(self, tasks: int, on_finish: Callable[[], None], *, shared: bool = False) -> None:
        """`shared`: other workers take some of the tasks too, so that any of them may be our last."""
        self.asked = self.left = tasks
        self.shared = shared
        self.began = self.ended = 0.0
        self.latencies: list[float] = []
        self._on_finish = on_finish

    def begin(self) -> None:
        if not self.began:
            self.began = now()

    def note(self, at: float = 0.0) -> None:
        """One task, from its start to its end. `at`: when it was sent or due, 0 if that is not asked."""
        if self.left <= 0:
            return  # beyond the number that is counted
        if not self.began:
            self.began = now()
        if at > 0:
            self.latencies.append(now() - at)
        self.left -= 1
        if self.shared or self.left == 0:
            self.ended = now()
        if self.left == 0:
            self._on_finish()

    def note_safely(self, at: float = 0.0) -> None:
        with self._lock:
            self.note(at)

    def reply(self) -> Reply:
        return {
            "tasks": self.asked - self.left,
            "seconds": (self.ended - self.began) / 1e6,
            "began_us": self.began,
            "ended_us": self.ended,
            "latencies_us": self.latencies,
        }


tally = Tally()

RESULTS = os.environ.get("BENCH_RESULTS") == "1"
"""Whether results are kept, for the scenario in which callers wait for them."""


class Trace:
    """Which tasks began and ended, in a file that outlives a killed process: `b INDEX PID µs`, `e INDEX PID µs`."""

    def __init__(self) -> None:
        self._file: int | None = None

    def write(self, what: str, index: float) -> None:
        if self._file is None:
            self._file = os.open(os.environ["BENCH_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._file, f"{what} {int(index)} {os.getpid()} {now():.0f}\n".encode("ascii"))


_trace = Trace()


# The tasks of asyncio peers.


async def sleep_task(seconds: float) -> None:
    tally.begin()
    await asyncio.sleep(seconds)
    tally.note()


def echo_task(at: float) -> float:
    """Its result is what the caller waits for."""
    tally.note(at)
    return at


async def traced_task(index: float) -> None:
    _trace.write("b", index)
    await asyncio.sleep(_TRACED_SECONDS)
    _trace.write("e", index)
    tally.note()


def arguments_of(request: Request) -> list[float]:
    first, step = request.get("first", 0.0), request.get("step", 0.0)
    return [first + step * i for i in range(request["tasks"])]


class AsyncPeer(ABC):
    """A queue that lives on an event loop. Its tasks are called `noop`, `sleep` and `traced`, each of one number."""

    version: str
    runtime = f"Python {platform.python_version()}"

    async def open(self, role: str) -> None:  # noqa: B027 - not every peer has something to do
        """Connect, and do everything else that a process of this role does once."""

    async def close(self) -> None:  # noqa: B027
        """Let go of connections."""

    @abstractmethod
    def sender(self, task: str) -> Callable[[float], Awaitable[Any]]:
        """Send one task, with the call that an application would use."""

    async def send_many(self, task: str, arguments: Sequence[float]) -> None:
        raise NotImplementedError("it has no bulk enqueue")

    async def send_later(self, at: float, seconds: float) -> None:
        """Send a no-op of argument `at` that becomes due in `seconds`."""
        raise NotImplementedError("it has no delayed tasks here")

    async def send_keyed(self, key: str, arguments: Sequence[float]) -> None:
        """Send no-ops under a fairness key; an empty key is none."""
        raise NotImplementedError("it has no fairness keys")

    async def call(self, at: float) -> Any:
        """Send an `echo` and wait for its result, with the calls that an application would use."""
        raise NotImplementedError("nobody can wait for its results")

    async def counts(self) -> Reply:
        """`ready`, `in_flight` and `lease_seconds` of the queue."""
        raise NotImplementedError("it is not asked for counts")

    @abstractmethod
    async def consume(self, slots: int, finished: asyncio.Event) -> None:
        """Run a worker in this process until `finished`, then stop it."""

    # The requests of bench/README.md.

    async def enqueue(self, request: Request) -> Reply:
        send = self.sender(request.get("task", "noop"))
        left = request["tasks"]

        async def one() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await send(request.get("first", 0.0))

        began = now()
        await asyncio.gather(*(one() for _ in range(request["producers"])))
        return {"tasks": request["tasks"], "seconds": (now() - began) / 1e6}

    async def enqueue_bulk(self, request: Request) -> Reply:
        arguments = arguments_of(request)
        began = now()
        await self.send_many(request.get("task", "noop"), arguments)
        return {"tasks": request["tasks"], "seconds": (now() - began) / 1e6}

    async def enqueue_paced(self, request: Request) -> Reply:
        send = self.sender("noop")
        for _ in range(request["tasks"]):
            await send(now())
            await asyncio.sleep(request["interval_ms"] / 1e3)
        return {"tasks": request["tasks"]}

    async def call_paced(self, request: Request) -> Reply:
        latencies: list[float] = []
        for _ in range(request["tasks"]):
            began = now()
            if await self.call(began) != began:
                raise ValueError("the result is not what the task has returned")
            latencies.append(now() - began)
            await asyncio.sleep(request["interval_ms"] / 1e3)
        return {"tasks": request["tasks"], "latencies_us": latencies}

    async def enqueue_delayed(self, request: Request) -> Reply:
        tasks, start = request["tasks"], now() + request["lead_ms"] * 1e3
        step = request["spread_ms"] * 1e3 / tasks
        order = iter(range(tasks))

        async def one() -> None:
            for i in order:
                at = start + i * step
                await self.send_later(at, (at - now()) / 1e6)

        await asyncio.gather(*(one() for _ in range(request["producers"])))
        return {"tasks": tasks, "spare_ms": (start - now()) / 1e3}

    async def enqueue_keyed(self, request: Request) -> Reply:
        for key, tasks, at in request["keys"]:
            await self.send_keyed(key, [at] * tasks)
        return {}

    async def work(self, request: Request) -> Reply:
        finished = asyncio.Event()
        idle_ms = request.get("idle_ms", 0)
        tally.expect(request["tasks"], finished.set, shared=idle_ms > 0)
        running = asyncio.create_task(self.consume(request["slots"], finished))
        await asyncio.sleep(0)
        say({"event": "consuming"})
        while idle_ms and not finished.is_set():
            left = tally.left
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(finished.wait(), idle_ms / 1e3)
            if tally.left == left:
                finished.set()  # the other workers have the rest
        await running
        return tally.reply()


_PRODUCES = ("enqueue", "enqueue_bulk", "enqueue_paced", "call_paced", "enqueue_delayed", "enqueue_keyed", "counts")


async def serve(peer: AsyncPeer, role: str) -> None:
    """Answer requests until standard input is closed."""
    await peer.open(role)
    say({"event": "ready", "version": peer.version, "runtime": peer.runtime})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        op = request["op"]
        try:
            if op not in (("work",) if role == "worker" else _PRODUCES):
                raise ValueError(f"a {role} has no operation {op!r}")
            answer = await (peer.counts() if op == "counts" else getattr(peer, op)(request))
        except Exception as error:
            say({"event": "error", "error": f"{type(error).__name__}: {error}"})
        else:
            say({"event": "done", **answer})
    await peer.close()


class ThreadPeer(ABC):
    """A queue without an event loop: producers are threads, and its worker runs on the main thread or its own."""

    version: str
    runtime = f"Python {platform.python_version()}"

    def open(self, role: str) -> None:  # noqa: B027 - not every peer has something to do
        """Connect, and do everything else that a process of this role does once."""

    @abstractmethod
    def send(self, at: float) -> None:
        """Send one no-op."""

    def send_many(self, arguments: Sequence[float]) -> None:
        raise NotImplementedError("it has no bulk enqueue")

    def call(self, at: float) -> Any:
        """Send an `echo` and wait for its result, with the calls that an application would use."""
        raise NotImplementedError("nobody can wait for its results")

    def send_later(self, at: float, seconds: float) -> None:
        raise NotImplementedError("it has no delayed tasks here")

    @abstractmethod
    def consume(self, slots: int, tasks: int, finished: threading.Event) -> None:
        """Run a worker in this process until `finished`, then stop it."""

    def enqueue(self, request: Request) -> Reply:
        arguments = iter([0.0] * request["tasks"])
        began = now()
        self._in_threads(request["producers"], arguments, self.send)
        return {"tasks": request["tasks"], "seconds": (now() - began) / 1e6}

    def enqueue_bulk(self, request: Request) -> Reply:
        arguments = arguments_of(request)
        began = now()
        self.send_many(arguments)
        return {"tasks": request["tasks"], "seconds": (now() - began) / 1e6}

    def enqueue_paced(self, request: Request) -> Reply:
        for _ in range(request["tasks"]):
            self.send(now())
            time.sleep(request["interval_ms"] / 1e3)
        return {"tasks": request["tasks"]}

    def call_paced(self, request: Request) -> Reply:
        latencies: list[float] = []
        for _ in range(request["tasks"]):
            began = now()
            if self.call(began) != began:
                raise ValueError("the result is not what the task has returned")
            latencies.append(now() - began)
            time.sleep(request["interval_ms"] / 1e3)
        return {"tasks": request["tasks"], "latencies_us": latencies}

    def enqueue_delayed(self, request: Request) -> Reply:
        tasks, start = request["tasks"], now() + request["lead_ms"] * 1e3
        step = request["spread_ms"] * 1e3 / tasks
        moments = iter([start + i * step for i in range(tasks)])
        self._in_threads(request["producers"], moments, lambda at: self.send_later(at, (at - now()) / 1e6))
        return {"tasks": tasks, "spare_ms": (start - now()) / 1e3}

    def work(self, request: Request) -> Reply:
        finished = threading.Event()
        idle_ms = request.get("idle_ms", 0)
        tally.expect(request["tasks"], finished.set, shared=idle_ms > 0)
        say({"event": "consuming"})
        if idle_ms:
            threading.Thread(target=self._end_when_idle, args=(idle_ms, finished), daemon=True).start()
        self.consume(request["slots"], request["tasks"], finished)
        return tally.reply()

    @staticmethod
    def _end_when_idle(idle_ms: float, finished: threading.Event) -> None:
        while not finished.is_set():
            left = tally.left
            finished.wait(idle_ms / 1e3)
            if tally.left == left:
                finished.set()

    @staticmethod
    def _in_threads(count: int, arguments: Any, send: Callable[[float], None]) -> None:
        failures: list[BaseException] = []

        def one() -> None:
            try:
                for argument in arguments:  # an iterator of a list gives each item to one thread
                    send(argument)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


def serve_threads(peer: ThreadPeer, role: str) -> None:
    """Answer requests until standard input is closed; `work` has the main thread, as signal handlers want."""
    peer.open(role)
    say({"event": "ready", "version": peer.version, "runtime": peer.runtime})
    for line in sys.stdin:
        request = json.loads(line)
        op = request["op"]
        try:
            if op not in (("work",) if role == "worker" else _PRODUCES):
                raise ValueError(f"a {role} has no operation {op!r}")
            answer = getattr(peer, op)(request)
        except Exception as error:
            say({"event": "error", "error": f"{type(error).__name__}: {error}"})
        else:
            say({"event": "done", **answer})
