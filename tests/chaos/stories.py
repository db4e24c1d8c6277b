"""The story of one task, from the ledgers and Redis, and the events around it."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

# The answer that the producer got. `merged`: another task has its unique key, and this one was not added. `unknown`:
# the call failed, or its producer was killed, after the task may have arrived.
Answer = Literal["accepted", "unknown", "refused", "merged"]
# How a handler ended: `cut` is a handler that was cancelled or interrupted, None one that never ended.
Ending = Literal["ok", "raised", "cut"]


@dataclass(slots=True)
class Run:
    """One run of a handler. `process` is the ledger it was noted in."""

    process: str
    attempt: int
    delivery: int
    began: float
    ended: float | None = None
    how: Ending | None = None


@dataclass(slots=True)
class EndRecord:
    """The record of a task in Redis at the end of a run.

    `state` is succeeded, cancelled, expired (result records), failed, dead, cancelled (dead letters), `gone` (no trace:
    ended without a result to keep, or lost) or `stuck` (it still waits or runs).
    """

    state: str
    value: Any = None
    reason: str = ""
    attempts: int = 0
    deliveries: int = 0
    letter: bool = False


@dataclass(slots=True)
class Story:
    """One task from its sending to its end."""

    id: str
    n: int
    kind: str
    queue: str
    sent: float
    answer: Answer
    executions: list[Run] = field(default_factory=list)
    cancels: list[float] = field(default_factory=list)  # when its cancellation was asked for
    cancelled_by_others: bool = False  # a workflow or a unique key may cancel it
    waits: list[tuple[str, Any]] = field(default_factory=list)  # answers to callers that awaited the result
    outcome: EndRecord = field(default_factory=lambda: EndRecord("gone"))

    @property
    def last_delivery(self) -> int:
        return max((execution.delivery for execution in self.executions), default=0)


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which the process of a slot could not reach Redis, or did not run. `slot` "*" is every slot."""

    slot: str
    start: float
    end: float
    what: str


DRAINED = "drained"  # how a worker ended that left nothing behind


def slot_of(process: str) -> str:
    """The slot of a process, from the name of its ledger (`worker-w1.1234`)."""
    return process.partition("-")[2].rpartition(".")[0] or process


class Surroundings:
    """The events around the tasks: when each process died, was told to drain, and was out of reach."""

    def __init__(
        self,
        *,
        lease: float,
        windows: Iterable[Window] = (),
        died: dict[str, tuple[float, str]] | None = None,
        draining: dict[str, float] | None = None,
    ) -> None:
        self.lease = lease
        self.died = died or {}
        self.draining = draining or {}
        self._everywhere: list[Window] = []
        self._of: dict[str, list[Window]] = defaultdict(list)
        for window in windows:
            (self._everywhere if window.slot == "*" else self._of[window.slot]).append(window)
        self._spans: dict[str, list[tuple[float, float]]] = {}

    def spans(self, process: str) -> list[tuple[float, float]]:
        """When the process was out of reach, in order. Spans closer than a renewal and a reconnection are one."""
        slot = slot_of(process)
        spans = self._spans.get(slot)
        if spans is None:
            merged: list[tuple[float, float]] = []
            patience = self.lease / 3 + 0.5
            windows = sorted((window.start, window.end) for window in (*self._everywhere, *self._of.get(slot, ())))
            for start, end in windows:
                if merged and start - merged[-1][1] <= patience:
                    merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
                else:
                    merged.append((start, end))
            spans = self._spans[slot] = merged
        return spans

    def out_of_reach(self, process: str, start: float, end: float) -> float:
        """The longest span (s) that touches [start, end]."""
        longest = 0.0
        spans = self.spans(process)
        for i in range(bisect_right(spans, (end, float("inf"))) - 1, -1, -1):
            if spans[i][1] < start - self.lease:
                break
            longest = max(longest, spans[i][1] - spans[i][0])
        return longest

    def out_of_reach_within(self, process: str, start: float, end: float) -> float:
        """How many seconds of [start, end] the process was out of reach, the time to notice counted in."""
        patience = self.lease / 3 + 0.5
        return sum(max(0.0, min(end, last + patience) - max(start, first)) for first, last in self.spans(process))
