"""Options of decorators, calls and class tasks. Both type checkers must find the marked errors, and no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from taskfleet import BatchItem, Retry, Task, TaskHandle, TaskQueue
from taskfleet.tasks.options import CallOptions

queue = TaskQueue()


def key(a: int) -> str:
    return str(a)


def number(a: int) -> int:
    return a


@queue.task(
    name="one",
    queue="q",
    max_retries=1,
    timeout=timedelta(minutes=1),
    retry=Retry.fixed(1),
    max_age=None,
    never_retry=ValueError,
    always_retry=[OSError],
    executor="thread",
    result_ttl=0,
    expires=timedelta(days=1),
    delay=1,
    unique_key=key,
    unique_mode="debounce",
    limit_key="l",
    fair_key=key,
)
def one(a: int) -> str:
    return str(a)


@queue.batch_task(
    size=10,
    window_ms=timedelta(milliseconds=50),
    name="many",
    queue="q",
    max_retries=1,
    timeout=None,
    retry=Retry.fixed(1),
    max_age=1,
    never_retry=(ValueError,),
    always_retry={OSError},
    result_ttl=None,
    expires=1.5,
    delay=1,
    unique_key=key,
    unique_mode="replace",
    limit_key=key,
    fair_key="f",
)
def many(items: list[BatchItem]) -> list[int]:
    return [1]


class Report(Task):
    async def execute(self) -> None: ...


queue.task(quue="x")  # error: call-overload
queue.task(queue=None)  # error: call-overload
queue.task(max_retries="3")  # error: call-overload
queue.task(max_retries=None)  # error: call-overload
queue.task(timeout="1")  # error: call-overload
queue.task(executor="process ")  # error: call-overload
queue.task(unique_key=number)  # error: arg-type
queue.task(unique_mode="keep")  # error: call-overload
queue.task(never_retry=1)  # error: call-overload
queue.task(eta=datetime.now(UTC))  # error: call-overload
queue.task(after=[])  # error: call-overload
queue.batch_task(quue="x")  # error: call-overload
queue.batch_task(delay=None)  # error: call-overload
queue.batch_task(executor="thread")  # error: call-overload
queue.batch_task(size="10")  # error: call-overload
queue.batch_task(retry=3)  # error: call-overload
queue.batch_task(wait_for_room=1)  # error: call-overload


def calls(handle: TaskHandle[int]) -> None:
    one.options(
        queue="q",
        delay=timedelta(1),
        expires=1,
        max_retries=0,
        timeout=1,
        result_ttl=1,
        retry=Retry.fixed(1),
        max_age=1,
        unique_key="u",
        unique_mode="replace",
        limit_key="l",
        fair_key="f",
        after=[handle],
        wait_for_room=1,
    )
    many.options(queue=None, eta=datetime.now(UTC), max_retries=None, retry=None, unique_mode=None, unique_key=None)
    one.options(quue="x")  # error: call-arg
    one.options(queue=3)  # error: arg-type
    one.options(delay=None)  # error: arg-type
    one.options(eta=3.0)  # error: arg-type
    one.options(unique_key=key)  # error: arg-type
    one.options(unique_mode="keep")  # error: arg-type
    one.options(after=handle)  # error: arg-type
    one.options(executor="thread")  # error: call-arg
    one.options(never_retry=ValueError)  # error: call-arg
    one.options(name="x")  # error: call-arg
    many.options(timeout="1")  # error: arg-type
    many.options(size=10)  # error: call-arg
    Report().message({"delay": 1})
    Report().message(CallOptions(eta=datetime.now(UTC)))
    Report().message({"dealy": 1})  # error: arg-type
    Report().message({"delay": "1"})  # error: arg-type
