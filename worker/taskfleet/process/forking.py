"""Whether a process that has imported an application can be forked: its children share the memory of what it imported.

A fork copies only the thread that calls it, a connection that two processes use garbles both, and an event loop hears
what was meant for that of another process. So a process with any of these starts its children afresh.
"""

from __future__ import annotations

import contextlib
import os
import sys

_STANDARD = {0, 1, 2}  # may be sockets, as of a service manager, and every child shares them
_NOT_SHARED = ("socket:", "anon_inode:")


def obstacle() -> str:
    """Why this process is not forked; empty when it can be."""
    if sys.platform != "linux":
        return "this platform does not fork safely"  # frameworks of macOS abort in a forked process
    if has_threads():
        return "the application has started a thread at its import"
    if _has_connections():
        return "the application has opened a connection, or made an event loop, at its import"
    return ""


def has_threads() -> bool:
    """Whether there is a thread beside this one, which may also be one of a C extension (Linux only)."""
    return len(os.listdir("/proc/self/task")) > 1


def _has_connections() -> bool:
    """Whether a socket is open, or what an event loop waits on: that of uvloop has no socket before it runs."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the folder itself is closed by now
            if int(name) not in _STANDARD and os.readlink(f"/proc/self/fd/{name}").startswith(_NOT_SHARED):
                return True
    return False
