"""A progress bar on stderr, on a terminal only, and with rich only."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

_LOOK_SECONDS = 0.5


@contextlib.contextmanager
def bar(what: str, total: float | None) -> Generator[Callable[[float, str], None]]:
    """Gives a function that sets how much of `total` is done, with a note. An unknown total is a moving bar."""
    if not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda _done, _note: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total, note="")
        yield lambda done, note: progress.update(task, completed=done, note=note)


async def watched(work: Coroutine[Any, Any, int], what: str, total: int, left: Callable[[], Awaitable[int]]) -> int:
    """Await `work` with a bar; `left` tells how much of `total` is still to do."""
    import asyncio

    if not sys.stderr.isatty():
        return await work
    task = asyncio.ensure_future(work)
    with bar(what, total) as update:
        while not (await asyncio.wait([task], timeout=_LOOK_SECONDS))[0]:
            update(max(0, total - await left()), "")
    return await task
