"""Single keys from a terminal, while it shows the view."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_NAMES: dict[bytes, str] = {
    b"\t": "tab", b"\x1b[Z": "backtab",
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left",
    b"\x1bOA": "up", b"\x1bOB": "down", b"\x1bOC": "right", b"\x1bOD": "left",
    b"\x1b[5~": "pageup", b"\x1b[6~": "pagedown", b"\x1b[H": "home", b"\x1b[F": "end",
    b"\x1bOH": "home", b"\x1bOF": "end", b"\x1b[1~": "home", b"\x1b[4~": "end", b"k": "up", b"j": "down",
}  # fmt: skip
_KEY = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|[^\x1b]", re.DOTALL)
_UNFINISHED = re.compile(rb"\x1b(\[[0-9;]{0,16}|O)?\Z")


def keys_of(data: bytes) -> tuple[list[str], bytes]:
    """(the keys, the beginning of one whose rest is on its way). What is no key is left out."""
    unfinished = _UNFINISHED.search(data)
    rest = unfinished[0] if unfinished is not None else b""
    found: list[bytes] = _KEY.findall(data[: len(data) - len(rest)])
    return [_NAMES.get(each, each.decode("ascii", "replace")) for each in found], rest


class Keyboard:
    """Inside the block every key of the terminal `descriptor` goes to `heard` at once, and none is echoed."""

    def __init__(self, descriptor: int, heard: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._heard = heard
        self._before: list[Any] = []
        self._rest = b""

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)  # Ctrl-C stays a signal
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 1024)
        except OSError:
            data = b""
        if not data:  # the terminal is gone
            asyncio.get_running_loop().remove_reader(self._descriptor)
            return
        keys, self._rest = keys_of(self._rest + data)
        for key in keys:
            self._heard(key)
