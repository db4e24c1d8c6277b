"""Batch tasks: their calls, items and outcomes. Both type checkers must find the marked errors, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, assert_type

import pydantic

from taskfleet import BatchItem, Depends, TaskHandle, TaskQueue

queue = TaskQueue()


def connect() -> bytes:
    return b""


@dataclass
class Row:
    name: str
    quantity: int = 1


class Point(NamedTuple):
    x: int


class Order(pydantic.BaseModel):
    number: int


def row(name: str, quantity: int = 1) -> float:
    return 0.0


@queue.batch_task(size=10, item_class=Row)
async def store(items: list[BatchItem[Row]]) -> list[float]:
    assert_type(items[0].value, Row)
    assert_type(items[0].args, tuple[Any, ...])
    assert_type(items[0].kwargs, dict[str, Any])
    return [each.value.quantity / 2 for each in items]


@queue.batch_task(item_class=Point)
def plain(items: list[BatchItem[Point]], db: bytes = Depends(connect)) -> list[int]:
    return [each.value.x for each in items]


@queue.batch_task(item_class=Order, max_retries=1)
async def some_fail(items: list[BatchItem[Order]]) -> list[str | Exception]:
    return [str(each.value.number) if each.value.number else ValueError("no number") for each in items]


@queue.batch_task(item_class=Order)
async def no_result(items: list[BatchItem[Order]]) -> list[None]:
    return [None for _ in items]


@queue.batch_task(item=row)
async def by_function(items: list[BatchItem]) -> Sequence[float]:
    return [0.0 for _ in items]


@queue.batch_task()
async def anything(items: list[BatchItem]) -> Sequence[float]:
    return [0.0 for _ in items]


@queue.batch_task(item_class=Row)  # error: arg-type
async def other_items(items: list[BatchItem[Point]]) -> list[int]:
    return [each.value.x for each in items]


@queue.batch_task(item_class=Row)
async def wrong_field(items: list[BatchItem[Row]]) -> list[int]:
    return [each.value.quantty for each in items]  # error: attr-defined


async def calls() -> None:
    assert_type(await store.enqueue("a", quantity=2), TaskHandle[float])
    assert_type(await plain.enqueue(1), TaskHandle[int])
    assert_type(await no_result.enqueue(number=1), TaskHandle[None])
    assert_type(await by_function.enqueue("a", quantity=2), TaskHandle[float])
    assert_type(await anything.enqueue("a", more=2), TaskHandle[Any])
    text: TaskHandle[str | Exception] = await some_fail.enqueue(number=1)
    await text.result()
    await queue.enqueue_many([store.message("a"), store.options(delay=1).message("b", 2)])
    await store([BatchItem("id", ("a",))])
    assert_type(BatchItem.made_of(Row("a")), BatchItem[Row])
    assert_type(await store([BatchItem.made_of(Row("a"))]), Sequence[float | BaseException])
    await store.enqueue(1)  # error: arg-type
    await store.enqueue("a", quantty=1)  # error: call-arg
    await some_fail.enqueue(1)  # error: call-arg
    await store.enqueue(name=1)  # error: arg-type
    wrong: TaskHandle[str] = await store.enqueue("a")  # error: assignment
    await wrong.cancel()
    queue.batch_task(item_class=Row, item=row)  # error: call-overload
