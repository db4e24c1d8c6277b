"""A producer: `python -m tests.chaos.producer NUMBER OF TASKS SECONDS SEED` sends its share of the tasks.

Every task is in the ledger before it can be in Redis: sent, then accepted, refused, or unknown when the call failed. A
producer that was killed leaves `sent` without an answer; the one that follows goes on behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from taskfleet import TaskQueue, ids
from taskfleet.errors import BrokerConnectionError, QueueFullError, TaskQueueError, TaskTimeoutError
from taskfleet.handles import TaskHandle
from taskfleet.tasks import Message
from tests.chaos import ledger
from tests.chaos.kinds import KINDS, Kind, Notes, choose, ledger_folder, queues
from tests.chaos.ledger import Ledger, now

_WAIT_SECONDS = 120.0  # how long a result is awaited
_MOST_AT_ONCE = 200


class NotedIds:
    """The source of task ids, which notes each task before anybody else hears of its id."""

    def __init__(self, notes: Ledger) -> None:
        self._notes = notes
        self._fresh = ids.new_id
        self._expected: list[tuple[int, str, str]] = []
        self._given: list[str] = []

    def expect(self, tasks: Iterable[tuple[int, str, str]]) -> list[str]:
        """Announce (number, kind, queue) of the messages encoded next, in order; their ids appear in the list."""
        self._expected = list(tasks)
        self._given = []
        return self._given

    def __call__(self) -> str:
        task_id = self._fresh()
        self._given.append(task_id)
        if len(self._given) == len(self._expected):
            at = now()
            pairs = zip(self._given, self._expected, strict=True)
            self._notes.notes([("sent", at, given, *task) for given, task in pairs])
        return task_id


class Producer:
    """Sends tasks `number`, `number` + `of`, … below `tasks`, evenly over `seconds`."""

    def __init__(self, number: int, of: int, tasks: int, seconds: float, seed: int) -> None:
        self._numbers = range(number, tasks, of)
        self._rate = len(self._numbers) / seconds
        self._seed = seed
        self._notes = Ledger(ledger_folder(), f"producer-p{number}")
        self._ids = NotedIds(self._notes)
        ids.new_id = self._ids
        self._queue = TaskQueue.from_config(queues=queues())
        for kind in KINDS.values():
            kind.define(self._queue, Notes(self._notes))
        self._followers: set[asyncio.Task[None]] = set()
        self._position = self._position_of_the_last(number)

    def _position_of_the_last(self, number: int) -> int:
        sent = [
            note[3]
            for path in ledger_folder().glob(f"producer-p{number}.*.ledger")
            for note in ledger.read(path)
            if note[0] == "sent"
        ]
        return self._numbers.index(max(sent)) + 1 if sent else 0

    async def run(self) -> None:
        began, first = now(), self._position
        while self._position < len(self._numbers):
            ahead = (self._position - first) / self._rate - (now() - began)
            if ahead > 0:
                await asyncio.sleep(ahead)
            # How much is sent together, and how, is the number's own choice, whatever happened before it.
            draw = Random(self._seed * 7919 + self._numbers[self._position])
            at_once = draw.choice((1, 1, 1, 2, 5, 10, 20, 50, _MOST_AT_ONCE))
            numbers = self._numbers[self._position : self._position + at_once]
            self._position += len(numbers)
            tasks = [self._task(n) for n in numbers]
            if draw.random() < 0.5:
                good = await self._send_many(tasks)
            else:
                good = all(await asyncio.gather(*(self._send_one(*task) for task in tasks)))
            if not good:
                await asyncio.sleep(draw.uniform(0.1, 0.5))
        while self._followers:
            await asyncio.wait(self._followers)
        await self._queue.close()
        self._notes.note("complete", now())

    def _task(self, n: int) -> tuple[int, Kind, Message[Any], Random]:
        kind, draw = choose(n, self._seed)
        return n, kind, kind.message(n, draw), draw

    async def _send_one(self, n: int, kind: Kind, message: Message[Any], draw: Random) -> bool:
        given = self._ids.expect([(n, kind.name, message.queue)])
        with self._answer(given) as answered:
            handle = await self._queue.send(message)
            self._follow(kind, handle, draw)
            answered.append(True)
        return bool(answered)

    async def _send_many(self, tasks: Sequence[tuple[int, Kind, Message[Any], Random]]) -> bool:
        good = True
        # A queue that may refuse is asked by itself: then the answer is that of all of them.
        for bounded in (False, True):
            group = [task for task in tasks if (task[2].queue == "bounded") == bounded]
            if not group:
                continue
            given = self._ids.expect([(n, kind.name, message.queue) for n, kind, message, _ in group])
            with self._answer(given) as answered:
                handles = await self._queue.enqueue_many([message for _, _, message, _ in group])
                for (_, kind, _, draw), handle in zip(group, handles, strict=True):
                    self._follow(kind, handle, draw)
                answered.append(True)
            good = good and bool(answered)
        return good

    @contextlib.contextmanager
    def _answer(self, given: list[str]) -> Any:
        answered: list[bool] = []
        try:
            yield answered
        except QueueFullError:
            self._notes.note("refused", now(), given)
            answered.append(True)
        except BrokerConnectionError as error:
            self._notes.note("unknown", now(), given, str(error))
        else:
            self._notes.note("accepted", now(), given)

    def _follow(self, kind: Kind, handle: TaskHandle[Any], draw: Random) -> None:
        delay = kind.cancel_after(draw)
        follower = self._cancel(handle, delay) if delay is not None else self._await(handle) if kind.awaited else None
        if follower is not None:
            task = asyncio.create_task(follower)
            self._followers.add(task)
            task.add_done_callback(self._followers.discard)

    async def _cancel(self, handle: TaskHandle[Any], delay: float) -> None:
        await asyncio.sleep(delay)
        self._notes.note("cancel", now(), handle.id)
        with contextlib.suppress(BrokerConnectionError):
            await handle.cancel()

    async def _await(self, handle: TaskHandle[Any]) -> None:
        while True:
            try:
                value = await handle.result(timeout=_WAIT_SECONDS)
            except BrokerConnectionError:
                await asyncio.sleep(0.2)
            except TaskTimeoutError:
                self._notes.note("waited", now(), handle.id, "timeout", None)
                return
            except TaskQueueError as error:
                self._notes.note("waited", now(), handle.id, "error", str(error))
                return
            else:
                self._notes.note("waited", now(), handle.id, "value", value)
                return


def main(arguments: list[str]) -> None:
    import uvloop

    number, of, tasks = map(int, arguments[:3])
    uvloop.run(Producer(number, of, tasks, float(arguments[3]), int(arguments[4])).run())


if __name__ == "__main__":
    assert os.environ.get("CHAOS_ROLE") == "producer"
    main(sys.argv[1:])
