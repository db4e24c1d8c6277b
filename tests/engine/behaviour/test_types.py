"""Values arrive as they were sent, through a queue and by every way that a value can take."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar, Unpack

import pydantic
import pytest
import typing_extensions
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from taskfleet import (
    BatchItem,
    BulkEnqueueError,
    ConfigurationError,
    SerializationError,
    Task,
    TaskExecutionError,
    TaskQueue,
    chain,
    chord,
    group,
)
from taskfleet.protocol import envelope
from tests.engine.conftest import RunWorker, until

R = TypeVar("R")


class Level(enum.IntEnum):
    LOW = 1


class Order(BaseModel):
    n: int = Field(7, alias="orderId")
    password: SecretStr = SecretStr("")
    hidden: int = Field(0, exclude=True)


class Aliased(BaseModel):
    n: int = Field(alias="orderId")


class Parent(BaseModel):
    a: int = 1


class Child(Parent):
    b: int = 2


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @pydantic.computed_field
    def twice(self) -> int:
        return 2 * self.a


def _shout(text: str) -> str:
    return text + "!"


Shouted = Annotated[str, AfterValidator(_shout)]
ORDER = Order(orderId=42, password=SecretStr("s3"), hidden=5)


class PayOut(Task):
    order: Order
    note: Shouted = ""

    async def execute(self) -> Decimal:
        return Decimal("1.10") + self.order.n + self.order.hidden


class Of(Task, Generic[R]):
    async def execute(self) -> list[R]:
        return self.made()

    def made(self) -> Any:
        raise NotImplementedError


class OfDates(Of[dt.date]):
    def made(self) -> Any:
        return [dt.date(2025, 1, 1)]


class CannotReturn(Task):
    async def execute(self) -> NotDefinedAnywhere:  # type: ignore[name-defined]  # noqa: F821
        raise AssertionError("it has run")


async def test_an_argument_and_a_result_keep_all_that_they_hold(queue: TaskQueue, run_worker: RunWorker) -> None:
    seen: list[Any] = []

    @queue.task
    async def give(order: Order, aliased: Aliased, *more: str | bytes, **named: tuple[int, ...] | list[int]) -> Order:
        seen.extend([order, aliased, more, named])
        return order

    await run_worker(queue)
    handle = await give.enqueue(ORDER, Aliased(orderId=3), b"test", "test", a=(1,), b=[1])
    assert await handle.result(timeout=60) == ORDER
    assert seen == [ORDER, Aliased(orderId=3), (b"test", "test"), {"a": (1,), "b": [1]}]
    assert seen[0].password.get_secret_value() == "s3"


async def test_keys_of_a_dict_keep_their_types(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def plain(years: dict) -> dict:  # type: ignore[type-arg]
        return years

    @queue.task
    async def levels(levels: dict[Level, int]) -> dict[Level, int]:
        assert all(type(level) is Level for level in levels)
        return levels

    @queue.task
    async def pairs(pairs: dict[tuple[int, int], Forbidding]) -> dict[tuple[int, int], Forbidding]:
        return pairs

    await run_worker(queue)
    assert await (await plain.enqueue({2025: 10})).result(timeout=60) == {2025: 10}
    assert await (await levels.enqueue({Level.LOW: 1})).result(timeout=60) == {Level.LOW: 1}
    given = {(1, 2): Forbidding(a=1)}
    assert await (await pairs.enqueue(given)).result(timeout=60) == given


async def test_a_validator_runs_once_for_an_argument_and_once_for_a_result(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def shout(text: Shouted) -> Shouted:
        return text

    await run_worker(queue)
    assert await (await shout.enqueue("a")).result(timeout=60) == "a!!"


async def test_a_subclass_where_the_parent_is_annotated_is_refused_before_anything_is_sent(queue: TaskQueue) -> None:
    @queue.task
    async def give(parent: Parent) -> None: ...

    with pytest.raises(SerializationError, match="parameter 'parent': a Child where Parent is annotated"):
        await give.enqueue(Child())
    with pytest.raises(BulkEnqueueError, match="parameter 'parent'"):
        await queue.enqueue_many([give.message(Parent()), give.message(Child())])
    with pytest.raises(SerializationError, match="parameter 'parent'"):
        await queue.enqueue(chain(give.message(Child()), give.message(Parent())))
    with pytest.raises(SerializationError, match="parameter 'parent'"):
        await queue.add_schedule(name="s", every=60, task=give, args=[Child()])
    assert (await queue.queue_stats("default")).enqueued_total == 0


async def test_a_result_that_would_lose_something_fails_its_task(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=0)
    async def give() -> Parent:
        return Child()

    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="result: a Child where Parent is annotated"):
        await (await give.enqueue()).result(timeout=60)


async def test_a_class_task_keeps_its_fields_and_its_result(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue)
    assert await (await queue.enqueue(PayOut(order=ORDER, note="a"))).result(timeout=60) == Decimal("48.10")
    assert await (await queue.enqueue(OfDates())).result(timeout=60) == [dt.date(2025, 1, 1)]


async def test_a_result_annotation_that_means_nothing_is_an_error_before_anything_is_sent(queue: TaskQueue) -> None:
    with pytest.raises(ConfigurationError, match=r"'cannot_return'.*'NotDefinedAnywhere', cannot be resolved"):
        await queue.enqueue(CannotReturn())
    assert (await queue.queue_stats("default")).enqueued_total == 0


async def test_each_result_of_a_chord_keeps_its_own_form(queue: TaskQueue, run_worker: RunWorker) -> None:
    got: list[Any] = []

    @queue.task
    async def plain(data: bytes) -> bytes:
        return data

    @queue.task
    async def typed_date() -> dt.date:
        return dt.date(2025, 1, 1)

    @queue.task
    async def order() -> Order:
        return ORDER

    @queue.task
    async def anything(results):  # type: ignore[no-untyped-def]
        got.append(results)

    @queue.task
    async def annotated(results: list[bytes | dt.date | Order]) -> None:
        got.append(results)

    await run_worker(queue)
    for callback in (anything, annotated):
        members = group(plain.message(b"abc"), typed_date.message(), order.message())
        await (await queue.enqueue(chord(members, callback.message()))).result(timeout=60)  # type: ignore[attr-defined]
    assert got[0][:2] == [b"abc", dt.date(2025, 1, 1)]
    assert got[0][2]["n"] == 42
    assert got[0][2]["password"].get_secret_value() == "s3"
    assert got[1] == [b"abc", dt.date(2025, 1, 1), ORDER]


async def test_a_result_that_is_passed_on_is_validated_by_the_one_that_takes_it(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def first() -> str:
        return "a"

    @queue.task
    async def second(text: Shouted) -> str:
        return text

    @queue.task
    async def model() -> Aliased:
        return Aliased(orderId=3)

    @queue.task
    async def field(order: Order) -> int:
        return order.n

    await run_worker(queue)
    assert await (await queue.enqueue(chain(first.message(), second.message()))).result(timeout=60) == "a!"
    # A class with other fields takes the fields that it has.
    assert await (await queue.enqueue(chain(model.message(), field.message()))).result(timeout=60) == 3


async def test_items_of_a_batch_keep_the_types_of_their_prototype(queue: TaskQueue, run_worker: RunWorker) -> None:
    got: list[Any] = []

    def item(order: Order, kind: str | bytes) -> tuple[int, ...] | list[int]: ...

    @queue.batch_task(size=2, window_ms=5, item=item)
    async def store(items: list[BatchItem]) -> list[Any]:
        got.extend(each.args for each in items)
        return [(1, 2) for _ in items]

    await run_worker(queue)
    assert await (await store.enqueue(ORDER, b"x")).result(timeout=60) == (1, 2)
    assert got == [(ORDER, b"x")]
    with pytest.raises(SerializationError, match="parameter 'kind'"):
        await store.enqueue(ORDER, 5)  # type: ignore[arg-type]


async def test_the_arguments_of_a_schedule_are_those_of_a_call(queue: TaskQueue, run_worker: RunWorker) -> None:
    got: list[Any] = []

    @queue.task
    async def note(order: Order, years: dict) -> None:  # type: ignore[type-arg]
        got.append((order, years))

    await run_worker(queue)
    await queue.add_schedule(name="s", every=1, task=note, args=[ORDER], kwargs={"years": {2025: (1,)}})
    await queue.start_scheduler()
    try:
        await until(lambda: bool(got), "it has ticked")
    finally:
        await queue.stop_scheduler()
    assert got[0] == (ORDER, {2025: (1,)})


async def test_only_tasks_that_older_workers_cannot_read_are_left_to_newer_ones(queue: TaskQueue) -> None:
    @queue.task
    async def give(order: Order | Aliased | dt.date) -> None: ...

    @queue.task
    async def ordinary(day: dt.date, aliased: Aliased) -> None: ...

    limit = queue.application.max_payload_bytes
    typed = give.message(ORDER).encode(limit)
    plain = ordinary.message(dt.date(2025, 1, 1), Aliased(orderId=1)).encode(limit)
    assert (envelope.version_of(typed[1]), envelope.version_of(plain[1])) == (17, 1)


class Options(typing_extensions.TypedDict, total=False):
    when: dt.date
    n: typing_extensions.Required[int]


async def test_named_options_of_a_typed_dict_are_checked_one_by_one(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def give(first: int, /, **options: Unpack[Options]) -> dict[str, Any]:
        return dict(options)

    await run_worker(queue)
    given = {"when": dt.date(2025, 1, 1), "n": 1}
    assert await (await give.enqueue(1, **given)).result(timeout=60) == given  # type: ignore[arg-type]
    bad: list[tuple[dict[str, Any], str]] = [
        ({}, "missing a required argument: 'n'"),
        ({"n": 1, "zz": 2}, "unexpected keyword argument 'zz'"),
        ({"n": "x"}, "parameter 'n'"),
    ]
    for options, problem in bad:
        with pytest.raises(SerializationError, match=problem):
            await give.enqueue(1, **options)


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), ZeroDivisionError("z")])
async def test_the_parameter_is_named_for_any_error_of_a_validator(queue: TaskQueue, error: Exception) -> None:
    def fail(_: int) -> int:
        raise error

    async def give(n: Annotated[int, AfterValidator(fail)]) -> None: ...

    give.__annotations__ = {"n": Annotated[int, AfterValidator(fail)], "return": None}
    with pytest.raises(SerializationError, match="task 'give', parameter 'n': "):
        await queue.task(give).enqueue(1)
