"""Topics: what can be watched, and how often each is read."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel

from taskfleet_dashboard.refusals import Refused

MOST_TOPICS_OF_STREAM = 20
_MOST_CHARACTERS = 400

Read = Callable[[str], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of topic: how it is read, every how many seconds, and whether it has a subject (`queue:NAME`)."""

    read: Read
    seconds: float
    subject: bool = False


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that is watched."""

    name: str
    kind: Kind
    subject: str


def parsed(text: str, kinds: dict[str, Kind]) -> list[Topic]:
    """The topics of a request. Errors: `Refused`."""
    names = list(dict.fromkeys(name for name in (part.strip() for part in text.split(",")) if name))
    if not names or len(names) > MOST_TOPICS_OF_STREAM:
        raise Refused(
            422, f"topics names {len(names)} topics; give 1 to {MOST_TOPICS_OF_STREAM}, with commas between them"
        )
    return [_topic(name, kinds) for name in names]


def _topic(name: str, kinds: dict[str, Kind]) -> Topic:
    head, colon, subject = name.partition(":")
    kind = kinds.get(head)
    sound = len(name) <= _MOST_CHARACTERS and re.fullmatch(r"[^\s\x00-\x1f]+", name)
    if kind is None or bool(colon) != kind.subject or (kind.subject and not subject) or not sound:
        known = ", ".join(f"{each}:…" if kinds[each].subject else each for each in kinds)
        raise Refused(422, f"there is no topic {name[:100]!r}; there are {known}")
    return Topic(name, kind, subject)
