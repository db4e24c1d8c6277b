"""Kinds of tasks, one class each: how it is sent, its handler, and the ends that are right.

A new feature is a new class in `workload.KINDS`: give it a share, define its handlers, make its call from a number, and
say in `judge`, or in `judge_together`, which ends are right. Shares are parts per 100,000 of all calls. Workers of
earlier versions import the kinds too, so these modules use public names of the library only. Features that the first
version (`old_version.FIRST`) lacks stand in `keyed_kinds` and `workflow_kinds`, which it does not import.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from taskfleet import Message, Retry, TaskContext, TaskQueue, current_task
from tests.chaos.ledger import Ledger, now
from tests.chaos.stories import Story

LEASE_SECONDS = 3.0
LIMIT = 2  # how many of one limit key run at once in the queue `limited`
POISONED = 66  # the exit code of a worker that its task has ended

Returned = list[int]  # the result of a handler: number, attempt, delivery


def queues() -> list[dict[str, Any]]:
    """The options of the queues, for workers and producers alike."""
    kept = {"max_length": 1_000_000, "ttl_seconds": 86_400.0}
    common = {"lease_seconds": LEASE_SECONDS, "max_deliveries": 50, "dead_letter": kept}
    return [
        {"name": "high", "priority": 10, **common},
        {"name": "default", "weight": 3, **common},
        {"name": "low", "weight": 1, **common},
        {"name": "mixed", **common},
        {"name": "bounded", "max_length": 20, **common},
        {"name": "fragile", **common, "max_deliveries": 2},
        {"name": "limited", "concurrency_per_key": LIMIT, **common},
        {
            "name": "rated",
            "rate_limit": {"tasks_per_second": 200, "burst": 50},
            "rate_limit_per_key": {"tasks_per_second": 60, "burst": 10},
            **common,
        },
        {"name": "fair", **common},
        {"name": "spread", "partitions": 3, **common},
    ]


class Notes:
    """Writes down when handlers begin and end, before and after their work."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @contextlib.contextmanager
    def execution(self, n: int) -> Iterator[TaskContext]:
        task = current_task()
        self._ledger.note("begin", now(), task.id, n, task.attempt, task.delivery)
        how = "cut"
        try:
            yield task
            how = "ok"
        except Exception:
            how = "raised"
            raise
        finally:
            self._ledger.note("end", now(), task.id, task.delivery, how)


def returned(n: int, task: TaskContext) -> Returned:
    return [n, task.attempt, task.delivery]


