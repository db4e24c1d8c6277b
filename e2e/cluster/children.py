"""Processes that end with their parent, however it ends."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def start_child(arguments: Sequence[str | Path], *, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that writes to `log`, and that the kernel kills when this process is gone."""
    from taskfleet.child_process import ends_with_this_process  # `python -m e2e.cluster` runs without the product

    with log.open("ab") as output:
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=ends_with_this_process(),
            start_new_session=True,  # Ctrl-C in a terminal stops the tests, which then stop their servers
        )
