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
    near = difflib.get_close_matches(name[:255], names, 1)
    hint = f" (did you mean {shown(near[0])!r}?)" if near else ""
    return UnknownNameError(f"{what} {name!r}; known: {', '.join(map(shown, names[:_LISTED]))}{more}{hint}")


async def known_queue(queue: TaskQueue, name: str) -> str:
    """`name`, if a queue of that name has had a task, is configured, or is named by a worker or a schedule."""
    from taskfleet import queue_names

    queue_names.validate(name)
    known = set(await queue.broker.queues()) | {options.name for options in queue.application.queue_options}
    if name in known:
        return name
    for worker in await queue.workers():
        known.update(worker.queues)
    if name not in known:
        raise unknown("there is no queue", name, known)
    return name
