"""The recipe of docs/how-to/sentry.md with the real SDK, and a transport in memory."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from taskfleet import Retry, RetryLater, TaskExecutionError, TaskQueue
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.integrations.test_guides import files_of

AT_ONCE = Retry.fixed(0)


class InMemory(Transport):
    """Keeps the events that would be sent."""

    events: list[dict[str, Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.events = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.events += [dict(item.payload.json or {}) for item in envelope.items if item.type == "event"]


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    sentry_sdk.init(dsn="http://key@localhost:1/1", transport=InMemory)
    transport = sentry_sdk.get_client().transport
    assert isinstance(transport, InMemory)
    yield transport.events
    sentry_sdk.get_client().close()
    sentry_sdk.init(dsn=None)


def recipe(**options: Any) -> Any:
    """The middleware of the page."""
    module = types.ModuleType("shop_errors")
    exec(compile(files_of("sentry")["shop/errors.py"], "shop/errors.py", "exec"), vars(module))
    return module.Sentry(**options)


def summary(event: dict[str, Any]) -> tuple[str, str, str]:
    error = event["exception"]["values"][-1] if "exception" in event else {"type": "", "value": event["message"]}
    return event["transaction"], error["type"], error["value"]


async def fails(queue: TaskQueue, task: Any) -> None:
    with pytest.raises(TaskExecutionError):
        await (await task.enqueue()).result(timeout=30)


async def test_an_error_arrives_once_when_the_retries_are_used_up(
    make_queue: MakeQueue, run_worker: RunWorker, events: list[dict[str, Any]]
) -> None:
    queue = make_queue(middleware=[recipe()])
    attempts: list[int] = []

    @queue.task(max_retries=2, retry=AT_ONCE)
    async def charge() -> None:
        attempts.append(len(events))
        raise ValueError(f"refused {len(attempts)}")

    @queue.task(max_retries=0)
    def in_a_thread() -> None:
        raise KeyError("thread")

    await run_worker(queue)
    await fails(queue, charge)
    await until(lambda: events, "an event")
    await fails(queue, in_a_thread)
    await until(lambda: len(events) > 1, "another event")
    assert attempts == [0, 0, 0]
    assert [summary(event) for event in events] == [
        ("charge", "ValueError", "refused 3"), ("in_a_thread", "KeyError", "'thread'"),
    ]  # fmt: skip
    assert events[0]["tags"] == {"task": "charge", "queue": "default"}
    assert events[0]["contexts"]["task"]["attempt"] == 3
    frames = events[0]["exception"]["values"][-1]["stacktrace"]["frames"]
    assert frames[-1]["function"] == "charge"


async def test_every_attempt_can_be_reported(
    make_queue: MakeQueue, run_worker: RunWorker, events: list[dict[str, Any]]
) -> None:
    queue = make_queue(middleware=[recipe(every_attempt=True)])

    @queue.task(max_retries=2, retry=AT_ONCE)
    async def charge() -> None:
        raise ValueError("refused")

    await run_worker(queue)
    await fails(queue, charge)
    await until(lambda: len(events) >= 3, "three events")
    assert sorted(event["contexts"]["task"]["attempt"] for event in events) == [1, 2, 3]


async def test_the_scopes_of_tasks_that_run_at_once_do_not_mix(
    make_queue: MakeQueue, run_worker: RunWorker, events: list[dict[str, Any]]
) -> None:
    queue = make_queue(middleware=[recipe()])
    together = asyncio.Event()
    running = 0

    def note(n: int) -> None:
        sentry_sdk.set_tag("order", n)
        sentry_sdk.set_user({"id": str(n)})
        sentry_sdk.add_breadcrumb(message=f"order {n}")

    @queue.task(max_retries=0)
    async def charge(n: int) -> None:
        nonlocal running
        note(n)
        running += 1
        if running == 6:
            together.set()
        await together.wait()
        raise ValueError(f"refused {n}")

    await run_worker(queue)
    for n in range(6):
        await charge.enqueue(n)
    await until(lambda: len(events) == 6, "six events")
    for event in events:
        n = event["exception"]["values"][-1]["value"].removeprefix("refused ")
        assert (str(event["tags"]["order"]), event["user"]["id"]) == (n, n)
        said = [
            each["message"] for each in event["breadcrumbs"]["values"] if each.get("category") != "taskfleet.worker"
        ]
        assert [each for each in said if each.startswith("order")] == [f"order {n}"]
    assert "order" not in sentry_sdk.get_isolation_scope()._tags


async def test_ends_without_an_exception(
    make_queue: MakeQueue, run_worker: RunWorker, events: list[dict[str, Any]]
) -> None:
    queue = make_queue(middleware=[recipe()])

    @queue.task(timeout=0.1, max_retries=0)
    async def slow() -> None:
        await asyncio.sleep(30)

    @queue.task
    async def later() -> str:
        if not seen:
            seen.append(1)
            raise RetryLater(0)
        return "now"

    seen: list[int] = []
    await run_worker(queue)
    assert await (await later.enqueue()).result(timeout=60) == "now"
    await fails(queue, slow)
    await until(lambda: events, "an event")
    assert [summary(event) for event in events] == [
        ("slow", "", "slow: timeout: it ran longer than its timeout of 0.1 s")
    ]
