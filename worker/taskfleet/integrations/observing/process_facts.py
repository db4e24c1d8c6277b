"""This process, as its operating system and its interpreter describe it."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import resource
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from taskfleet.integrations.observing.machine_reports import ProcessReport
from taskfleet.version import __version__

_UTIME_FIELDS_BEFORE_START = 19  # fields of /proc/self/stat between the command's name and the start time


def report() -> ProcessReport:
    """The present figures."""
    started = started_at()
    now = datetime.now(UTC)
    return ProcessReport(
        pid=os.getpid(),
        host=socket.gethostname(),
        python=platform.python_version(),
        version=__version__,
        started_at=started,
        uptime_seconds=(now - started).total_seconds() if started is not None else None,
        cpu_seconds=time.process_time(),
        threads=threading.active_count(),
        memory_bytes=memory_bytes(),
        peak_memory_bytes=peak_memory_bytes(),
    )


def started_at() -> datetime | None:
    """When this process started, or None where there is no `/proc`. The same at every call."""
    return _started_at(os.getpid())


@functools.cache  # by the process, since a forked child has another start
def _started_at(_pid: int) -> datetime | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The name of the command, in brackets, may hold blanks and brackets itself.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        ticks = int(fields[_UTIME_FIELDS_BEFORE_START])
        since_boot = ticks / os.sysconf("SC_CLK_TCK")
        return datetime.fromtimestamp(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot, UTC)
    return None


def memory_bytes() -> int | None:
    """The resident memory, or None where there is no `/proc`."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None


def peak_memory_bytes() -> int | None:
    """The most resident memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) or None


def load_1m() -> float | None:
    """The load of the machine in the last minute."""
    with contextlib.suppress(OSError, AttributeError):
        return os.getloadavg()[0]
    return None
