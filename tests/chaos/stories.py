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


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a process. The suite looks from time to time: it was alive at `alive`, and gone at `gone`."""

    alive: float
    gone: float
    how: str


DRAINED = "drained"  # how a worker ended that left nothing behind
STARVED = "did not get to run"  # a process
SLOW = "starved"  # the proxy and Redis, and so everyone
BEAT_SECONDS = 0.2  # how often a worker says that it is awake
NOTED_SECONDS = 0.25  # a pause that a busy machine makes is noted from this length on
BUSY = {STARVED, SLOW}  # windows that the machine made, and no fault
_PAUSE_SECONDS = 0.5  # pauses of a busy machine that are closer, and that last as long, are one


def starved_seconds(passed: float, worked: float) -> float:
    """How long of `passed` seconds a process got no processor time, when its threads have used `worked` of it.

    A process that works all the time, and lets one of its threads wait, has only itself to blame.
    """
    return passed - worked


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
        died: dict[str, Death] | None = None,
        draining: dict[str, float] | None = None,
    ) -> None:
        self.lease = lease
        self.died = died or {}
        self.draining = draining or {}
        self._everywhere: list[Window] = []
        self._of: dict[str, list[Window]] = defaultdict(list)
        for window in windows:
            (self._everywhere if window.slot == "*" else self._of[window.slot]).append(window)
        self._patience = (
            lease / 3 + 0.5
        )  # within reach for as long, a worker renews: each third of a lease, or its retry
        self._spans: dict[str, list[tuple[float, float]]] = {}

    def spans(self, process: str) -> list[tuple[float, float]]:
        """When the process was out of reach, in order. Spans with no room for a renewal between them are one.

        A connection that broke is made again, and the renewal tried again, some time after the trouble. A machine that
        was busy breaks nothing: what waited is answered at once, and many short pauses together cost no lease.
        """
        slot = slot_of(process)
        spans = self._spans.get(slot)
        if spans is None:
            spans = self._spans[slot] = []
            until = 0.0  # a window that begins by then belongs to the span before it
            for window in sorted((*self._everywhere, *self._of.get(slot, ())), key=lambda window: window.start):
                if spans and window.start <= until:
                    spans[-1] = spans[-1][0], max(window.end, spans[-1][1])
                else:
                    spans.append((window.start, window.end))
                pause = min(_PAUSE_SECONDS, window.end - window.start)
                until = max(until, window.end + (pause if window.what in BUSY else self._patience))
        return spans

    def out_of_reach(self, process: str, start: float, end: float) -> float:
        """The longest span (s) that can have cost a lease of [start, end].

        What comes after `end` does not count: by then the lease was lost. A span before `start` counts when it can have
        held up the reply to the claim: then the task begins soon after it, or its worker hears of the loss.
        """
        longest = 0.0
        spans = self.spans(process)
        for i in range(bisect_right(spans, (end, float("inf"))) - 1, -1, -1):
            first, last = spans[i]
            if last < start - self._patience:
                break
            longest = max(longest, min(last, end) - first)
        return longest

    def out_of_reach_within(self, process: str, start: float, end: float) -> float:
        """How many seconds of [start, end] the process was out of reach, the time to notice counted in."""
        seconds = 0.0
        for first, last in self.spans(process):
            until = min(end, last + self._patience)
            seconds += max(0.0, until - max(start, first))
            start = max(start, until)  # the next span may begin within the time to notice
        return seconds
