"""A program that is not ours, and does not outlive us."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from taskfleet.child_process import ends_with_this_process


def start(command: Sequence[str], *, environment: Mapping[str, str], output: Path) -> subprocess.Popen[bytes]:
    """Start a program that gets SIGTERM when this process is gone, even if that was killed with -9 (on Linux).

    It runs in a session of its own: Ctrl-C is for us to hear. It writes to a file, not to a pipe, so that after our
    death its last words do not break it.
    """
    with output.open("ab") as sink:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=ends_with_this_process(signal.SIGTERM),  # this process has one thread when it starts one
        )
