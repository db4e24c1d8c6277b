"""A producer: `python -m tests.chaos.producer NUMBER OF TASKS SECONDS SEED` sends its share of the tasks.

Every task is in the ledger before it can be in Redis: sent, then accepted, refused, or unknown when the call failed. A
producer that was killed leaves `sent` without an answer; the one that follows goes on behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from taskfleet import TaskQueue, ids
from taskfleet.errors import BrokerConnectionError, QueueFullError, TaskQueueError, TaskTimeoutError
from taskfleet.handles import TaskHandle
from taskfleet.producer import workflow_sender
from taskfleet.protocol.clock import ClockUnknownError
from tests.chaos import ledger
from tests.chaos.kinds import Kind, Notes, ledger_folder, queues
from tests.chaos.ledger import Ledger, now
from tests.chaos.workload import KINDS, choose

_CLOCK_SECONDS = 20.0  # well before the product asks again
_WAIT_SECONDS = 200.0  # how long a result is awaited
_MOST_AT_ONCE = 200
WHOLE_WITHIN_SECONDS = 20.0  # a workflow that is not sent as a whole by then is dropped


class NotedIds:
    """The counter behind task ids. It notes each task before its id leaves the process."""

    def __init__(self, notes: Ledger) -> None:
        self._notes = notes
        self._numbers = ids._count
        self._expected: list[tuple[int, str, str]] = []
        self._given: list[str] = []

    def expect(self, tasks: Iterable[tuple[int, str, str]]) -> list[str]:
        """Announce (number, kind, queue) of the messages encoded next, in order; their ids appear in the list."""
        self._expected = list(tasks)
        self._given = []
        return self._given

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        number = next(self._numbers)
        self._given.append(f"{ids.prefix()}{number:x}")
        if len(self._given) == len(self._expected):
            at = now()
            pairs = zip(self._given, self._expected, strict=True)
            self._notes.notes([("sent", at, given, *task) for given, task in pairs])
        return number


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the message or workflow, and (number, part, queue) of each of its tasks."""

    kind: Kind
    sent: Any
    parts: list[tuple[int, str, str]]
    draw: Random


class ChaosProducer:
    """Sends tasks `number`, `number` + `of`, … below `tasks`, evenly over `seconds`."""

    def __init__(self, number: int, of: int, tasks: int, seconds: float, seed: int) -> None:
        self._numbers = range(number, tasks, of)
        self._rate = len(self._numbers) / seconds
        self._seed = seed
        self._notes = Ledger(ledger_folder(), f"producer-p{number}")
        self._ids = NotedIds(self._notes)
        ids._count = self._ids
        # A workflow that a killed sender left unfinished is dropped within the run, not ten minutes later.
        workflow_sender._CONFIRMED_WITHIN_MS = int(WHOLE_WITHIN_SECONDS * 1000)
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
            # Only the number decides how many calls are sent together and how.
            draw = Random(self._seed * 7919 + self._numbers[self._position])
            at_once = draw.choice((1, 1, 1, 2, 5, 10, 20, 50, _MOST_AT_ONCE))
            numbers = self._numbers[self._position : self._position + at_once]
            self._position += len(numbers)
            calls = [self._call(n) for n in numbers]
            await self._know_the_time({queue for call in calls for _, _, queue in call.parts})
            if draw.random() < 0.5:
                good = await self._send_many(calls)
            else:
                good = all(await asyncio.gather(*(self._send_one(call) for call in calls)))
            if not good:
                await asyncio.sleep(draw.uniform(0.1, 0.5))
        while self._followers:
            await asyncio.wait(self._followers)
        await self._queue.close()
        self._notes.note("complete", now())

    async def _know_the_time(self, queues: set[str]) -> None:
        """Ask for the time of Redis first: an enqueue with `expires` would ask between making an id and sending it."""
        clock = self._queue.broker.clock
        for queue in queues:
            known = False
            while not known:
                try:
                    clock.now_ms(queue, within=_CLOCK_SECONDS)
                    known = True
                except ClockUnknownError:
                    with contextlib.suppress(TaskQueueError):
                        await clock.ask(queue)

    def _call(self, n: int) -> Call:
        kind, draw = choose(n, self._seed)
        sent, queues = kind.call(n, draw)
        parts = [(n, part, queue) for part, queue in zip(kind.parts, queues, strict=True)]
        return Call(kind, sent, parts, draw)

    async def _send_one(self, call: Call) -> bool:
        given = self._ids.expect(call.parts)
        began = now()
        with self._answer(given) as answered:
            handle = await self._queue.enqueue(call.sent)
            if len(call.parts) > 1 and now() - began > WHOLE_WITHIN_SECONDS:
                # On a busy machine. The product's own limit is longer than any call.
                self._notes.note("unknown", now(), given, "sent too slowly: the end of the workflow may be dropped")
            else:
                self._accepted([call], given, [handle])
            answered.append(True)
        return bool(answered)

    async def _send_many(self, calls: Sequence[Call]) -> bool:
        good = True
        # A queue that may refuse is asked by itself: then the answer is that of all of them.
        for bounded in (False, True):
            group = [call for call in calls if len(call.parts) == 1 and (call.parts[0][2] == "bounded") == bounded]
            if not group:
                continue
            given = self._ids.expect(part for call in group for part in call.parts)
            with self._answer(given) as answered:
                handles = await self._queue.enqueue_many([call.sent for call in group])
                self._accepted(group, given, handles)
                answered.append(True)
            good = good and bool(answered)
        workflows = [call for call in calls if len(call.parts) > 1]
        return all(await asyncio.gather(*(self._send_one(call) for call in workflows))) and good

    def _accepted(self, calls: Sequence[Call], given: list[str], handles: Sequence[Any]) -> None:
        """Note the answer. A task that was not added, because another has its unique key, has that one's handle."""
        merged: list[str] = []
        if len(given) == len(calls):
            for call, own, handle in zip(calls, given, handles, strict=True):
                if handle.id == own:
                    self._follow(call.kind, handle, call.draw)
                else:
                    merged.append(own)
        at = now()
        accepted = [own for own in given if own not in merged] if merged else given
        self._notes.notes([("accepted", at, accepted), ("merged", at, merged)])

    @contextlib.contextmanager
    def _answer(self, given: list[str]) -> Iterator[list[bool]]:
        """Note a call that fails as `unknown` or `refused`; the list is not empty when there was an answer."""
        answered: list[bool] = []
        try:
            yield answered
        except QueueFullError:
            self._notes.note("refused", now(), given)
            answered.append(True)
        except TaskQueueError as error:
            self._notes.note("unknown", now(), given, str(error))

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
    uvloop.run(ChaosProducer(number, of, tasks, float(arguments[3]), int(arguments[4])).run())


if __name__ == "__main__":
    assert os.environ.get("CHAOS_ROLE") == "producer"
    main(sys.argv[1:])
