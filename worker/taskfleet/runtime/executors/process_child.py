"""A child process that runs the functions of `executor="process"` in turn. `process_connection.py` is the other end."""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import functools
import importlib
import os
import queue
import signal
import socket
import sys
import threading
import time
from typing import Any

from taskfleet import child_process, context, describing, logs, tracing
from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.protocol import envelope
from taskfleet.protocol.progress_report import pack_report
from taskfleet.retry import RetryLater, seconds_of_delay
from taskfleet.runtime.executors import import_path, returned
from taskfleet.runtime.executors.process_answers import class_name
from taskfleet.runtime.executors.process_frames import (
    DROP_RESULT,
    LENGTH,
    PASS_RESULT_ON,
    PROGRESS,
    RAISED,
    READY,
    RETURNED,
    UNFIT,
    Call,
    CallContext,
    RaisedError,
)
from taskfleet.runtime.executors.threads import forget_loop
from taskfleet.tasks.signature import pack_result

_REPORT_SECONDS = 0.1
_LEAVE_SECONDS = 1.0  # for the ordinary exit of an idle process, with its registered functions


def main(descriptor: int, parent: int) -> None:
    """Run the calls that arrive on the socket `descriptor`, until it closes."""
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    # The end of the socket is noticed too, but not while a function keeps the interpreter inside a C call.
    child_process.end_with(parent, signal.SIGKILL)
    # The worker ends this process when it no longer needs it, so signals are ignored: systemd, for example, signals all
    # processes at once. A handler is used rather than SIG_IGN, which programs that a task starts would inherit.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with contextlib.suppress(ConfigurationError):  # the application has set up logging with another level
        logs.configure()
    calls: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, calls), name="taskfleet-receive", daemon=True).start()
    sender = _Sender(connection)
    while (frame := calls.get()) is not None:
        module, *rest = frame
        answer = _prepare(module)
        if rest:
            # Each call gets a new copy of the context that the application has set up during its import. No state
            # passes to the next call, which may be for another customer.
            answer = contextvars.copy_context().run(_answer, sender, Call(*frame))
            forget_loop()
        # Output is buffered unless it is a terminal, and this process may be killed in its next task.
        sys.stdout.flush()
        sender.send(answer)


class _Sender:
    """Sends frames from several threads; of progress reports, only the latest in each tenth of a second."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._latest: list[Any] | None = None
        self._reported = threading.Event()
        self._reporter: threading.Thread | None = None

    def send(self, frame: list[Any]) -> None:
        body = envelope.pack(frame)
        with self._sending:
            self._connection.sendall(LENGTH.pack(len(body)) + body)

    def report(self, task_id: str, done: float, total: float | None, note: str) -> None:
        """Take a report. Errors: `TypeError` for values that are no numbers."""
        # Packing and unpacking makes plain types: numbers of NumPy would be refused where types are strict.
        self._latest = [PROGRESS, task_id, *envelope.unpack(pack_report(done, total, note))]
        self._reported.set()
        if self._reporter is None:
            self._reporter = threading.Thread(target=self._report, name="taskfleet-progress", daemon=True)
            self._reporter.start()

    def _report(self) -> None:
        while self._reported.wait():
            self._reported.clear()
            latest, self._latest = self._latest, None
            if latest is not None:
                with contextlib.suppress(OSError):  # the parent is gone
                    self.send(latest)
            time.sleep(_REPORT_SECONDS)


def _prepare(module: str) -> list[Any]:
    # An error is ignored here: the first task meets it again and reports it.
    with contextlib.suppress(BaseException):
        importlib.import_module(module)
    return [READY]


def _receive(connection: socket.socket, calls: queue.SimpleQueue[list[Any] | None]) -> None:
    """Receive calls. When the parent is gone, end this process, whatever is running."""
    try:
        while True:
            (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
            calls.put(envelope.unpack(_exactly(connection, length)))
    except (EOFError, OSError):
        calls.put(None)
        time.sleep(_LEAVE_SECONDS)
    finally:
        os._exit(1)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def _answer(sender: _Sender, call: Call) -> list[Any]:
    try:
        function, signature = import_path.find(call.module, call.qualname, call.task)
        args, kwargs = signature.load(call.args, call.kwargs)
        about = CallContext(*call.context)
        context.CURRENT.set(lambda: _context(sender, call.task, about))
        context.WORKER.set(about.worker)
        tracing.adopt(about.trace)
        value = function(*args, **kwargs)
    except BaseException as error:
        # BaseException: a function that calls sys.exit() has failed, and this process continues.
        return [RAISED, *_raised(error)]
    try:
        if promise := returned.unfinished(value):
            return [UNFIT, f"it returned {promise}"]
        if call.result == DROP_RESULT:
            return [RETURNED, b""]
        return [RETURNED, pack_result(signature.result, value, passed_on=call.result == PASS_RESULT_ON)]
    except SerializationError as error:
        return [UNFIT, describing.text_of(error)]
    except BaseException as error:
        # A validator of the application may raise anything.
        return [UNFIT, f"task {call.task!r}: its result cannot be encoded: {describing.describe(error)}"]


def _raised(error: BaseException) -> RaisedError:
    delay: float | None = None
    classes: list[str] = []
    with contextlib.suppress(BaseException):
        classes = [class_name(each) for each in type.mro(type(error))]
    with contextlib.suppress(BaseException):
        delay = seconds_of_delay(error.delay) if isinstance(error, RetryLater) else None
    return RaisedError(describing.describe(error), describing.trace(error), classes, delay)


def _context(sender: _Sender, name: str, about: CallContext) -> context.TaskContext:
    return context.TaskContext(
        about.id,
        name,
        about.queue,
        about.attempt,
        about.delivery,
        dt.datetime.fromtimestamp(about.enqueued_at, dt.UTC),
        None if about.deadline is None else dt.datetime.fromtimestamp(about.deadline, dt.UTC),
        about.headers,
        functools.partial(sender.report, about.id),
    )
