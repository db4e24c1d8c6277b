"""A call of a script, which can be sent, sent again, or sent together with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from taskfleet import foreign
from taskfleet.redis.scripts import Script

R_co = TypeVar("R_co", covariant=True)


class ScriptCall(NamedTuple, Generic[R_co]):
    """A script, its keys and arguments. `read` converts the reply of Redis."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Any]
    read: Callable[[Any], R_co]


def texts(reply: Sequence[bytes]) -> list[str]:
    """A list of names or ids."""
    return [foreign.text(each) for each in reply]
