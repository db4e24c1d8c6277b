"""The cases: for each feature the application that uses it, and how its tasks are sent."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pydantic

from taskfleet import BatchItem, QueueOptions, Retry, TaskQueue, chain, chord, group

_KEY = bytes(range(32))
_BATCH = 100
_MEMBERS = 10
_SHORT = 100
_LONG = 10_000
_BULK = 1000


class Address(pydantic.BaseModel):
    """A part of `Order`."""

    street: str
    city: str
    country: str


class Order(pydantic.BaseModel):
    """About 1 KB of MessagePack, as a web request has it."""

    number: int
    customer: str
    address: Address
    lines: list[dict[str, str | int]]
    note: str


def order(number: int) -> Order:
    return Order(
        number=number,
        customer="Ada Lovelace",
        address=Address(street="12 St. James's Square", city="London", country="UK"),
        lines=[{"article": f"article-{i:04d}", "count": i, "cents": 1999 + i} for i in range(12)],
        note="n" * 320,
    )


@dataclass(frozen=True, slots=True)
class Case:
    """One feature at work.

    `send` sends so many tasks and returns the number of runs that end for good; a workflow has no fewer than its size.
    """

    queue: TaskQueue
    send: Callable[[int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature, as the table names it. `share`: of the tasks that a plain case gets, so many are enough for this."""

    title: str
    make: Callable[[str], Case]
    share: float = 1.0
    least: int = 0
    wait: float = 0.0
    """Seconds between the last enqueue and the start of the worker: until delayed tasks are due."""
    slots: int | None = None
    """Fewer slots than a plain case has: each slot of process tasks takes a process."""


async def _in_bulk(queue: TaskQueue, messages: list[Any]) -> int:
    for start in range(0, len(messages), _BULK):
        await queue.enqueue_many(messages[start : start + _BULK])
    return len(messages)


def _queue(url: str, **options: Any) -> TaskQueue:
    return TaskQueue(url, **{"result_ttl": 0, **options})


def _simple(
    arguments: Callable[[int], tuple[Any, ...]] = lambda n: (n,),
    *,
    task: dict[str, Any] | None = None,
    call: Callable[[int], dict[str, Any]] | None = None,
    function: Callable[..., Any] | None = None,
    **options: Any,
) -> Callable[[str], Case]:
    """A case that differs from the plain one in its function, its arguments, or the options of queue, task or call."""

    def make(url: str) -> Case:
        queue = _queue(url, **options)
        defined: Any = queue.task(name="case", **(task or {}))(function or noop)

        def message(n: int) -> Any:
            bound = defined.options(**call(n)) if call else defined
            return bound.message(*arguments(n))

        return Case(queue, lambda tasks: _in_bulk(queue, [message(n) for n in range(tasks)]))

    return make


async def noop(n: int) -> None:
    """The plain task."""


async def _number(n: int) -> int:
    return n


async def _takes_order(order: Order) -> None: ...


async def _takes_text(text: str) -> None: ...


def in_thread(n: int) -> None:
    """The plain task, for `executor="thread"`."""


async def _fails(n: int) -> None:
    raise ValueError("no")


def _batches(url: str) -> Case:
    queue = _queue(url)

    @queue.batch_task(name="case", size=_BATCH, item=noop)
    async def case(items: list[BatchItem[Any]]) -> None: ...

    return Case(queue, lambda tasks: _in_bulk(queue, [case.message(n) for n in range(tasks)]))


def _retries(url: str) -> Case:
    queue = _queue(url)
    seen: set[int] = set()

    @queue.task(name="case", max_retries=1, retry=Retry.fixed(0.0))
    async def case(n: int) -> None:
        if n not in seen:
            seen.add(n)
            raise ValueError("no")
        seen.discard(n)

    return Case(queue, lambda tasks: _in_bulk(queue, [case.message(n) for n in range(tasks)]))


def _in_process(url: str) -> Case:
    from bench.features.processes import case, queue  # it connects when it is imported: to REDIS_URL

    return Case(queue, lambda tasks: _in_bulk(queue, [case.message(n) for n in range(tasks)]))


def _chains(url: str) -> Case:
    queue = _queue(url)

    @queue.task(name="case")
    async def case(n: int) -> int:
        return n

    async def send(tasks: int) -> int:
        for _ in range(tasks // _MEMBERS):
            await queue.enqueue(_chain_of(case))
        return tasks // _MEMBERS * _MEMBERS

    return Case(queue, send)


def _chain_of(case: Any) -> Any:
    untyped: Any = chain
    return untyped(case.message(0), *(case.partial() for _ in range(_MEMBERS - 1)))


def _chords(members: int) -> Callable[[str], Case]:
    def make(url: str) -> Case:
        queue = _queue(url)

        @queue.task(name="case")
        async def case(n: int) -> int:
            return n

        @queue.task(name="callback")
        async def callback(numbers: list[int]) -> int:
            return len(numbers)

        async def send(tasks: int) -> int:
            runs = 0
            while runs < tasks:
                await queue.enqueue(chord(group(*(case.message(n) for n in range(members))), callback.partial()))
                runs += members + 1
            return runs

        return Case(queue, send)

    return make


def _fair(keys: int) -> Callable[[str], Case]:
    return _simple(call=lambda n: {"fair_key": f"customer-{n % keys}"})


_UNIQUE = itertools.count()

FEATURES: dict[str, Feature] = {
    "plain": Feature("a plain task", _simple()),
    "result": Feature("result kept", _simple(function=_number, result_ttl=3600)),
    "model": Feature("pydantic model of 1 KB", _simple(lambda n: (order(n),), function=_takes_order)),
    "payload_10k": Feature("payload of 10 KB", _simple(lambda n: ("x" * 10_000,), function=_takes_text)),
    "thread": Feature("thread task", _simple(function=in_thread, task={"executor": "thread"}), share=0.5),
    "process": Feature("process task", _in_process, share=0.1, slots=8),
    "batch": Feature(f"batches of {_BATCH}", _batches),
    "signed": Feature("signed", _simple(signing_keys=[_KEY])),
    "encrypted": Feature("encrypted", _simple(encryption_keys=[_KEY])),
    "compressed": Feature(
        "2.4 KB, compressed", _simple(lambda n: ("lorem ipsum " * 200,), function=_takes_text, compression="zstd")
    ),
    "text_2k": Feature("2.4 KB, as it is", _simple(lambda n: ("lorem ipsum " * 200,), function=_takes_text)),
    "delayed": Feature("delayed", _simple(call=lambda n: {"delay": 0.5}), wait=1.0),
    "retry": Feature("retried once", _retries, share=0.25),
    "failing": Feature("failing", _simple(function=_fails, task={"max_retries": 0}), share=0.25),
    "unique": Feature("unique key", _simple(call=lambda n: {"unique_key": f"{next(_UNIQUE)}"})),
    "fair_10": Feature("fair key, 10 keys", _fair(10)),
    "fair_10k": Feature("fair key, 10,000 keys", _fair(10_000)),
    "limit": Feature(
        "limit key, 100 keys",
        _simple(
            call=lambda n: {"limit_key": f"customer-{n % 100}"},
            queues=[QueueOptions("default", concurrency_per_key=50)],
        ),
    ),
    "partitions": Feature("4 partitions", _simple(queues=[QueueOptions("default", partitions=4)])),
    "chain": Feature(f"chain of {_MEMBERS}", _chains, share=0.25),
    "chord_100": Feature(f"chord of {_SHORT}", _chords(_SHORT), share=0.5),
    "chord_10k": Feature(f"chord of {_LONG:,}", _chords(_LONG), share=0.5, least=_LONG),
}
