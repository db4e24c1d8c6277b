"""The process executor: it runs plain functions in child processes, which a timeout can kill at any point.

A child runs one task at a time and has its own socket, so that killing it cannot harm another task. It is a fresh
interpreter and not a fork: it has no sockets, threads or other state of the worker. No child starts before the first
call. A child that has ended is replaced when a task needs one, and a child that stays idle for a while ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskfleet import background, showing, tracing
from taskfleet.cancellation import end
from taskfleet.context import WORKER
from taskfleet.errors import PayloadTooLargeError, SerializationError
from taskfleet.protocol import call_settings, envelope, result_record
from taskfleet.runtime.executors import import_path
from taskfleet.runtime.executors.process_frames import (
    DROP_RESULT,
    KEEP_RESULT,
    LENGTH,
    PASS_RESULT_ON,
    PROGRESS,
    RAISED,
    TOO_LARGE,
    UNFIT,
    Call,
    CallContext,
)

if TYPE_CHECKING:
    from taskfleet.context import TaskContext
    from taskfleet.runtime.state.job import Job
    from taskfleet.tasks.definition import Definition
    from taskfleet.travel.value import Value

logger = showing.logger("taskfleet.processes")

_IDLE_SECONDS = 60.0
_LEAVE_SECONDS = 2.0
_KILL_SECONDS = 5.0  # how long a killed process may take to end; only the kernel can delay it
_START = (
    "import sys; descriptor, parent, sys.path[:] = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]; "
    "del sys.argv[1:]; from taskfleet.runtime.executors.process_child import main; main(descriptor, parent)"
)


class ChildError(Exception):
    """An exception that a function raised in its process, as far as it can be transferred."""

    def __init__(self, message: str, traceback: str, classes: list[str], delay: float | None) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.classes = classes
        self.delay = delay


class ProcessDiedError(Exception):
    """The process of a task ended while the task was running."""


class Returned:
    """The return value of a function in its process, as a result record; `bad` tells why there is no record."""

    __slots__ = ("_bad", "_record", "_too_large", "seen")

    def __init__(self, record: bytes, bad: str = "", *, too_large: bool = False) -> None:
        self._record = record
        self._bad = bad
        self._too_large = too_large
        self.seen: Any = None  # as middleware has seen it

    def record(self) -> bytes:
        """The result record; raises `SerializationError`."""
        if self._bad:
            raise (PayloadTooLargeError if self._too_large else SerializationError)(self._bad)
        return self._record

    def value(self, result: Value) -> Any:
        """The value as the function returned it.

        A value that cannot be encoded stays as it is; the worker refuses it.
        """
        if self._bad:
            self.seen = self
        else:
            self.seen = result.load(result_record.unpack_result(self._record, queue="", task_id=""))
        return self.seen


class Processes:
    """The child processes of one worker: as many as its tasks need at once.

    `most_bytes` is the limit on an answer; a longer one is dropped. Errors: `ConfigurationError` for a task of
    `definitions` whose function a child would not find.
    """

    def __init__(self, definitions: Iterable[Definition], most_bytes: int) -> None:
        self._most_bytes = most_bytes
        for definition in definitions:
            if definition.options.executor == "process":
                import_path.check(definition)
        self._idle: list[_Child] = []  # the last used child is taken first, so that the others can end
        self._starting: set[asyncio.Task[_Child]] = set()
        self._unclaimed: list[asyncio.Task[_Child]] = []  # starting children whose tasks have ended already
        self._all: set[_Child] = set()

    async def call(self, job: Job, *, keep: bool) -> Returned:
        """Run the job's function; cancelling this coroutine kills its process.

        `keep` tells whether the result is needed. Errors: `ChildError`, `ProcessDiedError`.
        """
        child = await self._take(job.definition.function.__module__)
        try:
            about = job.context()
            kind, *fields = await child.ask([*_call_of(job, about, keep=keep)], about)
        except BaseException:
            await child.kill()
            raise
        finally:
            if child.alive:
                self._rest(child)
            else:
                self._all.discard(child)
        if kind == RAISED:
            raise ChildError(*fields)
        (value,) = fields
        if kind == TOO_LARGE:
            return Returned(b"", f"its result has {value} bytes, more than {self._most_bytes} of max_result_bytes "
                            "may become; store it elsewhere and return its address", too_large=True)  # fmt: skip
        return Returned(b"", value) if kind == UNFIT else Returned(value)

    async def _take(self, module: str) -> _Child:
        while self._idle:
            child = self._idle.pop()
            child.rest.cancel()
            if child.alive:
                return child
            child.close()
            self._all.discard(child)
        start = self._unclaimed.pop() if self._unclaimed else self._start(module)
        try:
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            # A start continues after its task has ended. Otherwise a task with a shorter timeout could never run.
            if start.done():
                self._keep(start)
            else:
                self._unclaimed.append(start)
            raise

    def _start(self, module: str) -> asyncio.Task[_Child]:
        # The start does not belong to the task: another task may get the child.
        start = background.start(_Child.start(module, self._most_bytes))
        self._starting.add(start)
        start.add_done_callback(self._started)
        return start

    def _started(self, start: asyncio.Task[_Child]) -> None:
        self._starting.discard(start)
        if not start.cancelled() and start.exception() is None:
            self._all.add(start.result())
        if start in self._unclaimed:
            self._unclaimed.remove(start)
            self._keep(start)

    def _keep(self, start: asyncio.Task[_Child]) -> None:
        if not start.cancelled() and start.exception() is None:
            self._rest(start.result())

    def _rest(self, child: _Child) -> None:
        self._idle.append(child)
        child.rest = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._retire, child)

    def _retire(self, child: _Child) -> None:
        self._idle.remove(child)
        self._all.discard(child)
        child.close()

    @property
    def pids(self) -> list[int]:
        """The process ids of the present children."""
        return [child.pid for child in self._all if child.alive]

    async def close(self) -> None:
        """End all processes."""
        await end(self._starting)
        children, self._all = self._all, set()
        for child in self._idle:
            child.rest.cancel()
        self._idle = []
        await asyncio.gather(*(child.leave() for child in children))


class _Child:
    """One process and the socket to it."""

    rest: asyncio.TimerHandle  # ends the child after a long idle time

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        most_bytes: int,
    ) -> None:
        self._most_bytes = most_bytes
        self._process = process
        self._reader = reader
        self._writer = writer
        self._ended = asyncio.Event()
        self.pid = process.pid
        loop = asyncio.get_running_loop()
        # The end of the socket is no sign, since a process that the task has started may hold the socket open.
        threading.Thread(target=self._watch, args=(loop,), name=f"taskfleet-child-{self.pid}", daemon=True).start()

    @classmethod
    async def start(cls, module: str, most_bytes: int) -> _Child:
        """A process that has imported `module`; `ProcessDiedError` when it ended before that."""
        process, connection = _spawn()
        reader, writer = await asyncio.open_connection(sock=connection)
        child = cls(process, reader, writer, most_bytes)
        try:
            await child.ask([module])
        except BaseException:
            await child.kill()
            raise
        return child

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(self._ended.set)

    @property
    def alive(self) -> bool:
        return not self._ended.is_set() and not self._reader.at_eof() and not self._writer.is_closing()

    async def ask(self, call: list[Any], about: TaskContext | None = None) -> list[Any]:
        """Send a call and wait for its answer; `ProcessDiedError` when the process ends first.

        Progress reports of the function go to `about`.
        """
        answer = background.start(self._exchange(envelope.pack(call), about))
        ended = background.start(self._ended.wait())
        try:
            await asyncio.wait({answer, ended}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done() and answer.exception() is None:
                return answer.result()
        finally:
            await end([answer, ended])
        await self.kill()  # the child has closed its socket, or has ended
        raise ProcessDiedError(_death(self._process.returncode))

    async def _exchange(self, body: bytes, about: TaskContext | None) -> list[Any]:
        self._writer.write(LENGTH.pack(len(body)) + body)
        await self._writer.drain()
        while True:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            if length > self._most_bytes:
                await self._pass_over(length)
                return [TOO_LARGE, length]
            answer: list[Any] = envelope.unpack(await self._reader.readexactly(length))
            kind, *fields = answer
            if kind != PROGRESS:
                return answer
            task_id, done, total, note = fields
            if about is not None and task_id == about.id:  # drops a late report of the task before
                about.progress_sync(done, total, note)

    async def _pass_over(self, length: int) -> None:
        """Read and drop this number of bytes."""
        while length > 0:
            part = await self._reader.read(min(length, 1 << 20))
            if not part:
                raise EOFError
            length -= len(part)

    async def kill(self) -> None:
        """Kill the process and the processes that it has started; returns when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                os.killpg(self.pid, signal.SIGKILL)
        self.close()
        try:
            async with asyncio.timeout(_KILL_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            logger.warning("process %d is killed and still there", self.pid)

    def close(self) -> None:
        """Close the socket: an idle process ends by itself."""
        self._writer.close()

    async def leave(self) -> None:
        """Let an idle process end by itself, or kill it."""
        self.close()
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            await self.kill()


def _spawn() -> tuple[subprocess.Popen[bytes], socket.socket]:
    # Not in another thread, though it takes some milliseconds: the kernel ends a child with the thread that started it.
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), str(os.getpid()), *sys.path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # A separate process group: the worker handles Ctrl-C, and processes that a task has started are killed
                # with it.
                process_group=0,
            )
        except OSError as error:
            ours.close()
            raise ProcessDiedError(f"its process could not be started: {error.strerror}") from None
    logger.debug("process %d started", process.pid)
    return process, ours


def _call_of(job: Job, about: TaskContext, *, keep: bool) -> Call:
    function = job.definition.function
    result = KEEP_RESULT if keep else DROP_RESULT
    if keep and job.setting(call_settings.RESULT_IS_TAKEN, False):
        result = PASS_RESULT_ON
    span = tracing.current()
    context = CallContext(
        about.id,
        about.queue,
        about.attempt,
        about.delivery,
        about.enqueued_at.timestamp(),
        about.deadline.timestamp() if about.deadline is not None else None,
        dict(about.headers),
        WORKER.get(),
        span.traceparent if span is not None else "",
    )
    return Call(
        function.__module__,
        function.__qualname__,
        job.definition.name,
        job.envelope.args,
        job.envelope.kwargs,
        result,
        [*context],
    )


def _death(code: int | None) -> str:
    if code is None:
        return "its process closed the connection to the worker"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ", perhaps by the kernel for want of memory" if -code == signal.SIGKILL else ""
        return f"its process was killed by {name}{hint}"
    return f"its process ended with exit code {code}"
