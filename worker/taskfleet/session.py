"""One event loop's part of a `TaskQueue`: its connections, what waits and what is sent on them, what it runs.

Connections belong to the loop that has opened them. A `TaskQueue` has a session for each loop that uses it, in whatever
thread that runs, and every call finds its own: nothing is handed from one loop to another, and none can take it away.

When a loop ends, so does its session: `asyncio.run` finalises the asynchronous generators of its loop, and one of them
is ours. A process that is forked leaves the sessions of its parent alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from taskfleet import background
from taskfleet.completions import Announcements
from taskfleet.producer import Sending

if TYPE_CHECKING:
    from taskfleet.protocol.broker import Broker
    from taskfleet.queue import TaskQueue
    from taskfleet.runtime.local_workers import LocalWorkers
    from taskfleet.scheduling.scheduler import RunningScheduler

_IDLE_LOOPS = 8
_ELSEWHERE_SECONDS = 5.0  # how long the loop of another thread may take to close its connections


class Session:
    """What one loop has of a `TaskQueue`."""

    def __init__(self, queue: TaskQueue, broker: Broker, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.broker = broker
        self.announcements = Announcements(broker)
        self.sending = Sending(queue, broker)
        self.workers: LocalWorkers | None = None
        self.scheduler: RunningScheduler | None = None
        self._held = 0
        self.let_go: weakref.finalize[Any, Any] | None = None

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """While a worker runs on it, `close()` of a task or of other code on its loop leaves the connections alone."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def disconnect(self) -> None:
        """Close the connections, unless a worker runs on them; the next call opens new ones."""
        if not self._held:
            await self.announcements.close()
            await self.broker.close()


class Sessions:
    """The sessions of one `TaskQueue`, by loop. The first has `broker` itself, each other one its like."""

    def __init__(self, queue: TaskQueue, broker: Broker) -> None:
        self._queue = queue
        self._pattern = broker
        self._pattern_taken = False
        self._by_loop: dict[asyncio.AbstractEventLoop, Session] = {}
        self._last: Session | None = None
        self._making = threading.Lock()
        _everywhere.add(self)

    def __iter__(self) -> Generator[Session]:
        yield from list(self._by_loop.values())

    @property
    def broker(self) -> Broker:
        """Of the running loop; outside of one, the pattern for all, on which nothing must be called."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._pattern
        return self.current().broker

    @property
    def pattern(self) -> Broker:
        return self._pattern

    def current(self) -> Session:
        """Of the running loop."""
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None and last.loop is loop:
            return last
        session = self._by_loop.get(loop)
        if session is None:
            with self._making:
                self._drop_ended()
                session = self._by_loop[loop] = self._new(loop)
        self._last = session
        return session

    def _new(self, loop: asyncio.AbstractEventLoop) -> Session:
        broker, self._pattern_taken = (self._pattern.another() if self._pattern_taken else self._pattern), True
        session = Session(self._queue, broker, loop)
        guard = _until_its_loop_ends(weakref.ref(self), loop, session.broker, session.announcements)
        # Begun, so that the loop knows of it; it comes to its `yield` without waiting for anything.
        with contextlib.suppress(StopIteration):
            guard.__anext__().send(None)
        # What holds the generator must be neither the loop nor the queue: it outlives the one that goes first.
        session.let_go = weakref.finalize(self, _let_go, loop, guard, session.broker, session.announcements)
        session.let_go.atexit = False
        return session

    def _drop_ended(self) -> None:
        """Sessions of loops that were closed without a word to their asynchronous generators, or that nobody may run
        any more: of those only the last ones are kept."""
        idle = [session for session in self if not session.loop.is_running()]
        for session in idle:
            if session.loop.is_closed():
                self.forget(session.loop)
                session.broker.abandon()
        for session in [session for session in idle if not session.loop.is_closed()][:-_IDLE_LOOPS]:
            self.forget(session.loop)

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Its loop has ended."""
        session = self._by_loop.pop(loop, None)
        if session is not None and session.let_go is not None:
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
        """Close the connections of this loop, and those of other loops if asked and as far as it can be done."""
        here = asyncio.get_running_loop()
        for session in self:
            if session.loop is here:
                await session.disconnect()
            elif elsewhere and session.loop.is_running():
                await _on(session.loop, session.disconnect(), _ELSEWHERE_SECONDS)

    def drop(self) -> None:
        """Nobody uses these any more: close everything, soon and from wherever this is called."""
        for session in self:
            if session.let_go is not None:
                session.let_go()
            self.forget(session.loop)

    def leave_to_parent(self) -> None:
        """In a forked child: close the parent's sockets here, and never touch what used them."""
        sessions, self._by_loop, self._last = list(self._by_loop.values()), {}, None
        self._making = threading.Lock()  # another thread of the parent may have held it
        for session in sessions:
            if session.let_go is not None:
                session.let_go.detach()
            for descriptor in session.broker.descriptors():
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            # Its transports believe in their sockets, whose numbers others get now, and its loop in an epoll that is
            # still the parent's: nothing of it may ever be finalised, at the end of the interpreter neither.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


async def _until_its_loop_ends(
    sessions: weakref.ref[Sessions], loop: asyncio.AbstractEventLoop, broker: Broker, announcements: Announcements
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        if (known := sessions()) is not None:
            known.forget(loop)
        await announcements.close()
        await broker.close()


def _let_go(
    loop: asyncio.AbstractEventLoop, guard: AsyncGenerator[None], broker: Broker, announcements: Announcements
) -> None:
    """The queue is no more."""

    async def close() -> None:
        await announcements.close()
        await broker.close()
        with contextlib.suppress(RuntimeError):  # its loop ends just now, and finalises it
            await guard.aclose()

    try:
        loop.call_soon_threadsafe(lambda: background.start(close()))
    except RuntimeError:  # closed
        broker.abandon()


async def _on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], seconds: float | None = None) -> None:
    """Run something on the loop of another thread and wait for it; should that loop end, it has no end of its own."""
    try:
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
    except RuntimeError:  # closed in this moment
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
