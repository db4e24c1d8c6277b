"""Reload: when the code of the application changes, and can be imported, the worker processes are replaced."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from taskfleet.child_process import Child

_SETTINGS = ("task-queue.toml", "task-queue.yaml")
_SHOWN_FILES = 3
_SLOW_SECONDS = 15.0  # after which a check that has not ended is told, once


class Reloader:
    """Watches the Python files and the settings file in a folder.

    `check` is a command that ends with 0 when the application can be imported, and prints why not. While it cannot, the
    workers go on with the code that they have. `say` is told what happens, one line each.
    """

    def __init__(self, folder: Path, check: Sequence[str], say: Callable[[str], None]) -> None:
        import watchfiles  # of the extra [dev-server]

        self._watchfiles = watchfiles
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it logs each change
        self._folder = folder
        self._check = check
        self._say = say
        self._checking: Child | None = None
        self._slow_at: float | None = None
        self._changed: set[str] = set()
        self._failed = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        # Bytecode is found by a file's size and the second of its change: it hides a change within one second.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        self._thread = threading.Thread(target=self._watch, name="taskfleet-reload", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def due(self) -> bool:
        """Whether the workers have to be replaced now. It does not wait."""
        with self._lock:
            changed, self._changed = self._changed, set()
            failed, self._failed = self._failed, ""
        if failed:
            self._say(f"changes of the code are not seen: {failed}")
        if changed:
            self._say(f"{_named(changed)} changed")
            self._leave_check()
            self._checking = Child(self._check, stdin=subprocess.DEVNULL)
            self._slow_at = time.monotonic() + _SLOW_SECONDS
        code = self._checking.ended() if self._checking is not None else None
        if code is None:
            if self._checking is not None and self._slow_at is not None and time.monotonic() >= self._slow_at:
                self._slow_at = None
                self._say("the import of this change has not ended yet: the workers keep the code before it until then")
            return False
        self._checking = None
        if code != 0:
            self._say("not reloaded: the workers keep the code before this change and wait for the next one")
        return code == 0

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._leave_check()
        self._thread.join(2)

    def _leave_check(self) -> None:
        if self._checking is not None:
            self._checking.process.kill()
            self._checking.process.wait()
            self._checking.ended()
            self._checking = None

    def _watch(self) -> None:
        python = self._watchfiles.PythonFilter()

        def counts(change: object, path: str) -> bool:
            return os.path.basename(path) in _SETTINGS or python(change, path)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

        try:
            for changes in self._watchfiles.watch(
                self._folder, watch_filter=counts, stop_event=self._stop, debounce=200, raise_interrupt=False
            ):
                with self._lock:
                    self._changed |= {os.path.relpath(path, self._folder) for _, path in changes}
        except Exception as error:  # such as the system's limit of watched folders
            with self._lock:
                self._failed = str(error) or type(error).__name__


def _named(files: set[str]) -> str:
    names = sorted(files)
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    return ", ".join(names[:_SHOWN_FILES]) + more
