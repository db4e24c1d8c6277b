"""Kinds of calls that are workflows: a chain in one queue, a chord across queues."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from random import Random
from typing import Any, ClassVar

from taskfleet import Retry, TaskQueue, chain, chord
from tests.chaos.kinds import Kind, Notes, Returned, returned
from tests.chaos.stories import Story


class WorkflowKind(Kind):
    """Several tasks, the last of which waits for those before it. Every tenth fails for good at its first task."""

    size: ClassVar[int]
    cancelled_by_others = True
    ends = ("succeeded", "failed", "cancelled")

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(f"{self.name}.{position}" for position in range(self.size))

    def fails(self, n: int) -> bool:
        return n % 10 == 0

    def waits_for(self, position: int) -> list[int]:
        raise NotImplementedError

    def together(self, story: Story) -> Hashable:
        return story.n

    def judge_together(self, stories: list[Story]) -> Iterable[str]:
        by_position = {int(story.kind.rpartition(".")[2]): story for story in stories}
        n = stories[0].n
        for position, story in by_position.items():
            for before in (by_position[at] for at in self.waits_for(position)):
                done = min((run.ended for run in before.executions if run.how == "ok" and run.ended), default=None)
                for run in story.executions:
                    if done is None or run.began < done:
                        yield f"workflow {n}: {story.kind} began at {run.began:.3f}, {before.kind} was done at {done}"
            if stories[0].answer == "accepted":
                state = story.outcome.state
                right = "succeeded"
                if self.fails(n):
                    right = "failed" if position == 0 else "cancelled" if self.waits_for(position) else "succeeded"
                if state != right:
                    yield f"workflow {n}: {story.kind} (id {story.id}) ended as {state}, not {right}"
        if len(by_position) != self.size:
            yield f"workflow {n}: {len(by_position)} of its {self.size} tasks were noted"


class ChainKind(WorkflowKind):
    """Three tasks of one queue; it arrives as a whole."""

    name = "chain"
    share = 1_500
    size = 3

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        @queue.task(name="chain.first", queue="default", max_retries=1, retry=Retry.fixed(0.1))
        async def first(n: int, fails: bool) -> Returned:
            with notes.execution(n) as task:
                if fails or (n % 4 == 1 and task.attempt == 1):
                    raise ValueError("as it should")
                return returned(n, task)

        @queue.task(name="chain.next", queue="default", max_retries=0)
        async def behind(before: Returned, n: int) -> Returned:
            with notes.execution(n) as task:
                assert before[0] == n, f"{before} is not the result of the one before"
                return returned(n, task)

        self._first = first
        self._next: Any = behind  # Any: its first argument is the result of the one before

    def waits_for(self, position: int) -> list[int]:
        return [position - 1] if position else []

    def call(self, n: int, draw: Random) -> tuple[Any, list[str]]:
        steps = (self._first.message(n, self.fails(n)), self._next.message(n), self._next.message(n))
        return chain(*steps), ["default"] * 3

    def judge_together(self, stories: list[Story]) -> Iterable[str]:
        yield from super().judge_together(stories)
        arrived = [story for story in stories if story.executions or story.outcome.state != "gone"]
        if 0 < len(arrived) < len(stories):
            yield f"chain {stories[0].n}: only {len(arrived)} of {len(stories)} tasks arrived"


class ChordKind(WorkflowKind):
    """Two tasks in two queues, and one behind them in a third."""

    name = "chord"
    share = 1_000
    size = 3
    _queues = ("default", "low", "high")

    def define(self, queue: TaskQueue, notes: Notes) -> None:
        @queue.task(name="chord.member", max_retries=0)
        async def member(n: int, fails: bool) -> Returned:
            with notes.execution(n) as task:
                if fails:
                    raise ValueError("as it should")
                return returned(n, task)

        @queue.task(name="chord.callback", max_retries=0)
        async def callback(members: list[Returned], n: int) -> Returned:
            with notes.execution(n) as task:
                assert [each[0] for each in members] == [n, n], f"{members} are not the results of the members"
                return returned(n, task)

        self._member = member
        self._callback: Any = callback  # Any: its first argument is the list of results

    def waits_for(self, position: int) -> list[int]:
        return [0, 1] if position == 2 else []

    def call(self, n: int, draw: Random) -> tuple[Any, list[str]]:
        members = [
            self._member.options(queue=name).message(n, self.fails(n) and name == self._queues[0])
            for name in self._queues[:2]
        ]
        callback = self._callback.options(queue=self._queues[2]).message(n)
        return chord(members, callback), list(self._queues)
