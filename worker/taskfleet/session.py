"""A session: the broker, the producer and the completions of one event loop, and the workers that run on it.

Connections belong to the loop that has opened them. A `TaskQueue` has a session for each loop that uses it, in any
thread, and every call finds the session of its loop. No connection moves from one loop to another.

When a loop ends, its session ends: `asyncio.run` finalises the asynchronous generators of its loop, and each session
has started one. A forked process leaves the sessions of its parent alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from taskfleet.application import Application
from taskfleet.completions import Completions
from taskfleet.handles import HandleFactory, TaskHandle
from taskfleet.keeping import never_finalise
from taskfleet.options import QueueOptions
from taskfleet.producer.producer import Producer
from taskfleet.protocol.sealing import Seal

if TYPE_CHECKING:
    # A port needs no class when the program runs.
    from taskfleet.protocol.broker import Broker, Renewer

_IDLE_LOOPS = 8
_ELSEWHERE_SECONDS = 5.0  # how long the loop of another thread may take to close its connections


class LoopScheduler(Protocol):
    """The scheduler that runs on one loop (`scheduling.scheduler`)."""

    async def stop(self) -> None: ...


class LoopWorkers(Protocol):
    """The workers that run on one loop (`runtime.embedded_workers`)."""

    on_failure: Callable[[BaseException], None] | None

    def start(self, count: int, queues: Sequence[str] | None) -> None: ...

    def retire(self, count: int) -> None: ...

    async def stop(self) -> None: ...

    @property
    def active(self) -> int:
        """The number of workers that claim tasks."""
        ...

    @property
    def busy(self) -> int:
        """The number of slots of these workers that are in use."""
        ...

    @property
    def slots(self) -> int:
        """The number of slots of these workers."""
        ...

    def __len__(self) -> int: ...


ProducerFactory: TypeAlias = "Callable[[Application, Broker, HandleFactory], Producer]"


class Session:
    """The part of one event loop: its broker, its producer, its completions, and the workers that run on it."""

    def __init__(
        self,
        pattern: Broker,
        broker: Broker,
        loop: asyncio.AbstractEventLoop,
        application: Application,
        handle: HandleFactory,
        producer: ProducerFactory = Producer,
    ) -> None:
        self.loop = loop
        self.pattern = pattern  # the broker itself, or the one it was made from
        self.broker = broker
        self.completions = Completions(broker)
        self.producer = producer(application, broker, handle)
        self.workers: LoopWorkers | None = None
        self.scheduler: LoopScheduler | None = None
        self._held = 0
        self.let_go: weakref.finalize[Any, Any] | None = None

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Marks that a worker runs on this session: inside the block `close()` leaves the connections open."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def disconnect(self) -> None:
        """Close the connections, unless a worker uses them; the next call opens new ones."""
        if not self._held:
            await self.completions.close()
            await self.broker.close()


class Sessions:
    """The sessions of one `TaskQueue`, by loop. The first has `broker` itself, the others have brokers made from it."""

    def __init__(self, application: Application, broker: Broker) -> None:
        self._application = application
        self._handle: HandleFactory = functools.partial(TaskHandle, self)
        self._pattern = broker
        self._new_producer: ProducerFactory = Producer
        self._by_broker_and_loop: dict[tuple[Broker, asyncio.AbstractEventLoop], Session] = {}
        self._taken: set[Broker] = set()  # brokers that a session has
        self._last: Session | None = None
        self._making = threading.Lock()
        broker.seal = application.seal
        _everywhere.add(self)

    def __iter__(self) -> Generator[Session]:
        yield from [session for session in list(self._by_broker_and_loop.values()) if session.pattern is self._pattern]

    @property
    def url(self) -> str:
        """The address of the queues."""
        return self._pattern.url

    @property
    def seal(self) -> Seal:
        return self._application.seal

    def known_options_of(self, name: str) -> QueueOptions:
        """The options of a queue, as far as this program knows them."""
        return self._application.known_options_of(name)

    def max_retries_of(self, task: str) -> int | None:
        """The option of a task; `None` for a task that this program does not know."""
        definition = self._application.find_task(task)
        return definition.options.max_retries if definition is not None else None

    @property
    def broker(self) -> Broker:
        """The broker of the running loop. Outside of a loop it can tell the names of keys, and must not be called."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._pattern
        return self.current().broker

    @property
    def completions(self) -> Completions:
        """The completions that the running loop waits for."""
        return self.current().completions

    def new_broker(self) -> Broker:
        """A broker with separate connections."""
        return self._pattern.another()

    def new_renewer(self) -> Renewer:
        """The calls of a worker's lease thread, with separate connections."""
        return self._pattern.renewer()

    def current(self) -> Session:
        """The session of the running loop."""
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None and last.loop is loop:
            return last
        session = self._by_broker_and_loop.get((self._pattern, loop))
        if session is None:
            with self._making:
                self._drop_ended()
                session = self._by_broker_and_loop[self._pattern, loop] = self._new(loop)
        self._last = session
        return session

    def _new(self, loop: asyncio.AbstractEventLoop) -> Session:
        pattern = self._pattern
        taken = pattern in self._taken
        self._taken.add(pattern)
        broker = pattern.another() if taken else pattern
        session = Session(pattern, broker, loop, self._application, self._handle, self._new_producer)
        guard = _until_its_loop_ends(weakref.ref(self), pattern, loop, session.broker, session.completions)
        # One step, so that the loop knows the generator. It reaches its `yield` without waiting.
        with contextlib.suppress(StopIteration):
            guard.__anext__().send(None)
        # The finalizer holds the generator. Neither the loop nor the TaskQueue may hold it, since either can be dropped
        # first.
        session.let_go = weakref.finalize(self, _let_go, loop, guard, session.broker, session.completions)
        session.let_go.atexit = False
        return session

    def _drop_ended(self) -> None:
        """Drop sessions of loops that were closed without finalising their asynchronous generators.

        Of the loops that do not run, and may never run again, only the last `_IDLE_LOOPS` keep their sessions.
        """
        idle = [session for session in self if not session.loop.is_running()]
        for session in idle:
            if session.loop.is_closed():
                self._forget(session)
                session.broker.abandon()
        for session in [session for session in idle if not session.loop.is_closed()][:-_IDLE_LOOPS]:
            self._forget(session)

    def loop_has_ended(self, pattern: Broker, loop: asyncio.AbstractEventLoop) -> None:
        if (session := self._by_broker_and_loop.get((pattern, loop))) is not None:
            self._forget(session)

    def _forget(self, session: Session) -> None:
        self._by_broker_and_loop.pop((session.pattern, session.loop), None)
        if session.let_go is not None:
            session.let_go.detach()
        if self._last is session:
            self._last = None

    async def stop_workers(self, *, everywhere: bool) -> None:
        """Drain the workers of this loop, or of all loops."""
        here = asyncio.get_running_loop()
        for session in self:
            if session.workers is None:
                continue
            if session.loop is here:
                await session.workers.stop()
            elif everywhere and session.loop.is_running():
                await _on(session.loop, session.workers.stop())

    async def disconnect(self, *, elsewhere: bool) -> None:
        """Close the connections of this loop; with `elsewhere` also those of other running loops."""
        here = asyncio.get_running_loop()
        for session in self:
            if session.loop is here:
                await session.disconnect()
            elif elsewhere and session.loop.is_running():
                await _on(session.loop, session.disconnect(), _ELSEWHERE_SECONDS)

    @contextlib.contextmanager
    def on(self, broker: Broker, new_producer: ProducerFactory = Producer) -> Generator[None]:
        """Inside the `with` block all calls go to `broker`, in sessions that are closed afterwards."""
        before, self._pattern, self._last = self._pattern, broker, None
        producer_before, self._new_producer = self._new_producer, new_producer
        broker.seal = self._application.seal
        try:
            yield
        finally:
            for session in self:
                if session.let_go is not None:
                    session.let_go()  # closes the connections soon, also from another thread
                self._forget(session)
            self._taken.discard(broker)
            self._pattern, self._last, self._new_producer = before, None, producer_before

    def leave_to_parent(self) -> None:
        """In a forked child: close the inherited sockets, and never touch the objects that used them."""
        sessions, self._last = list(self._by_broker_and_loop.values()), None
        self._by_broker_and_loop = {}
        self._making = threading.Lock()  # another thread of the parent may have held it
        for session in sessions:
            if session.let_go is not None:
                session.let_go.detach()
            for descriptor in session.broker.descriptors():
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            # The transports still hold the numbers of their sockets, which new files of the child now get, and the loop
            # holds the epoll of the parent. None of these objects may ever be finalised, not even at exit.
            never_finalise(session)


