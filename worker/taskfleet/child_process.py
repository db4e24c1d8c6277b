"""Child processes: how a parent asks a child to end, and how a child ends when its parent is gone.

A child that runs the `taskfleet` command reads a pipe from its parent. Through the pipe the parent asks it to drain, or
to end at once. A signal is not enough, since signals also come from other sources, and to whole process groups. The
pipe closes when the parent ends, for any reason. Another program cannot read such a pipe; on Linux the kernel ends it
with its parent (`ends_with_this_process`).

A child either runs a command of its own (`Child`), or goes on with the code and the memory of its parent (`fork`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from taskfleet.parent_process import DRAIN, HURRY, VARIABLE, Parent

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildProcess:
    """What a parent asks of a child. It has its own process group: Ctrl-C reaches its parent only."""

    _parent_end: int

    def drain(self) -> None:
        """Ask the child to finish its work and end; a second call has no effect."""
        self._tell(DRAIN)

    def hurry(self) -> None:
        """Let the child end at once: it returns its tasks to their queues and loses none."""
        self._tell(HURRY)

    def kill(self) -> None:
        """Have the kernel end it, if it has not ended."""
        raise NotImplementedError

    def ended(self) -> int | None:
        """The exit code; `None` while it runs."""
        code = self._poll()
        if code is not None:
            self.let_go()
        return code

    def let_go(self) -> None:
        """Close the pipe. A forked process does so with the pipes of its siblings, which only their parent may hold."""
        if self._parent_end >= 0:
            os.close(self._parent_end)
            self._parent_end = -1

    def _poll(self) -> int | None:
        raise NotImplementedError

    def _tell(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # the child has ended
            os.write(self._parent_end, order)


class Child(ChildProcess):
    """A child that runs the `taskfleet` command."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: Any = None,
        stderr: int | None = None,
        descriptors: Mapping[str, int] | None = None,
    ) -> None:
        """Start it. The other arguments are those of `subprocess.Popen`; by default the child shares this output.

        `descriptors` are passed on: the child finds the number of each in the variable of its name.
        """
        passed = dict(descriptors or {})
        child_end, self._parent_end = os.pipe()
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                env={**(os.environ if environment is None else environment), VARIABLE: str(child_end)}
                | {name: str(number) for name, number in passed.items()},
                pass_fds=[child_end, *passed.values()],
                process_group=0,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        except BaseException:
            os.close(self._parent_end)
            raise
        finally:
            os.close(child_end)

    def kill(self) -> None:
        self.process.kill()

    def _poll(self) -> int | None:
        return self.process.poll()


class ForkedChild(ChildProcess):
    """A child that `fork` has made."""

    def __init__(self, pid: int, parent_end: int) -> None:
        self.pid = pid
        self._parent_end = parent_end
        self._code: int | None = None

    def kill(self) -> None:
        if self._poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


def fork(signals: Collection[signal.Signals], prepare: Callable[[], object]) -> ForkedChild | Parent:
    """Fork. Returns the child in this process, and in the child its parent.

    The child reads nothing from this process' standard input. It calls `prepare`, which installs its handlers of
    `signals`, before it can get one of them: it has those of its parent until then.
    """
    child_end, parent_end = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or both processes print what is in the buffer
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            os.close(parent_end)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.close(nothing)
            prepare()
            return Parent(child_end)
    except BaseException:
        os.close(parent_end)
        os.close(child_end)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(child_end)
    return ForkedChild(pid, parent_end)


def end_with(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process `number` when the process `parent`, which started it, ends (Linux only).

    The kernel watches the thread that started this process, so that thread must live as long as the parent does.
    """
    _end_with(parent, number, _prctl())


def ends_with_this_process(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A `preexec_fn` for `subprocess.Popen`: the child gets `number` when the process that calls this function ends."""
    return functools.partial(_end_with, os.getpid(), number, _prctl())


@functools.cache
def _prctl() -> Callable[[int, int], object] | None:
    """The kernel's function; `None` where there is none."""
    if sys.platform != "linux":
        return None
    import ctypes  # only here: it takes 0.4 MB of memory, and a worker starts no child before it has a task for it

    return ctypes.CDLL(None).prctl


def _end_with(parent: int, number: signal.Signals, prctl: Callable[[int, int], object] | None) -> None:
    """`end_with`. It also runs between fork and exec, where another thread of the parent may have held any lock, so it
    imports and loads no module."""
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(0)  # the parent ended before the kernel knew
