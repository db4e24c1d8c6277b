"""The full screen: it reads, draws and listens to keys until it is ended, and leaves the terminal as it was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections import deque
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live

from taskfleet.cancellation import end
from taskfleet.cli import listing
from taskfleet.cli.top.choices import Choices
from taskfleet.cli.top.drawing import ScreenNotes, draw
from taskfleet.cli.top.keyboard import Keyboard
from taskfleet.errors import TaskQueueError
from taskfleet.watching.reading import FleetReading
from taskfleet.watching.snapshot import Snapshot

_DRAW_SECONDS = 1.0  # a screen is drawn at least so often
_SLOW_SECONDS = 3.0  # a reading that takes longer is told
_UNREAD_SECONDS = 0.3  # between readings while queues are missing
_AGAIN_SECONDS = 1.0  # after a failure
_SHARE = 4  # a reading is followed by a pause of so many times its duration, at least
_MOST_LOGGED = 20


def is_able() -> bool:
    """Whether standard output is a terminal that can show a full screen."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal


async def show(reading: FleetReading, address: str, interval: float) -> int:
    """Show the view until a key, a signal or Ctrl-C ends it; returns the exit code.

    Errors: what the first reading raises. From then on a failure of Redis is shown, and it is asked again.
    """
    return await _Screen(reading, await reading.snapshot(), address, interval).run()


class _Screen:
    def __init__(self, reading: FleetReading, first: Snapshot, address: str, interval: float) -> None:
        self._reading = reading
        self._snapshot = first
        self._address = address
        self._interval = interval
        self._choices = Choices()
        self._wake = asyncio.Event()
        self._code: int | None = None
        self._answered_at = datetime.now(UTC)
        self._answered = time.monotonic()
        self._asked: float | None = None  # since when a reading goes on
        self._took = 0.0  # how long the last one took
        self._failure = ""
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._has_keys = bool(sys.stdin) and sys.stdin.isatty()
        self._open = contextlib.ExitStack()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, 128 + number)
        loop.add_signal_handler(signal.SIGWINCH, self._wake.set)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        with _LogKept():
            reader = asyncio.create_task(self._read())
            try:
                self._enter()
                while self._code is None and not self._choices.ended:
                    self._draw()
                    await self._woken()
                    if reader.done():
                        reader.result()
            finally:
                self._leave()
                await end([reader])
        return self._code or 0

    def _enter(self) -> None:
        # The keys first: one that is pressed as soon as the view is seen is neither echoed into it nor lost.
        if self._has_keys:
            self._open.enter_context(Keyboard(sys.stdin.fileno(), self._pressed))
        self._open.enter_context(self._live)

    def _leave(self) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            self._open.close()

    def _suspend(self) -> None:
        """Ctrl-Z: the shell gets its terminal back, and the view comes again with `fg`."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()
        self._wake.set()

    def _end(self, code: int) -> None:
        self._code = code
        self._wake.set()

    def _pressed(self, key: str) -> None:
        self._choices.press(key, self._snapshot)
        self._wake.set()

    async def _woken(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAW_SECONDS):
                await self._wake.wait()
        self._wake.clear()

    def _draw(self) -> None:
        # Asked anew, and not of COLUMNS: a window changes its size while the view is open.
        width, height = os.get_terminal_size(self._console.file.fileno())
        self._console.size = (width or 80, height or 24)
        around = ScreenNotes(self._address, self._warning(), self._has_keys, self._console.encoding)
        text = draw(self._snapshot, self._choices, around, width or 80, height or 24)
        text.no_wrap = True
        self._live.update(text, refresh=True)

    def _warning(self) -> str:
        now = time.monotonic()
        if not self._failure and (self._asked is None or now - self._asked < _SLOW_SECONDS):
            return ""
        since = f"no answer since {self._answered_at:%T} UTC ({listing.age(now - self._answered)})"
        return f"{since}: {self._failure or 'Redis is slow'}; asking again"

    async def _read(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            if self._choices.paused:
                continue
            began = self._asked = time.monotonic()
            try:
                first = [row.name for row in self._choices.rows(0, self._snapshot)]
                self._snapshot = await self._reading.snapshot(first)
            except TaskQueueError as error:
                self._failure = " ".join(str(error).split())
            else:
                self._failure, self._answered, self._answered_at = "", time.monotonic(), datetime.now(UTC)
            self._took = time.monotonic() - began
            self._asked = None
            self._wake.set()

    def _pause(self) -> float:
        if self._failure:
            return max(_AGAIN_SECONDS, min(self._interval, 5.0))
        if self._snapshot.unread:
            return max(_UNREAD_SECONDS, _SHARE * self._took)
        return max(self._interval, _SHARE * self._took)


class _LogKept:
    """Inside the block the log is kept, since its lines would tear the screen; afterwards the last ones are written."""

    def __enter__(self) -> None:
        self._kept: deque[logging.LogRecord] = deque(maxlen=_MOST_LOGGED)
        root = logging.getLogger()
        self._before = root.handlers[:]
        root.handlers[:] = [_Keeper(self._kept)]

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.handlers[:] = self._before
        for record in self._kept:
            root.handle(record)


class _Keeper(logging.Handler):
    def __init__(self, kept: deque[logging.LogRecord]) -> None:
        super().__init__()
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record)
