"""'Did you mean': the errors for names and ids that are not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from taskfleet.errors import TaskQueueError
from taskfleet.showing import shown

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

_LISTED = 10


class UnknownNameError(TaskQueueError):
    """The command names a thing that does not exist."""


def unknown(what: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error `what 'name'; known: …`, with a similar name if there is one."""
    names = sorted(set(known))
    if not names:
        return UnknownNameError(f"{what} {name!r}; there is none")
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    listed = ", ".join(map(shown, names[:_LISTED]))
    return UnknownNameError(f"{what} {name!r}; known: {listed}{more}{hint(name, names)}")


def hint(name: str, known: Iterable[str], least: float = 0.6) -> str:
    """` (did you mean 'x'?)`, or an empty string. Names that differ only at the end come first."""
    names = list(known)
    longer = [each for each in names if len(name) > 3 and each.startswith(name)]
    near = longer[:1] or difflib.get_close_matches(name[:255], _shorter(name, names, least) or names, 1, least)
    return f" (did you mean {shown(near[0])!r}?)" if near else ""


def _shorter(name: str, names: Iterable[str], least: float) -> list[str]:
    """The similar names among `names` that `name` begins with: it has characters too many.

    Ids of tasks that were sent together are as near to each other, so that likeness alone would pick any of them.
    """
    return [each for each in names if name.startswith(each) and 2 * len(each) >= least * (len(each) + len(name))]


async def known_queue(queue: TaskQueue, name: str) -> str:
    """`name`, if a queue of that name has had a task, is configured, or is named by a worker or a schedule."""
    from taskfleet import queue_names

    queue_names.validate(name)
    known = await _queues(queue, name)
    if name not in known:
        raise unknown("there is no queue", name, known)
    return name


async def new_or_known_queue(queue: TaskQueue, name: str) -> None:
    """Any task may be the first of its queue, but not where another queue has a similar name: that is a typing error.

    Errors: `UnknownNameError`, before anything is sent.
    """
    if not name or name in queue.application.named_queues:
        return
    known = await _queues(queue, name)
    if name not in known and hint(name, known):
        problem = unknown("there is no queue", name, known)
        raise UnknownNameError(f"{problem}; a new queue gets its first task when the application names it (queues=)")


async def _queues(queue: TaskQueue, wanted: str) -> set[str]:
    """The names of the queues: at least, whether `wanted` is one of them."""
    known = set(await queue.broker.queues()) | queue.application.named_queues
    if wanted not in known:
        for worker in await queue.workers():
            known.update(worker.queues)
    return known
