"""The sentence that says where a task waits and for what: a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from taskfleet import QueueOptions, RateLimit, WorkerInfo
from taskfleet.inspection.waiting import Surroundings, sentence, span
from taskfleet.protocol.task_record import Inspection, TaskRecord

NOW = 1_700_000_000_000
WORKER = WorkerInfo("w/0", "w", 1, 4, 1, ("q",), "running", 0.0, 0.0, 1, "1")
BUSY = replace(WORKER, busy=4)
LEAVING = replace(WORKER, state="draining")


def around(
    options: QueueOptions | None = None,
    *,
    workers: Sequence[WorkerInfo] = (WORKER,),
    others: Sequence[tuple[str, str]] = (),
    paused: bool = False,
    running: int = 0,
    tokens: float | None = None,
    max_retries: int | None = None,
) -> Surroundings:
    moment = Inspection(NOW, paused, running, tokens, NOW - 1000, [])
    return Surroundings(moment, options or QueueOptions("q"), workers, others, max_retries, line=100)


READY = TaskRecord("t", "ready", ahead=3)
DELAYED = TaskRecord("t", "delayed", due_ms=NOW + 42_000)
RETRYING = TaskRecord("t", "retrying", due_ms=NOW + 12_000, attempt=3)
BLOCKED = TaskRecord("t", "blocked", pending=1)
PARKED = TaskRecord("t", "delayed", parked=True, limit="a", key_runs=2)
RUNNING = TaskRecord("t", "running", lease_ms=NOW + 1000)
LIMITED = QueueOptions("q", rate_limit=RateLimit(0.5, 1))

CASES: list[tuple[TaskRecord, Surroundings, str | None]] = [
    (READY, around(), "in line behind 3 others"),
    (READY._replace(ahead=1), around(), "in line behind 1 other"),
    (READY._replace(ahead=0), around(), "first in line"),
    (READY._replace(ahead=-1), around(), "in line behind 100 others or more"),
    (READY, around(workers=[BUSY]), "in line behind 3 others, for a free slot: all 4 are busy"),
    (READY._replace(ahead=0), around(workers=[replace(BUSY, slots=1, busy=1)]),
     "first in line, for a free slot: the only one is busy"),
    (READY, around(paused=True), "the queue is paused"),
    (READY, around(workers=[]), "no worker takes this queue"),
    (READY, around(workers=[LEAVING]), "every worker of this queue is draining or cordoned"),
    (READY, around(workers=[LEAVING, WORKER]), "in line behind 3 others"),
    (READY, around(LIMITED, tokens=0.0), "for the rate limit of its queue: the next task may start in 1 s"),
    (READY, around(LIMITED, tokens=1.0), "in line behind 3 others"),
    (READY, around(LIMITED), "in line behind 3 others"),
    (READY, around(QueueOptions("q", concurrency=4), running=4), "for the concurrency of its queue: 4 of 4 run"),
    (READY, around(QueueOptions("q", concurrency=4), running=3), "in line behind 3 others"),
    (DELAYED, around(), "for its time, in 42 s"),
    (DELAYED, around(paused=True), "for its time, in 42 s; the queue is paused"),
    (DELAYED._replace(due_ms=NOW - 5), around(), "for its time, which has come: the next claim takes it"),
    (DELAYED._replace(unique="u", holder="x"), around(), "for task x, which has its unique key 'u'"),
    (DELAYED._replace(unique="u", holder="t"), around(), "for its time, in 42 s"),
    (RETRYING, around(), "for attempt 3, in 12 s"),
    (RETRYING, around(max_retries=3), "for attempt 3 of 4, in 12 s"),
    (RETRYING._replace(due_ms=NOW), around(max_retries=3), "for attempt 3 of 4, whose time has come"),
    (PARKED, around(QueueOptions("q", concurrency_per_key=2)), "for limit key 'a': 2 of 2 run"),
    (PARKED, around(), "for limit key 'a': 2 run"),
    (PARKED._replace(key_runs=1), around(), "for limit key 'a': 1 runs"),
    (PARKED._replace(key_at_ms=NOW + 3000), around(),
     "for limit key 'a': its rate limit lets the next task start in 3 s"),
    (PARKED._replace(limit="\x1b[2J"), around(), r"for limit key '\x1b[2J': 2 run"),
    (BLOCKED, around(others=[("x", "running")]), "for task x, which is running"),
    (BLOCKED, around(others=[("x", "retrying")]), "for task x, which waits for its next attempt"),
    (BLOCKED, around(others=[("x", "succeeded")]), "for task x, which has ended (succeeded)"),
    (BLOCKED, around(), "for another task"),
    (BLOCKED._replace(pending=9), around(), "for 9 other tasks"),
    (BLOCKED._replace(pending=2), around(others=[("x", "ready"), ("y", "blocked")]),
     "for 2 tasks: x (ready), y (blocked)"),
    (BLOCKED._replace(pending=5), around(others=[(c, "ready") for c in "abcde"]),
     "for 5 tasks: a (ready), b (ready), c (ready) and 2 more"),
    (RUNNING, around(), None),
    (RUNNING._replace(cancelling=True), around(), "for its worker to stop it, since it was cancelled"),
    (RUNNING._replace(lease_ms=NOW - 30_000), around(),
     "for another worker: the lease of its worker ended 30 s ago"),
    (TaskRecord("t", "ended"), around(), None),
    (TaskRecord("t", "dead"), around(paused=True), None),
]  # fmt: skip


@pytest.mark.parametrize(("record", "surroundings", "words"), CASES)
def test_the_sentence(record: TaskRecord, surroundings: Surroundings, words: str | None) -> None:
    assert sentence(record, surroundings) == words


@pytest.mark.parametrize(
    ("ms", "words"),
    [(-5, "0 s"), (0, "0 s"), (1, "1 s"), (1499, "1 s"), (42_000, "42 s"), (119_000, "119 s"), (120_000, "2 min"),
     (7_199_000, "120 min"), (7_200_000, "2 h"), (172_800_000, "2 d")],
)  # fmt: skip
def test_a_span_is_in_the_largest_unit_of_which_there_are_two(ms: float, words: str) -> None:
    assert span(ms) == words
