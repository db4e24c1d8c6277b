"""The traceback of a task, as its author knows it: without the frames of the worker."""

from __future__ import annotations

import re

from taskfleet.showing import lines

_OURS = re.compile(r'  File "[^"]*[/\\]taskfleet[/\\](runtime|tasks|process|testing|travel|cli)[/\\][^"]*", line ')


def shown_trace(trace: str) -> str:
    """The lines of a traceback, safe to print. A traceback of our frames alone stays whole."""
    kept: list[str] = []
    ours = False
    for line in trace.rstrip("\n").split("\n"):
        if line.startswith('  File "'):
            ours = _OURS.match(line) is not None
        elif not line.startswith("    "):
            ours = False
        if not ours:
            kept.append(line)
    return lines("\n".join(kept if any(line.startswith('  File "') for line in kept) else trace.split("\n")))
