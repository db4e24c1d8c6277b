"""The worker's end of one child process that runs functions; `process_child.py` is the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from taskfleet import background, showing, tracing
from taskfleet.cancellation import end
from taskfleet.context import WORKER
from taskfleet.protocol import call_settings, envelope
from taskfleet.runtime.executors.process_answers import ChildError, ProcessDiedError, Returned
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

logger = showing.logger("taskfleet.processes")

_LEAVE_SECONDS = 2.0
_KILL_SECONDS = 5.0  # how long a killed process may take to end; only the kernel can delay it
_START = (
    "import sys; descriptor, parent, sys.path[:] = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]; "
    "del sys.argv[1:]; from taskfleet.runtime.executors.process_child import main; main(descriptor, parent)"
)


class TaskProcess:
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
    async def start(cls, module: str, most_bytes: int) -> TaskProcess:
        """A process that has imported `module`; `ProcessDiedError` when it ended before that."""
        process, connection = _spawn()
        reader, writer = await asyncio.open_connection(sock=connection)
        child = cls(process, reader, writer, most_bytes)
        try:
            await child._ask([module])
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

    async def run(self, job: Job, *, keep: bool) -> list[Any]:
        """The answer of the process after it has run the job's function; `keep` tells whether the result is needed."""
        about = job.context()
        return await self._ask([*_call_of(job, about, keep=keep)], about)

    def returned(self, answer: list[Any]) -> Returned:
        """The return value in an answer; raises `ChildError` for the exception in it."""
        kind, *fields = answer
        if kind == RAISED:
            raise ChildError(*fields)
        (value,) = fields
        if kind == TOO_LARGE:
            return Returned(b"", f"its result has {value} bytes, more than {self._most_bytes} of max_result_bytes "
                            "may become; store it elsewhere and return its address", too_large=True)  # fmt: skip
        return Returned(b"", value) if kind == UNFIT else Returned(value)

    async def _ask(self, call: list[Any], about: TaskContext | None = None) -> list[Any]:
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
