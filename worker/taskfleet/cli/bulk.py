"""`taskfleet enqueue --file`: a task for each line, in calls of many. Every line that is not sent is named."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from taskfleet.cli import arguments, listing, progress_bar, redirecting, similar
from taskfleet.errors import BulkEnqueueError, ConfigurationError, QueueFullError, TaskQueueError
from taskfleet.showing import shown

if TYPE_CHECKING:
    from taskfleet.cli.arguments import MakeMessage
    from taskfleet.queue import TaskQueue

_TOGETHER = 1000  # lines in one call
_READ_BYTES = 1_048_576
_LINE_BYTES = 16 * 1_048_576  # the longest line; a task is far smaller
_PROBLEM_CHARACTERS = 500

Line = tuple[int, bytes | None]
"""The number of a line, from 1, and its text; None for one that is too long."""


class StoppedError(TaskQueueError):
    """Ctrl-C; the message says what was sent."""

    exit_code = 130


@dataclass(slots=True)
class _Count:
    """What has happened to the lines so far."""

    sent: int = 0
    wrong: int = 0
    last: int = 0  # the last line of which it is known whether it was sent
    unsure: tuple[int, int] | None = None  # lines that were in a call when it was interrupted
    is_told: bool = False  # from then on nothing more is sent

    def text(self) -> str:
        words = f"{self.sent} sent"
        if self.wrong:
            words += f", {self.wrong} not"
        if self.unsure is None:
            return f"{words}; the next line is {self.last + 1}"
        first, last = self.unsure
        between = f"line {first}" if first == last else f"lines {first} to {last}"
        return f"{words}; {between} may be sent or not; the next line is {last + 1}"


def send(file: str, application: str, redis: str, task: str, *, queue: str | None, delay: float, as_json: bool) -> int:
    """Send the task once for each line. Returns 1 when a line was wrong; the others are sent."""
    import asyncio

    from taskfleet.process.loading import load_app

    target = load_app(application)
    message = arguments.message_of(target, task, queue, delay)
    count = _Count()
    with _opened(file) as source, redirecting.redirected(target, redis), asyncio.Runner() as runner:
        try:
            runner.run(target.broker.ping())  # of a Redis that was never there it is known that it has got no line
            runner.run(similar.new_or_known_queue(target, queue or ""))
            with progress_bar.bar("sending", _size(source)) as update:
                for lines, done in _chunks(source):
                    runner.run(_send(target, message, lines, count, as_json))
                    update(done, f"{count.sent} tasks")
        except KeyboardInterrupt:
            # asyncio may have prepared the next call and not begun it: it would begin while the queue is closed.
            count.is_told = True
            raise StoppedError(f"aborted: {count.text()}") from None
        except TaskQueueError as error:
            told = f"{error} ({count.text()})"
            raise TaskQueueError(told) from error
        finally:
            runner.run(target.close())
    if not as_json:
        print(f"{count.sent} sent")
    if count.wrong:
        lines_of = f"{count.wrong} line{'' if count.wrong == 1 else 's'}"
        print(f"taskfleet: {lines_of} of {_named(file)} not sent, {count.sent} sent", file=sys.stderr)
    return 1 if count.wrong else 0


async def _send(target: TaskQueue, message: MakeMessage, lines: list[Line], count: _Count, as_json: bool) -> None:
    messages: list[tuple[int, Any]] = []
    wrong: dict[int, Exception] = {}
    for number, text in lines:
        try:
            if text is None:
                raise ConfigurationError(f"it is longer than {_LINE_BYTES} bytes")
            messages.append((number, message(*arguments.parsed(text, "it"))))
        except (TaskQueueError, UnicodeDecodeError) as error:
            wrong[number] = error
    size = len(messages)
    while messages and not count.is_told:
        part = messages[:size]
        count.unsure = part[0][0], part[-1][0]
        try:
            handles = await target.enqueue_many([each for _, each in part])
        except BulkEnqueueError as error:
            # Nothing was sent for the queue of these lines: there is one queue.
            bad = {index for index, _ in error.errors}
            wrong |= {part[index][0]: each for index, each in error.errors}
            messages = [each for index, each in enumerate(messages) if index not in bad]
            continue
        except QueueFullError:
            if target.application.known_options_of(part[0][1].options.queue).partitions == 1:
                count.unsure = None  # all or none of them are accepted
                if len(part) > 1:
                    size = len(part) // 2  # fewer may find room
                    continue
            raise
        for (number, _), handle in zip(part, handles, strict=True):
            if as_json:
                print(listing.as_text({"line": number, "id": handle.id, "queue": handle.queue}))
        count.sent += len(handles)
        messages = messages[size:]
        _settle(count, wrong, part[-1][0])
    _settle(count, wrong, lines[-1][0])


def _settle(count: _Count, wrong: dict[int, Exception], last: int) -> None:
    """It is known what has become of the lines up to `last`: tell those that are wrong."""
    count.unsure, count.last = None, last
    for number in sorted(number for number in wrong if number <= last):
        _tell(number, wrong.pop(number))
        count.wrong += 1


def _tell(number: int, error: Exception) -> None:
    print(f"taskfleet: line {number}: {shown(str(error), _PROBLEM_CHARACTERS)}", file=sys.stderr)


def _opened(file: str) -> IO[bytes]:
    if file == "-":
        # Without a standard input Python has none either, whatever its types say.
        if not sys.stdin:
            raise ConfigurationError("--file -: standard input is closed")
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    try:
        return open(file, "rb", buffering=0)
    except OSError as error:
        raise ConfigurationError(f"--file {file!r} cannot be read: {error.strerror}") from None


def _size(source: IO[bytes]) -> float | None:
    import stat

    status = os.fstat(source.fileno())
    return float(status.st_size) if stat.S_ISREG(status.st_mode) else None


def _named(file: str) -> str:
    return "standard input" if file == "-" else file


def _chunks(source: IO[bytes]) -> Iterator[tuple[list[Line], int]]:
    """Lines that are there, at most `_TOGETHER` at a time, and the bytes read so far. A slow pipe is not waited for."""
    waiting: list[Line] = []
    for lines, done in _read(source):
        waiting += lines
        while waiting:
            yield waiting[:_TOGETHER], done
            waiting = waiting[_TOGETHER:]


def _read(source: IO[bytes]) -> Generator[tuple[list[Line], int]]:
    number, done, rest, is_long = 0, 0, b"", False
    while data := source.read(_READ_BYTES):
        done += len(data)
        *whole, rest = (rest + data).split(b"\n")
        found: list[Line] = []
        for text in whole:
            number += 1
            if is_long or text.strip():
                found.append((number, None if is_long else text))
            is_long = False
        if len(rest) > _LINE_BYTES:
            rest, is_long = b"", True
        yield found, done
    if is_long or rest.strip():
        yield [(number + 1, None if is_long else rest)], done
