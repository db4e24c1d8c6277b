"""How a worker process finds the pipe of its supervisor: figures_pipe.py, which other workers do not import."""

from __future__ import annotations

import os

VARIABLE = "TASKFLEET_FIGURES_PIPE"


def inherited() -> int | None:
    """The descriptor that the supervisor has passed to this process, if one has. Children of this process get none."""
    number = os.environ.pop(VARIABLE, "")
    if not number.isdigit():
        return None
    try:
        os.set_inheritable(int(number), False)
    except OSError:
        return None
    return int(number)
