"""Chains, groups and chords: what is passed on, and the results. Both type checkers must find the marked errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_type

from taskfleet import GroupHandle, Message, Task, TaskHandle, TaskQueue, chain, chord, group
from taskfleet.testing import InlineWorker

queue = TaskQueue()


@queue.task
async def load(shop: str) -> list[int]:
    return [len(shop)]


@queue.task
async def total(points: list[int], tax: int = 0) -> int:
    return sum(points) + tax


@queue.task
def spell(n: float) -> str:
    return str(n)


@queue.task
async def report(totals: list[int]) -> str:
    return str(totals)


@queue.task
async def mixed(results: list[int | str]) -> bytes:
    return str(results).encode()


@queue.task
async def any_of(results: Sequence[object]) -> bytes:
    return str(results).encode()


@queue.task
async def clean_up() -> None: ...


class Refund(Task[str]):
    order: int

    async def execute(self) -> str:
        return str(self.order)


async def right(worker: InlineWorker) -> None:
    # A chain has the handle and the result of its last member.
    assert_type(total.partial(tax=1), Message[int, list[int]])
    assert_type(total.options(delay=1).partial(tax=1), Message[int, list[int]])
    assert_type(await queue.enqueue(chain(load.message("paris"), total.partial(tax=1))), TaskHandle[int])
    assert_type(await (await queue.enqueue(chain(load.message("paris"), total.partial(tax=1)))).result(), int)
    assert_type(queue.enqueue_sync(chain(load.message("paris"), total.partial())).result_sync(), int)
    assert_type(await queue.enqueue(chain(load.message("rome"), total.partial(), spell.partial())), TaskHandle[str])
    long = chain(load.message("x"), total.partial(), spell.partial(), load.partial(), total.partial(), spell.partial())
    assert_type(await queue.enqueue(long), TaskHandle[str])
    longer = chain(
        long, load.partial(), total.partial(), spell.partial(), load.partial(), total.partial(), spell.partial()
    )
    assert_type(await queue.enqueue(longer), TaskHandle[Any])
    assert_type(await queue.enqueue(chain(*[load.message("x") for _ in range(3)])), TaskHandle[Any])
    # Members that only wait for the one before.
    assert_type(await queue.enqueue(chain(load.message("x"), clean_up.message())), TaskHandle[None])
    assert_type(await queue.enqueue(chain(load.message("x"), Refund(order=1), load.partial())), TaskHandle[list[int]])

    # A group has a tuple of results; a task behind it takes the list of them.
    assert_type(await queue.enqueue(group(load.message("x"), spell.message(1))), GroupHandle[tuple[list[int], str]])
    points, text = await (await queue.enqueue(group(load.message("x"), spell.message(1)))).result()
    assert_type(points, list[int])
    assert_type(text, str)
    six = group(
        load.message("x"), spell.message(1), Refund(order=1), clean_up.message(), load.message("y"), spell.message(2)
    )
    assert_type(await (await queue.enqueue(six)).result(), tuple[list[int], str, str, None, list[int], str])
    seven = group(*[total.message([n]) for n in range(7)])
    assert_type(await queue.enqueue(seven), GroupHandle[tuple[int, ...]])
    assert_type(await queue.enqueue(chain(seven, report.partial())), TaskHandle[str])
    fan_out = chain(load.message("x"), group(total.partial(), total.partial(tax=2)))
    assert_type(await queue.enqueue(fan_out), GroupHandle[tuple[int, int]])
    assert_type(await queue.enqueue(chain(fan_out, report.partial())), TaskHandle[str])

    # A chord has the handle of its callback.
    shops = [chain(load.message(name), total.partial()) for name in ("paris", "rome")]
    assert_type(await queue.enqueue(chord(shops, report.partial())), TaskHandle[str])
    assert_type(await queue.enqueue(chord(group(*shops), report.partial())), TaskHandle[str])
    different = group(total.message([1]), spell.message(1))
    assert_type(await queue.enqueue(chord(different, mixed.partial())), TaskHandle[bytes])
    assert_type(
        await queue.enqueue(chord([total.message([1]), total.message([2])], any_of.partial())), TaskHandle[bytes]
    )
    assert_type(await queue.enqueue(chord([load.message("x")], clean_up.message())), TaskHandle[None])

    # The inline worker of tests has the same results.
    assert_type(await worker.execute(total.message([1])), int)
    assert_type(await worker.execute(Refund(order=1)), str)
    assert_type(await worker.execute(chain(load.message("x"), total.partial())), int)
    assert_type(await worker.execute(group(total.message([1]), spell.message(1))), tuple[int, str])

    # Messages are covariant in their results.
    both: list[Message[object]] = [total.message([1]), spell.message(2)]
    await queue.enqueue_many(both)
    await queue.enqueue_many([total.message([1]), spell.message(2)])
    await queue.enqueue_many([total.message([1]), Refund(order=2), Refund(order=3).options(delay=1)])
    same = await queue.enqueue_many([total.message([n]) for n in range(3)])
    assert_type(same, list[TaskHandle[int]])
    wider: TaskHandle[float] = await queue.enqueue(total.message([1]))
    await wider.result()
    bare: GroupHandle = await queue.enqueue(group(total.message([1])))
    await bare.result()


async def wrong() -> None:
    total.partial(tex=1)  # error: call-arg
    total.partial("1")  # error: arg-type
    clean_up.partial()  # error: misc
    await queue.enqueue(total.partial())  # error: arg-type
    queue.enqueue_sync(total.partial())  # error: arg-type
    await queue.schedule(total.partial(), delay=1)  # error: arg-type
    await queue.enqueue(chain(total.partial(), spell.partial()))  # error: arg-type
    await queue.enqueue(group(total.partial(), load.message("x")))  # error: arg-type
    await queue.enqueue_many([total.partial()])  # error: list-item
    await queue.enqueue_many([chain(load.message("x"))])  # error: arg-type
    chain(load.message("x"), spell.partial())  # error: misc
    chain(load.message("x"), total.partial(), total.partial())  # error: misc
    chain(load.message("x"), group(total.partial(), spell.partial()))  # error: misc
    chord([load.message("x")], report.partial())  # error: misc
    different = group(load.message("x"), spell.message(1))
    chord(different, report.partial())  # error: misc
    chain(different, report.partial())  # error: misc
    chain(load.message("x"), total)  # error: call-overload
    group(load("x"))  # error: call-overload
    result: str = await (await queue.enqueue(chain(load.message("x"), total.partial()))).result()  # error: assignment
    one, two, three = await (await queue.enqueue(group(load.message("x"), spell.message(1)))).result()  # error: misc
