"""Class tasks: their results and options. Both type checkers must find the marked errors, and no other."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Annotated, Any, ClassVar, Generic, TypeVar, assert_type

from taskfleet import Depends, Message, Retry, Task, TaskHandle, TaskQueue

queue = TaskQueue()
Item = TypeVar("Item")


def connect() -> bytes:
    return b""


class Receipt:
    total: int = 1


class Refund(Task[Receipt], queue="mail", retry=Retry.fixed(5), unique_key=lambda task: f"refund:{task.order}"):
    order: int
    max_retries = 5
    timeout_seconds = 60
    limit_key: ClassVar[str] = "mail"

    async def execute(self) -> Receipt:
        return Receipt()


class Later(Task["Answer"]):
    async def execute(self) -> Answer:
        return Answer()


class Answer: ...


class Blocking(Task[int]):
    def execute(self) -> int:
        return 1


class Injected(Task[int]):
    async def execute(self, database: Annotated[bytes, Depends(connect)], cache: bytes = Depends(connect)) -> int:
        return len(database + cache)


class Plain(Task):
    data: str

    async def execute(self) -> dict[str, str]:
        return {"data": self.data}


class PlainBlocking(Task):
    def execute(self) -> dict[str, str]:
        return {}


class Load(Task[Item], Generic[Item]):
    item: Item

    async def execute(self) -> Item:
        return self.item


class Wrong(Task[int]):
    async def execute(self) -> str:  # error: override
        return ""


class WrongBlocking(Task[int]):
    def execute(self) -> str:  # error: override
        return ""


class WrongRetries(Task[int]):
    max_retries = "5"  # error: assignment


async def any_of(task: Task[int]) -> None:
    assert_type(await queue.enqueue(task), TaskHandle[int])
    assert_type(task.execute(), Coroutine[Any, Any, int] | int)


async def calls() -> None:
    assert_type(await queue.enqueue(Refund(order=1)), TaskHandle[Receipt])
    assert_type(await (await queue.enqueue(Refund(order=1), "high")).result(), Receipt)
    assert_type(queue.enqueue_sync(Refund(order=1)), TaskHandle[Receipt])
    assert_type(await queue.schedule(Refund(order=1), delay=5), TaskHandle[Receipt])
    assert_type(queue.schedule_sync(Refund(order=1), "low", delay=5), TaskHandle[Receipt])
    assert_type(Refund(order=1).message(), Message[Receipt])
    assert_type(Refund(order=1).options(delay=60, queue="low"), Message[Receipt])
    assert_type(await queue.enqueue(Refund(order=1).options(delay=60)), TaskHandle[Receipt])
    assert_type(await Refund(order=1).execute(), Receipt)
    assert_type(await queue.enqueue(Later()), TaskHandle[Answer])
    assert_type(await queue.enqueue(Blocking()), TaskHandle[int])
    assert_type(await queue.enqueue(Injected()), TaskHandle[int])
    assert_type(await queue.enqueue(Plain(data="x")), TaskHandle[dict[str, str]])
    assert_type(await queue.enqueue(PlainBlocking()), TaskHandle[Any])
    assert_type(await queue.enqueue(Load[int](item=1)), TaskHandle[int])
    assert_type(await queue.enqueue_many([Refund(order=n) for n in range(3)]), list[TaskHandle[Receipt]])

    Refund(order=1).options(dealy=1)  # error: call-arg
    Refund(order=1).options(delay="1")  # error: arg-type
    await queue.enqueue(Refund)  # error: call-overload
    await queue.enqueue("refund")  # error: call-overload
    wrong: TaskHandle[str] = await queue.enqueue(Refund(order=1))  # error: arg-type
    await wrong.cancel()
