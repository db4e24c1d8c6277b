"""The supervisor: a parent process that keeps several worker processes running and drains them together."""

from __future__ import annotations

import gc
import math
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from taskfleet import showing
from taskfleet.child_process import Child, ChildProcess, fork
from taskfleet.parent_process import Parent
from taskfleet.process import forking, inherited_pipe, requests

if TYPE_CHECKING:  # without a port for probes nothing of it is needed
    from taskfleet.process.figures_pipe import FiguresReader
    from taskfleet.process.merged_figures import MergedFigures

logger = showing.logger("taskfleet.worker")

_LOOK_SECONDS = 0.1
_STABLE_SECONDS = 10.0
_CANNOT_START = 2  # the exit code of a mistake in the application or the command line
_HURRY_SECONDS = 2.0  # how long a child may take to end that was told to end at once

# The exit codes of a process without work that was asked to end: 0, the signal itself, or the shell's code for it.
_IN_GOOD_ORDER = {0, *(sign for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) for sign in (-n, 128 + n))}


class InForkedProcess(BaseException):
    """Raised in a process that the supervisor has forked, which has the parent, and runs its own worker now.

    It leaves the frames of the supervisor, so that their blocks close what only the supervisor may hold.
    """

    def __init__(self, number: int, parent: Parent, figures: int | None) -> None:
        super().__init__(f"worker process {number}")
        self.number = number
        self.parent = parent
        self.figures = figures


class Supervisor:
    """Keeps `processes` children of `command(n)` running until it is asked to end, and then drains them all.

    A child that dies is started again. The delay grows for children that die early. With `burst`, a child that ends
    with 0 has found its queues empty and is not. When `replace()`, which is called several times a second, says so,
    others take the place of all children at once, and those finish what they run. With it, a child that ends with 2
    cannot start, and waits for the next replacement. `figures` get those of all children.

    With `forks`, children are forked as long as this process has no other thread, and share its memory: `run` raises
    `InForkedProcess` in them.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        processes: int,
        *,
        burst: bool = False,
        replace: Callable[[], bool] | None = None,
        figures: MergedFigures | None = None,
        forks: bool = False,
    ) -> None:
        self._command = command
        self._burst = burst
        self._replace = replace
        self._figures = figures
        self._forks = forks
        self.on_started: Callable[[], None] = lambda: None
        self.on_drain: Callable[[], None] = lambda: None
        self._leaving: list[ChildProcess] = []
        self._children: dict[int, ChildProcess] = {}
        self._unread: list[FiguresReader] = []
        self._started: dict[int, float] = {}
        self._retry_at = dict.fromkeys(range(processes), 0.0)
        self._failures = dict.fromkeys(range(processes), 0)
        self._requests = requests.Requests(self._drain, self._hurry)
        self._ending = False
        self._kill_at: float | None = None

    def run(self, parent: Parent, patience: float) -> int:
        """Run until all children have ended.

        Returns 0, or 1 when one did not drain. `patience` (s) applies without a parent.
        """
        for number in requests.signals():
            signal.signal(number, self._heard)
        parent.listen(self._requests.told, self._hurry, patience)
        if self._forks:
            gc.collect()
            gc.freeze()  # or each child copies the pages of all objects when it collects garbage
        status = 0
        told = False
        first = True
        while True:
            if self._figures is not None:
                self._figures.beat()
                self._figures.draining = self._ending
            if self._replace is not None and not self._ending and self._replace():
                self._replace_all()
            self._leaving = [child for child in self._leaving if child.ended() is None]
            for n in list(self._retry_at):
                child = self._children.get(n)
                code = child.ended() if child is not None else None
                if code is not None:
                    del self._children[n]
                    if self._figures is not None:
                        self._figures.retire(n, replaced=not self._ending and not (self._burst and code == 0))
                    if self._burst and code == 0:
                        del self._retry_at[n]
                        continue
                    status = status or self._has_ended(n, code)
                if n not in self._children and not self._ending and time.monotonic() >= self._retry_at[n]:
                    self._start(n)
            while self._unread:
                self._unread.pop().start()
            if first:
                first = False
                self.on_started()  # whatever starts a thread comes after the children that are forked
            if not self._children and not self._leaving and (self._ending or not self._retry_at):
                return status
            if self._ending:
                if not told:
                    told = True
                    self.on_drain()  # not in the signal's handler, which may interrupt another line
                self._tell()
            time.sleep(_LOOK_SECONDS)

    def _start(self, n: int) -> None:
        reader = None if self._figures is None else self._figures.adopt(n)
        try:
            if self._forks and not forking.has_threads():
                self._children[n] = self._forked(n, reader)
            else:
                descriptors = {} if reader is None else {inherited_pipe.VARIABLE: reader.write_end}
                self._children[n] = Child(self._command(n), stdin=subprocess.DEVNULL, descriptors=descriptors)
        except InForkedProcess:
            raise
        except BaseException:
            if reader is not None:
                reader.started()
            raise
        if reader is not None:
            reader.started()
            self._unread.append(reader)
        self._started[n] = time.monotonic()

    def _forked(self, n: int, reader: FiguresReader | None) -> ChildProcess:
        made = fork(requests.signals(), requests.end_at_once)
        if isinstance(made, ChildProcess):
            return made
        for sibling in [*self._children.values(), *self._leaving]:
            sibling.let_go()
        for each in self._unread if reader is None else [*self._unread, reader]:
            each.leave_to_parent()
        raise InForkedProcess(n, made, None if reader is None else reader.write_end)

    def _replace_all(self) -> None:
        for child in self._children.values():
            child.drain()
        self._leaving.extend(self._children.values())
        self._children.clear()
        self._retry_at = dict.fromkeys(self._retry_at, 0.0)
        self._failures = dict.fromkeys(self._failures, 0)

    def _has_ended(self, n: int, code: int) -> int:
        if self._ending:
            return int(code not in _IN_GOOD_ORDER)
        now = time.monotonic()
        if self._replace is not None and code == _CANNOT_START:
            self._retry_at[n] = math.inf
            return 0
        self._failures[n] = 0 if now - self._started[n] > _STABLE_SECONDS else self._failures[n] + 1
        delay = min(30.0, 0.5 * 2.0 ** self._failures[n])
        logger.warning("worker process %d ended with %d; started again in %.1f s", n, code, delay)
        self._retry_at[n] = now + delay
        return 0

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self._requests.heard(number)

    def _drain(self) -> None:
        self._ending = True
        self._tell()

    def _hurry(self) -> None:
        self._ending = True
        if self._kill_at is None:
            logger.warning("second signal: ending at once")
            self._kill_at = time.monotonic() + _HURRY_SECONDS
        self._tell()

    def _tell(self) -> None:
        """Also tell children that were being started when the request came."""
        for child in [*self._children.values(), *self._leaving]:
            child.drain()
            if self._kill_at is not None:
                child.hurry()
                if time.monotonic() > self._kill_at:
                    child.kill()
