"""A real pseudo-terminal with a command in it, and what it shows: its screen, or all that it wrote.

The screen knows just what a full screen of rich needs. Any other control sequence fails the test: it would have come
from the text of somebody else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

_SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    """What a terminal of this size shows after some output."""

    def __init__(self, columns: int, rows: int) -> None:
        self.alternate = False
        self.cursor_shown = True
        self.styles: set[str] = set()
        self.before: list[str] = []  # lines that were printed outside the alternate screen
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._settled = False  # what is on its way was drawn for the size before
        self._fits = False
        self._clear()

    def _clear(self) -> None:
        self._cells = [[" "] * self.columns for _ in range(self.rows)]
        self._x = self._y = 0
        self.lines = [""] * self.rows  # of the last frame that was drawn to its end

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def feed(self, data: str) -> str:
        """Show the output; returns the beginning of a sequence whose rest is on its way."""
        at = 0
        while at < len(data):
            if data[at] == "\x1b":
                found = _SEQUENCE.match(data, at)
                if found is None:
                    if len(data) - at < 16:
                        return data[at:]
                    raise AssertionError(f"a sequence that rich does not write: {data[at : at + 20]!r}")
                self._control(found[1], found[2], found[3])
                at = found.end()
                continue
            self._show(data[at])
            at += 1
        return ""

    def _control(self, private: str, numbers: str, letter: str) -> None:
        if private and numbers in ("1049", "25") and letter in "hl":
            if numbers == "25":
                self.cursor_shown = letter == "h"
            else:
                self.alternate = letter == "h"
                self._clear()
        elif not private and letter == "H" and numbers in ("", "0;0", "1;1"):
            self._x = self._y = 0
            self._settled = self._settled or self._fits
            self._fits = True
        elif not private and letter == "m":
            self.styles.add(numbers)
        else:
            raise AssertionError(f"a sequence that rich does not write: ESC[{private}{numbers}{letter}")

    def _show(self, character: str) -> None:
        if not self.alternate:
            if character == "\n":
                self.before.append("")
            elif character != "\r":
                self.before = [*self.before[:-1], (self.before or [""])[-1] + character]
            return
        if character == "\r":
            self._x = 0
        elif character == "\n":
            if self._check(self._y < self.rows - 1, "the view scrolls"):
                self._y += 1
        elif not unicodedata.combining(character):
            assert character.isprintable(), f"a control character: {character!r}"
            wide = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if self._check(self._x + wide <= self.columns, "a line is too long"):
                self._cells[self._y][self._x : self._x + wide] = [character, ""][:wide]
                self._x += wide
            if self._y == self.rows - 1 and self._x == self.columns:
                self.lines = ["".join(row).rstrip() for row in self._cells]

    def _check(self, fits: bool, what: str) -> bool:
        """Whether it fits; from the first frame of this size on it must."""
        assert fits or not self._settled, f"{what} for {self.columns}x{self.rows}:\n{self.text}"
        self._fits = self._fits and fits
        return fits


class Terminal:
    """`python -m taskfleet …` in a terminal of its own. `environment` replaces variables; `None` takes one away."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        ours, theirs = pty.openpty()
        self._descriptor = ours
        self.screen = Screen(columns, rows)
        self._set_size(columns, rows)
        self.settings = termios.tcgetattr(theirs)
        changes = {"TERM": "xterm-256color", "COLUMNS": None, "LINES": None, "NO_COLOR": None, **(environment or {})}
        kept = {name: value for name, value in os.environ.items() if name not in changes}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", *arguments],
            env=kept | {name: value for name, value in changes.items() if value is not None},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        self._theirs = theirs
        self._rest = b""
        self._unshown = ""

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, as a window does: the kernel sends SIGWINCH."""
        self.read(0.0)
        self.screen.resize(columns, rows)
        self._set_size(columns, rows)

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def read(self, seconds: float) -> None:
        """Show what comes within this time."""
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return
        try:
            data = self._rest + os.read(self._descriptor, 65_536)
        except OSError:  # the other end is closed
            return
        text = data.decode("utf-8", "ignore")
        self._rest = data[len(text.encode()) :]
        self._unshown = self.screen.feed(self._unshown + text)

    def until(self, condition: Callable[[Screen], object], what: str, *, seconds: float = 60.0) -> Screen:
        """Read until the screen is so."""
        deadline = time.monotonic() + seconds
        while not condition(self.screen):
            ended = self.process.poll()
            self.read(0.05)
            if ended is not None and not condition(self.screen):
                self.read(0.05)
                if not condition(self.screen):
                    raise AssertionError(
                        f"it has ended ({ended}) before {what}: {self.screen.before}\n{self.screen.text}"
                    )
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:g} s in vain: {what}\n{self.screen.before}\n{self.screen.text}")
        return self.screen

    def ended(self, *, seconds: float = 60.0) -> int:
        """Wait for the end of the command, and read all of its output."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.read(0.05)
            assert time.monotonic() < deadline, f"it does not end\n{self.screen.text}"
        while select.select([self._descriptor], [], [], 0.05)[0]:
            self.read(0.0)
        return self.process.wait()

    def settings_now(self) -> list[object]:
        """The settings of the terminal, which are those of before after a good end."""
        return termios.tcgetattr(self._theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._theirs)
        os.close(self._descriptor)


def shown_on_a_terminal(
    command: Sequence[str],
    *,
    keys: str = "",
    after: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    seconds: float = 120.0,
) -> tuple[int, str]:
    """Run a command that scrolls in a terminal of its own; (exit code, all that it wrote, control sequences too).

    `keys` are pressed each time that it has written `after`. It is killed, and the test fails, if it does not end.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command,
        env={"TERM": "xterm", "COLUMNS": "80", **(os.environ if environment is None else environment)},
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_own_terminal,
    ) as process:
        os.close(theirs)
        written = b""
        answered = 0
        deadline = time.monotonic() + seconds
        try:
            while True:
                assert select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0], f"no end: {written!r}"
                try:
                    part = os.read(ours, 65_536)
                except OSError:  # Linux says so when the last writer is gone
                    break
                written += part
                while after and answered < written.count(after.encode()):
                    os.write(ours, keys.encode(errors="surrogateescape"))
                    answered += 1
            return process.wait(seconds), written.decode("utf-8", "replace")
        finally:
            process.kill()
            os.close(ours)


def _own_terminal() -> None:
    """Make standard input the terminal of this session, so that it sends SIGINT, SIGTSTP and SIGWINCH.

    A shell in which the tests run in the background makes its commands ignore SIGINT; one on a terminal does not.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
