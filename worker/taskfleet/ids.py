"""Task ids: unique without a call to Redis, and short."""

from __future__ import annotations

import itertools
import os
import re
import socket
from collections.abc import Iterator

_PREFIX_CHARACTERS = 16
_ID = re.compile(r"([0-9a-f]{16})([0-9a-f]{1,16})")


def _fresh() -> tuple[str, Iterator[int]]:
    return os.urandom(_PREFIX_CHARACTERS // 2).hex(), itertools.count(1)


_prefix, _count = _fresh()


def _after_fork() -> None:
    # A child that kept the parent's prefix and counter would make the same ids as the parent.
    global _prefix, _count
    _prefix, _count = _fresh()


os.register_at_fork(after_in_child=_after_fork)


def new_id() -> str:
    """64 random bits of this process and a counter, in hexadecimal."""
    return f"{_prefix}{next(_count):x}"


def new_ids(count: int) -> list[str]:
    """As many new ids."""
    prefix = _prefix
    return [f"{prefix}{number:x}" for number in itertools.islice(_count, count)]


def prefix() -> str:
    """The beginning of all ids that this process makes, and no other."""
    return _prefix


def who() -> str:
    """This process, as readers of its tasks see it: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def prefix_of(task_id: str) -> str | None:
    """The prefix of the process that made an id; `None` for an id that no process of Taskfleet made."""
    found = _ID.fullmatch(task_id)
    return found[1] if found else None


def order(task_id: str) -> tuple[int, str]:
    """A sort key: ids of one process in the order in which it made them."""
    return len(task_id), task_id


def near(task_id: str, distance: int) -> list[str]:
    """The ids that the same process made shortly before and after this one, the nearest first."""
    found = _ID.fullmatch(task_id)
    if found is None:
        return []
    start, number = found[1], int(found[2], 16)
    both = (number + sign * step for step in range(1, distance + 1) for sign in (-1, 1))
    return [f"{start}{each:x}" for each in both if each > 0]
