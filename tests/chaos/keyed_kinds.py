"""Kinds of tasks with keys: unique, limited, fair; and a queue in several partitions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Hashable, Iterable
from random import Random
from typing import Any

from taskfleet import Message, Retry, TaskQueue
from tests.chaos.kinds import LIMIT, Kind, Nap, Notes, Returned, returned
from tests.chaos.stories import Run, Story


class Unique(Kind):
    """At most one task of a key waits or runs: of a second one the sender gets the first one's handle."""

    name = "unique"
    share = 2_000

    def key(self, n: int) -> str:
        return f"u{n % 11}"

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        @queue.task(name=self.name, queue="default", max_retries=2, retry=Retry.fixed(0.1))
        async def unique(n: int) -> Returned:
            with notes.execution(n) as task:
                await asyncio.sleep(0.05)
                if task.attempt == 1 and n % 3 == 0:
                    raise ValueError("as it should on its first attempt")
                return returned(n, task)

        self.task = unique

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(unique_key=self.key(n)).message(n)

    def together(self, story: Story) -> Hashable:
        return self.key(story.n)

    def judge_together(self, stories: list[Story]) -> Iterable[str]:
        runs = sorted(((run, story) for story in stories for run in lasting(story)), key=lambda pair: pair[0].began)
        for (before, one), (after, other) in itertools.pairwise(runs):
            if one is not other and before.ended is not None and after.began < before.ended:
                yield (
                    f"tasks {one.n} and {other.n} of the unique key {self.key(one.n)} ran side by side: "
                    f"{before.began:.3f}..{before.ended:.3f} and from {after.began:.3f}"
                )


class Debounced(Nap):
    """Of several tasks of a key in a short time only the last is run; the others end as replaced."""

    name = "debounced"
    share = 1_500
    ends = ("succeeded", "cancelled")
    cancelled_by_others = True

    def message(self, n: int, draw: Random) -> Message[Any]:
        options = self.task.options(unique_key=f"d{n % 17}", unique_mode="debounce", delay=0.3)
        return options.message(n, 0.0)


class Limited(Nap):
    """Never more of one key at once than the queue allows."""

    name = "limited"
    share = 2_000

    def key(self, n: int) -> str:
        return f"l{n % 5}"

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(queue="limited", limit_key=self.key(n)).message(n, draw.choice((0.0, 0.02, 0.1)))

    def together(self, story: Story) -> Hashable:
        return self.key(story.n)

    def judge_together(self, stories: list[Story]) -> Iterable[str]:
        changes = [
            (at, change)
            for story in stories
            for run in lasting(story)
            if run.ended is not None
            for at, change in ((run.began, 1), (run.ended, -1))
        ]
        running = 0
        for at, change in sorted(changes):
            running += change
            if running > LIMIT:
                yield f"{running} tasks of the limit key {self.key(stories[0].n)} ran at once at {at:.3f}, not {LIMIT}"
                return


class Rated(Nap):
    """A queue with a rate, and one for each key."""

    name = "rated"
    share = 1_500

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(queue="rated", limit_key=f"r{n % 4}").message(n, 0.0)


class Fair(Nap):
    """Keys that take turns."""

    name = "fair"
    share = 2_000

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(queue="fair", fair_key=f"f{n % 4}").message(n, draw.choice((0.0, 0.01)))


class Spread(Nap):
    """A queue in several partitions."""

    name = "spread"
    share = 2_000

    def message(self, n: int, draw: Random) -> Message[Any]:
        return self.task.options(queue="spread").message(n, draw.choice((0.0, 0.01)))


def lasting(story: Story) -> list[Run]:
    """The executions that were not taken over: while they ran, they held the key."""
    return [run for run in story.executions if run.how == "ok" and run.delivery == story.last_delivery]