class Kind:
    """One kind of call. Its parts are the tasks that it sends: one, or those of a workflow."""

    name: ClassVar[str]
    share: ClassVar[int]
    ends: ClassVar[tuple[str, ...]] = ("succeeded",)
    awaited: ClassVar[bool] = False  # its sender awaits the result
    kept: ClassVar[bool] = True  # its result is kept in Redis
    cancelled_by_others: ClassVar[bool] = False  # it may be cancelled without its sender's asking

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its tasks, in the order in which they get their ids."""
        return (self.name,)

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        """Define the handlers on `queue`."""
        raise NotImplementedError

    def call(self, n: int, draw: Random) -> tuple[Any, list[str]]:
        """(message or workflow, the queue of each part)."""
        message = self.message(n, draw)
        return message, [message.queue]

    def message(self, n: int, draw: Random) -> Message[Any]:
        """The call of a kind that is one task."""
        raise NotImplementedError

    def cancel_after(self, draw: Random) -> float | None:
        """When (s) its sender asks for its cancellation; None: never."""
        return None

    def judge(self, story: Story) -> Iterable[str]:
        """Defects of one task, beyond those that all kinds are checked for."""
        state = "succeeded" if story.outcome.state == "gone" else story.outcome.state
        if state not in self.ends:
            yield f"it may end as {' or '.join(self.ends)}, not as {state}"
        if story.outcome.state == "gone" and self.kept:
            yield "its result was to be kept and is gone"

    def together(self, story: Story) -> Hashable:
        """Tasks with the same value are judged together too; None: this one is not."""
        return None

    def judge_together(self, stories: list[Story]) -> Iterable[str]:
        """Defects of the tasks that `together` groups."""
        return ()


class Nap(Kind):
    """Immediate work of a few milliseconds, of three priorities; the base of the kinds that only wait."""

    name = "nap"
    share = 27_000

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        @queue.task(name=self.name, queue="default", max_retries=0)
        async def nap(n: int, seconds: float) -> Returned:
            with notes.execution(n) as task:
                await asyncio.sleep(seconds)
                return returned(n, task)

        self.task = nap

    def message(self, n: int, draw: Random) -> Message[Any]:
        name = draw.choices(("high", "default", "low"), (2, 5, 3))[0]
        return self.task.options(queue=name).message(n, draw.choice((0.0, 0.0, 0.005, 0.02)))


class Silent(Nap):
    """Work whose result is not kept."""

    name = "silent"
    share = 15_000
    kept = False

    def message(self, n: int, draw: Random) -> Message[Any]:
        name = draw.choices(("high", "default", "low"), (2, 5, 3))[0]
        return self.task.options(queue=name, result_ttl=0).message(n, draw.choice((0.0, 0.0, 0.005)))


class Plain(Nap):
    """Work that every version knows, on the queue that workers of all versions serve."""

    name = "plain"
    share = 10_000

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(queue="mixed").message(n, draw.choice((0.0, 0.005, 0.02)))


class PlainRetried(Kind):
    """A retry on the queue that all versions serve: the two attempts may run in different versions."""

    name = "plain_retried"
    share = 2_000

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        @queue.task(name=self.name, queue="mixed", max_retries=3, retry=Retry.fixed(0.2))
        async def plain_retried(n: int) -> Returned:
            with notes.execution(n) as task:
                if task.attempt == 1:
                    raise ValueError("as it should on its first attempt")
                return returned(n, task)

        self.task = plain_retried

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.message(n)


class Slow(Nap):
    """Work that outlasts a lease."""

    name = "slow"
    share = 600

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.message(n, draw.uniform(0.5, 1.5 * LEASE_SECONDS))


class Delayed(Nap):
    """Work that is due later, and never earlier."""

    name = "delayed"
    share = 9_000

    def delay(self, n: int) -> float:
        return (n * 37 % 500) / 100

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(delay=self.delay(n)).message(n, 0.0)

    def judge(self, story: Story) -> Iterable[str]:
        yield from super().judge(story)
        due = story.sent + self.delay(story.n)
        for execution in story.executions:
            # Redis counts whole milliseconds of another clock.
            if execution.began < due - 0.005:
                yield f"it ran {due - execution.began:.3f} s early"


class Awaited(Nap):
    """Work whose sender waits for the result."""

    name = "awaited"
    share = 1_500
    awaited = True


class Threaded(Kind):
    """A plain function in a thread."""

    name = "threaded"
    share = 4_000

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        @queue.task(name=self.name, queue="low", max_retries=0)
        def threaded(n: int, seconds: float) -> Returned:
            with notes.execution(n) as task:
                time.sleep(seconds)
                return returned(n, task)

        self.task = threaded

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.message(n, draw.choice((0.0, 0.01, 0.05)))


class Retried(Kind):
    """Work that fails its first attempts and then succeeds."""

    name = "retried"
    share = 6_000

    def failures(self, n: int) -> int:
        return 1 + n % 3

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        @queue.task(name=self.name, queue="default", max_retries=3, retry=Retry.fixed(0.2))
        async def retried(n: int, failures: int) -> Returned:
            with notes.execution(n) as task:
                if task.attempt <= failures:
                    raise ValueError("as it should")
                return returned(n, task)

        self.task = retried

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.message(n, self.failures(n))

    def judge(self, story: Story) -> Iterable[str]:
        yield from super().judge(story)
        if story.outcome.state == "succeeded" and story.outcome.value[1] != self.failures(story.n) + 1:
            yield f"it succeeded in attempt {story.outcome.value[1]}, not {self.failures(story.n) + 1}"


class Failing(Kind):
    """Work that fails for good: a dead letter after all its attempts, no sooner and no later."""

    name = "failing"
    share = 3_000
    ends = ("failed",)
    attempts = 2

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        @queue.task(name=self.name, queue="default", max_retries=self.attempts - 1, retry=Retry.fixed(0.1))
        async def failing(n: int) -> Returned:
            with notes.execution(n):
                raise ValueError("as it should, for good")

        self.task = failing

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.message(n)

    def judge(self, story: Story) -> Iterable[str]:
        yield from super().judge(story)
        if story.outcome.state == "failed" and story.outcome.attempts != self.attempts:
            yield f"it was buried after attempt {story.outcome.attempts}, not {self.attempts}"


class TimedOut(Nap):
    """Work that runs into its timeout."""

    name = "timed_out"
    share = 1_000
    ends = ("failed",)

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(timeout=draw.uniform(0.1, 0.5)).message(n, 30.0)

    def judge(self, story: Story) -> Iterable[str]:
        yield from super().judge(story)
        if story.outcome.state == "failed" and story.outcome.reason != "timeout":
            yield f"it was buried for {story.outcome.reason}, not for its timeout"


class CancelledWaiting(Nap):
    """Delayed work whose sender cancels it; with luck it ran before."""

    name = "cancelled_waiting"
    share = 3_000
    ends = ("cancelled", "succeeded")

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(delay=draw.uniform(0.0, 3.0)).message(n, 0.0)

    def cancel_after(self, draw: Random) -> float | None:
        return draw.uniform(0.0, 1.0)


class CancelledRunning(Nap):
    """Work that is cancelled while it runs."""

    name = "cancelled_running"
    share = 700
    ends = ("cancelled", "succeeded")

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.message(n, 4.0)

    def cancel_after(self, draw: Random) -> float | None:
        return draw.uniform(0.2, 2.0)


class Expiring(Nap):
    """Delayed work that may be too old when its time comes."""

    name = "expiring"
    share = 2_000
    ends = ("expired", "succeeded")

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(delay=draw.uniform(0.0, 1.0), expires=draw.uniform(0.2, 1.5)).message(n, 0.0)


class Bounded(Nap):
    """A queue with a length limit, which refuses tasks beyond it."""

    name = "bounded"
    share = 2_500

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(queue="bounded").message(n, 0.02)


class Unknown(Kind):
    """A task of a name that no worker knows."""

    name = "unknown"
    share = 400
    ends = ("dead",)

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        if os.environ.get("CHAOS_ROLE") != "producer":
            return

        @queue.task(name=self.name, queue="default")
        async def unknown(n: int) -> None: ...

        self.task = unknown

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.message(n)

    def judge(self, story: Story) -> Iterable[str]:
        yield from super().judge(story)
        if story.outcome.reason != "unknown_task":
            yield f"it was buried for {story.outcome.reason!r}, not as unknown"


class Poison(Kind):
    """A task that kills its worker: buried after the deliveries that its queue allows."""

    name = "poison"
    share = 10
    ends = ("dead",)

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        @queue.task(name=self.name, queue="fragile")
        async def poison(n: int) -> None:
            with notes.execution(n):
                os._exit(POISONED)

        self.task = poison

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.message(n)

    def judge(self, story: Story) -> Iterable[str]:
        yield from super().judge(story)
        if story.outcome.reason != "max_deliveries":
            yield f"it was buried for {story.outcome.reason!r}, not for its deliveries"
        if len(story.executions) > 2:
            yield f"it killed {len(story.executions)} workers, more than max_deliveries=2"


def ledger_folder() -> Path:
    """The folder of the ledgers of this run."""
    return Path(os.environ["CHAOS_LEDGER"])
