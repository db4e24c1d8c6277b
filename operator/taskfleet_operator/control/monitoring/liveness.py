"""What tells that the operator does its work: signs that a probe asks for, each with what is wrong in words.

A sign looks only at this process. An API server or a Redis that does not answer is no reason for a restart, until it
has lasted so long that the fault may be on this side: credentials that were replaced, a connection that nobody ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

Sign = Callable[[], str]
"""What is wrong now, "" when nothing is."""

SILENT_SECONDS = 300.0
STUCK_SECONDS = 180.0
REFUSED_SECONDS = 120.0


class Watches(Protocol):
    """The part of `Informers` that is looked at."""

    def stuck(self) -> tuple[str, float]: ...

    def silent(self) -> tuple[str, float]: ...


class Works(Protocol):
    """The part of `WorkQueue` that is looked at."""

    @property
    def oldest_seconds(self) -> float: ...

    @property
    def longest_call_seconds(self) -> float: ...


class Liveness:
    """All signs together."""

    def __init__(self) -> None:
        self._signs: list[Sign] = []

    def add(self, *signs: Sign) -> None:
        self._signs += signs

    def problems(self) -> list[str]:
        return [problem for sign in self._signs if (problem := sign())]


def runs(what: str, task: asyncio.Task[Any]) -> Sign:
    """The task, which never ends, has not ended."""
    return lambda: f"{what} has ended" if task.done() else ""


def watches(found: Watches) -> Sign:
    """Every watch moves, and the API server is heard now and then."""

    def problem() -> str:
        informer, seconds = found.stuck()
        if seconds > STUCK_SECONDS:
            return f"{informer} has done nothing for {seconds:.0f} s"
        informer, seconds = found.silent()
        return f"{informer} has heard nothing for {seconds:.0f} s" if seconds > SILENT_SECONDS else ""

    return problem


def accepted(unauthorized_for: Callable[[], float]) -> Sign:
    """The API server accepts this operator's credentials. After a refusal they are loaded again by themselves."""

    def problem() -> str:
        seconds = unauthorized_for()
        told = f"the API server has refused the operator's credentials (401) for {seconds:.0f} s"
        return told if seconds > REFUSED_SECONDS else ""

    return problem


def works(found: Callable[[], Works | None]) -> Sign:
    """The work queue, if there is one now, gets on."""

    def problem() -> str:
        work = found()
        if work is None:
            return ""
        if work.longest_call_seconds > STUCK_SECONDS:
            return f"a reconcile has taken {work.longest_call_seconds:.0f} s and has not ended"
        if work.oldest_seconds > STUCK_SECONDS:
            return f"a TaskQueue has waited for {work.oldest_seconds:.0f} s to be reconciled"
        return ""

    return problem


def listens(found: Callable[[], Iterable[str]]) -> Sign:
    """No listener for work has died. One whose Redis does not answer tries again, and lives."""

    def problem() -> str:
        dead = sorted(found())
        return f"the listener for work has died: {', '.join(dead[:3])}" if dead else ""

    return problem
