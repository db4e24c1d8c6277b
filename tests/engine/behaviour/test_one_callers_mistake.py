"""Calls that travel together fail separately: a call that cannot be sent is an error for its own caller only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from taskfleet import BulkEnqueueError, ConfigurationError, Middleware, SerializationError, TaskQueue, TaskQueueError
from tests.engine.conftest import MakeQueue, RunWorker

GOOD = 6


async def sent_beside(queue: TaskQueue, work: Any, bad: Callable[[], Any]) -> BaseException:
    """The error of a bad call in the same loop tick as good calls, which must all arrive."""

    async def call() -> Any:
        return await bad()

    before = (await queue.queue_stats("default")).ready
    # The first call goes at once and the others gather, so the bad one is in the middle of a shared call.
    calls = [work.enqueue(n) for n in range(GOOD)]
    outcomes = await asyncio.gather(*calls[:3], call(), *calls[3:], return_exceptions=True)
    error = outcomes.pop(3)
    assert isinstance(error, Exception)
    assert [type(handle).__name__ for handle in outcomes] == ["TaskHandle"] * GOOD, outcomes
    assert (await queue.queue_stats("default")).ready == before + GOOD
    return error


def function_that(result: Any) -> Callable[[int], Any]:
    def key(n: int) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    return key


async def later(n: int) -> str:
    return "k"


@pytest.mark.parametrize("option", ["unique_key", "fair_key", "limit_key"])
@pytest.mark.parametrize("key", ["\udcff", "a\0b", "", "x" * 513, b"k", 7])
async def test_a_key_that_cannot_travel_is_refused_alone(make_queue: MakeQueue, option: str, key: Any) -> None:
    queue = make_queue()

    @queue.task
    async def work(n: int) -> None: ...

    error = await sent_beside(queue, work, lambda: work.options(**{option: key}).enqueue(1))
    assert isinstance(error, ConfigurationError)
    assert option in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("option", ["unique_key", "fair_key", "limit_key"])
@pytest.mark.parametrize("made", ["\udcff", "", None, 7, b"k", ValueError("bad\nkey"), "later"], ids=repr)
async def test_the_key_of_a_key_function_is_checked_for_its_own_call(
    make_queue: MakeQueue, option: str, made: Any
) -> None:
    queue = make_queue()

    @queue.task
    async def work(n: int) -> None: ...

    key = (lambda n: later(n)) if made == "later" else function_that(made)

    @queue.task(**{option: key})
    async def keyed(n: int) -> None: ...

    error = await sent_beside(queue, work, lambda: keyed.enqueue(1))
    assert isinstance(error, TaskQueueError)
    assert f"task 'keyed', {option}: " in str(error)
    assert "\n" not in str(error)
    with pytest.raises(BulkEnqueueError) as caught:
        await queue.enqueue_many([work.message(1), keyed.message(2)])
    assert [index for index, _ in caught.value.errors] == [1]


@pytest.mark.parametrize(
    "bad",
    [
        lambda work: work.enqueue("\udcff"),
        lambda work: work.enqueue({"a": "\udcff"}),
        lambda work: work.enqueue({"\ud800": 1}),
        lambda work: work.enqueue(object()),
        lambda work: work.enqueue(10**30),
        lambda work: work.enqueue("x" * 2_000_000),
        lambda work: work.enqueue(1, 2, 3),
        lambda work: work.options(delay=1e300).enqueue(1),
    ],
)
async def test_an_argument_that_cannot_travel_is_refused_alone(
    make_queue: MakeQueue, bad: Callable[[Any], Any]
) -> None:
    queue = make_queue()

    @queue.task
    async def work(n) -> None: ...  # type: ignore[no-untyped-def]

    error = await sent_beside(queue, work, lambda: bad(work))
    assert isinstance(error, TaskQueueError)
    assert "\n" not in str(error)


@pytest.mark.parametrize("header", [{"k": "\udcff"}, {"\ud800": "v"}, {"k": 5}, {5: "v"}], ids=repr)
async def test_a_header_that_cannot_travel_is_refused_alone(make_queue: MakeQueue, header: dict[Any, Any]) -> None:
    class Heads(Middleware):
        async def enqueue(self, messages: Any, call_next: Any) -> Any:
            for message in messages:
                if message.args == (99,):
                    message.headers.update(header)
            return await call_next()

    queue = make_queue(middleware=[Heads()])

    @queue.task
    async def work(n: int) -> None: ...

    error = await sent_beside(queue, work, lambda: work.enqueue(99))
    assert isinstance(error, SerializationError)
    assert "task 'work', header " in str(error)


async def test_a_call_that_the_broker_cannot_pack_is_left_out(make_queue: MakeQueue) -> None:
    """Even an error that no check has caught does not affect the other calls."""
    queue = make_queue()

    @queue.task
    async def work(n: int) -> None: ...

    enqueue = queue.broker.enqueue

    async def particular(place: str, items: Any, **options: Any) -> Any:
        if any(extras is not None and extras.unique_key == "odd" for *_, extras in items):
            raise UnicodeEncodeError("utf-8", "odd", 0, 1, "surrogates not allowed")
        return await enqueue(place, items, **options)

    queue.broker.enqueue = particular  # type: ignore[method-assign]
    error = await sent_beside(queue, work, lambda: work.options(unique_key="odd").enqueue(1))
    assert isinstance(error, SerializationError)
    assert "cannot be put into a message" in str(error)


async def test_a_workflow_that_cannot_be_sent_leaves_nothing(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    from taskfleet import chain

    queue = make_queue()

    @queue.task
    async def work(n: int) -> int:
        return n

    @queue.task(fair_key=lambda n: "\udcff")
    async def keyed(n: int) -> int:
        return n

    error = await sent_beside(queue, work, lambda: queue.enqueue(chain(work.message(1), keyed.message())))
    assert isinstance(error, TaskQueueError)
    assert (await queue.queue_stats("default")).ready == GOOD
    await run_worker(queue)
    assert await (await work.enqueue(5)).result(timeout=60) == 5