async def _until_its_loop_ends(
    sessions: weakref.ref[Sessions],
    pattern: Broker,
    loop: asyncio.AbstractEventLoop,
    broker: Broker,
    completions: Completions,
) -> AsyncGenerator[None, bool]:
    is_closed = False
    try:
        is_closed = yield
    finally:
        if not is_closed:
            if (known := sessions()) is not None:
                known.loop_has_ended(pattern, loop)
            await completions.close()
            await broker.close()


def _let_go(
    loop: asyncio.AbstractEventLoop, guard: AsyncGenerator[None, bool], broker: Broker, completions: Completions
) -> None:
    """The `TaskQueue` was dropped: close the connections on their loop.

    All at once, since this may be one of the last turns of the loop: it ends without the rest of a task.
    """

    def close() -> None:
        completions.abandon()
        broker.abandon()
        with contextlib.suppress(StopAsyncIteration, RuntimeError):  # or the loop ends, and finalises the generator
            guard.asend(True).send(None)

    try:
        loop.call_soon_threadsafe(close, context=contextvars.Context())
    except RuntimeError:  # closed
        broker.abandon()


async def _on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], seconds: float | None = None) -> None:
    """Run a coroutine on the loop of another thread and wait for it, at most `seconds`, while that loop runs."""
    try:
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
    except RuntimeError:  # the loop was closed in the meantime
        work.close()
        return
    until = asyncio.get_running_loop().time() + seconds if seconds is not None else float("inf")
    while not future.done() and loop.is_running() and asyncio.get_running_loop().time() < until:
        await asyncio.wait([future], timeout=0.5)
    if future.done() and not future.cancelled():
        future.exception()


_everywhere: weakref.WeakSet[Sessions] = weakref.WeakSet()


def _after_fork() -> None:
    for sessions in list(_everywhere):
        sessions.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
