"""Spans of enqueue, wait and run on a real Redis, kept in memory."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as contexts
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.attributes import error_attributes, exception_attributes
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind, StatusCode

from taskfleet import (
    BatchItem,
    CallNext,
    Middleware,
    Retry,
    RetryLater,
    Task,
    TaskCancelledError,
    TaskContext,
    TaskExecutionError,
    TaskQueue,
    chain,
    chord,
    current_task,
    group,
    logs,
    tracing,
)
from taskfleet.integrations.opentelemetry import conventions, earlier, instrument, middleware, queue_figures, spans
from taskfleet.integrations.opentelemetry.instrumentor import TaskfleetInstrumentor
from taskfleet.integrations.opentelemetry.sampling import Sampling
from taskfleet.protocol.sealing import PLAIN
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.integrations.spans_kept import Kept, facts, ids, links_of, parent_of
from tests.support import white_box

AT_ONCE = Retry.fixed(0)


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.close()


@pytest.fixture
def traced(queue: TaskQueue, kept: Kept) -> TaskQueue:
    instrument(queue, kept.tracers, kept.meters)
    return queue


def test_names_are_those_of_the_installed_conventions() -> None:
    known = {
        value
        for module in (messaging_attributes, messaging_metrics, error_attributes, exception_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    }
    ours = {
        name: value
        for name, value in vars(conventions).items()
        if isinstance(value, str) and value.startswith(("messaging.", "error.", "exception."))
    }
    assert len(ours) > 10
    assert {name: value for name, value in ours.items() if value not in known} == {}
    assert conventions.SCHEMA_URL in {schema.value for schema in Schemas}
    kinds = messaging_attributes.MessagingOperationTypeValues
    assert [kinds.SEND.value, kinds.RECEIVE.value, kinds.PROCESS.value] == [
        conventions.SEND, conventions.RECEIVE, conventions.PROCESS,
    ]  # fmt: skip


async def test_enqueue_wait_and_run_are_one_trace(traced: TaskQueue, kept: Kept, run_worker: RunWorker) -> None:
    inner = kept.tracers.get_tracer("app")

    @traced.task
    async def send_email(to: str) -> str:
        with inner.start_as_current_span("smtp"):
            return to

    with inner.start_as_current_span("request") as request:
        handle = await send_email.enqueue("ada@example.com")
    worker = await run_worker(traced)
    assert await handle.result(timeout=60) == "ada@example.com"
    (run,) = await kept.until("process send_email")
    (sent,), (wait,), (smtp,) = kept.named("send send_email"), kept.named("wait send_email"), kept.named("smtp")
    about = request.get_span_context()
    assert parent_of(sent) == (about.trace_id, about.span_id)
    assert parent_of(run) == parent_of(wait) == ids(sent)
    assert parent_of(smtp) == ids(run)
    assert (sent.kind, wait.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CONSUMER)
    assert facts(sent) == {
        "messaging.system": "taskfleet", "messaging.operation.name": "send", "messaging.operation.type": "send",
        "messaging.destination.name": "default", "taskfleet.task.name": "send_email", "messaging.message.id": handle.id,
    }  # fmt: skip
    shared = {
        "messaging.system": "taskfleet", "messaging.destination.name": "default", "messaging.message.id": handle.id,
        "messaging.client.id": worker.identity.worker_id, "taskfleet.task.name": "send_email",
        "taskfleet.task.attempt": 1, "taskfleet.task.delivery": 1,
    }  # fmt: skip
    named = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert facts(run) == shared | named
    assert facts(wait) == shared | {"messaging.operation.name": "wait", "messaging.operation.type": "receive"}
    assert run.status.status_code is StatusCode.UNSET
    assert run.instrumentation_scope is not None
    assert run.instrumentation_scope.schema_url == conventions.SCHEMA_URL
    assert "ada@example.com" not in "".join(span.to_json() for span in kept.spans)


async def test_a_wait_begins_when_the_task_could_run(traced: TaskQueue, kept: Kept, run_worker: RunWorker) -> None:
    @traced.task
    async def later() -> None: ...

    before = dt.datetime.now(dt.UTC).timestamp()
    await later.options(delay=0.5).enqueue()
    await later.options(eta=dt.datetime.fromtimestamp(before + 0.6, dt.UTC)).enqueue()
    await run_worker(traced)
    waits = await kept.until("wait later", 2)
    for wait, due in zip(waits, (0.5, 0.6), strict=True):
        assert wait.start_time is not None
        assert wait.start_time / 1e9 >= before + due - 0.01
        assert wait.end_time is not None
        assert wait.end_time >= wait.start_time


async def test_each_attempt_is_a_span_that_links_to_the_one_before(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    @traced.task(max_retries=2, retry=AT_ONCE)
    async def flaky() -> str:
        if trace.get_current_span() and len(kept.named("process flaky")) < 2:
            raise ValueError("no luck")
        return "luck"

    handle = await flaky.enqueue()
    await run_worker(traced)
    assert await handle.result(timeout=60) == "luck"
    first, second, third = await kept.until("process flaky", 3)
    (sent,) = kept.named("send flaky")
    assert parent_of(first) == parent_of(second) == parent_of(third) == ids(sent)
    assert links_of(first) == []
    assert links_of(second) == [("earlier_attempt", ids(first))]
    assert links_of(third) == [("earlier_attempt", ids(second))]
    assert [facts(span)["taskfleet.task.attempt"] for span in (first, second, third)] == [1, 2, 3]
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "no luck")
    assert facts(first)["error.type"] == "ValueError"
    (event,) = first.events
    assert dict(event.attributes or {})["exception.type"] == "ValueError"
    assert "raise ValueError" in str(dict(event.attributes or {})["exception.stacktrace"])
    assert third.status.status_code is StatusCode.UNSET


async def test_a_sealed_attempt_links_too(make_queue: MakeQueue, kept: Kept, run_worker: RunWorker) -> None:
    queue = make_queue(encryption_keys=[b"k" * 32])
    instrument(queue, kept.tracers)

    @queue.task(max_retries=1, retry=AT_ONCE)
    async def flaky() -> None:
        if not kept.named("process flaky"):
            raise ValueError

    @queue.task
    async def one() -> int:
        return 1

    @queue.task
    async def total(values: list[int]) -> int:
        return sum(values)

    await run_worker(queue)
    await (await flaky.enqueue()).result(timeout=60)
    first, second = await kept.until("process flaky", 2)
    assert links_of(second) == [("earlier_attempt", ids(first))]
    handle = await queue.enqueue(chord([one.message(), one.message()], total.partial()))
    assert await handle.result(timeout=60) == 2
    (run,) = await kept.until("process total")
    assert sorted(links_of(run)) == sorted(("result_of", ids(each)) for each in kept.named("process one"))


async def test_the_errors_of_a_task_name_their_traces(make_queue: MakeQueue, kept: Kept, run_worker: RunWorker) -> None:
    queue, plain = make_queue(), make_queue()
    instrument(queue, kept.tracers, separate_traces=True)

    @queue.task(max_retries=1, retry=AT_ONCE)
    async def fail() -> None:
        raise ValueError

    await run_worker(queue)
    handle = await fail.enqueue()
    with pytest.raises(TaskExecutionError):
        await handle.result(timeout=60)
    runs = await kept.until("process fail", 2)
    expected = [f"{ids(run)[0]:032x}" for run in runs]
    assert expected[0] != expected[1]
    assert [error.trace_id for error in (await handle.info()).errors] == expected
    # Who has no OpenTelemetry reads it too.
    assert [error.trace_id for error in (await plain.handle(handle.id).info()).errors] == expected


async def test_a_requeued_dead_letter_is_in_the_trace_of_its_enqueue(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    @traced.task(max_retries=0)
    async def fails_once() -> str:
        if not kept.named("process fails_once"):
            raise ValueError("not yet")
        return "now"

    await run_worker(traced)
    handle = await fails_once.enqueue()
    with pytest.raises(TaskExecutionError):
        await handle.result(timeout=60)
    assert await traced.requeue_dead("default") == 1
    first, second = await kept.until("process fails_once", 2)
    (sent,) = kept.named("send fails_once")
    assert parent_of(first) == parent_of(second) == ids(sent)
    assert links_of(second) == [("earlier_attempt", ids(first))]


async def test_a_run_links_to_the_runs_whose_results_it_takes(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    @traced.task
    async def one(value: int) -> int:
        return value + 1

    @traced.task
    async def total(values: list[int]) -> int:
        return sum(values)

    await run_worker(traced)
    handle = await traced.enqueue(chain(one.message(1), one.partial(), one.partial()))
    assert await handle.result(timeout=60) == 4
    first, second, third = sorted(await kept.until("process one", 3), key=lambda span: span.start_time or 0)
    (sent,) = kept.named("send one")
    assert facts(sent)["messaging.batch.message_count"] == 3
    assert parent_of(first) == parent_of(second) == parent_of(third) == ids(sent)
    assert links_of(second) == [("result_of", ids(first))]
    assert links_of(third) == [("result_of", ids(second))]
    kept.clear()
    members = await traced.enqueue(group(one.message(1), one.message(2)))
    assert await members.result(timeout=60) == [2, 3]
    assert [links_of(span) for span in await kept.until("process one", 2)] == [[], []]
    kept.clear()
    handle = await traced.enqueue(chord([one.message(n) for n in range(3)], total.partial()))
    assert await handle.result(timeout=60) == 6
    (run,) = await kept.until("process total")
    assert sorted(links_of(run)) == sorted(("result_of", ids(each)) for each in kept.named("process one"))
    (sent,) = kept.named("send default")
    assert parent_of(run) == ids(sent)


async def test_a_result_for_which_there_is_just_room_is_passed_on_without_its_trace(
    make_queue: MakeQueue, kept: Kept, run_worker: RunWorker
) -> None:
    queue = make_queue(max_result_bytes=1000)
    instrument(queue, kept.tracers)

    @queue.task
    async def page(size: int) -> str:
        return "x" * size

    @queue.task
    async def length(text: str) -> int:
        return len(text)

    await run_worker(queue)
    links: list[int] = []
    for size in (800, 980):
        handle = await queue.enqueue(chain(page.message(size), length.partial()))
        assert await handle.result(timeout=60) == size
        (run,) = await kept.until("process length")
        links.append(len(links_of(run)))
        kept.clear()
    assert links == [1, 0]


async def test_a_task_that_only_waits_links_to_the_enqueue_of_the_other(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    @traced.task
    async def first() -> None: ...

    @traced.task
    async def second() -> None: ...

    before = await first.enqueue()
    await second.options(after=[before]).enqueue()
    await run_worker(traced)
    (run,) = await kept.until("process second")
    assert links_of(run) == [("after", ids(kept.named("send first")[0]))]


async def test_many_messages_are_sent_in_one_span(traced: TaskQueue, kept: Kept, run_worker: RunWorker) -> None:
    @traced.task
    async def small(n: int) -> int:
        return n

    handles = await traced.enqueue_many([small.message(n) for n in range(20)])
    await run_worker(traced)
    assert [await each.result(timeout=60) for each in handles] == list(range(20))
    runs = await kept.until("process small", 20)
    (sent,) = kept.named("send small")
    assert {parent_of(run) for run in runs} == {ids(sent)}
    assert facts(sent)["messaging.batch.message_count"] == 20
    assert "messaging.message.id" not in facts(sent)


async def test_a_batch_is_one_span_that_links_to_the_enqueue_of_each_item(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    @traced.batch_task(size=3, window_ms=5000)
    async def index(items: list[BatchItem[int]]) -> list[Any]:
        return [ValueError("bad") if item.args[0] == 1 else None for item in items]

    with kept.tracers.get_tracer("app").start_as_current_span("request"):
        for n in range(3):
            await index.options(max_retries=0).enqueue(n)
    await run_worker(traced)
    (run,) = await kept.until("process index")
    assert run.parent is None
    assert sorted(links_of(run)) == sorted(("enqueue", ids(sent)) for sent in kept.named("send index"))
    assert facts(run)["messaging.batch.message_count"] == 3
    assert facts(run)["taskfleet.batch.failed_count"] == 1
    assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, "1 of 3 items failed")


async def test_plain_functions_and_class_tasks_run_in_their_span(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    inner = kept.tracers.get_tracer("app")

    @traced.task
    def in_a_thread() -> None:
        inner.start_span("inside").end()

    class Greet(Task[str]):
        person: str

        async def execute(self) -> str:
            inner.start_span("inside").end()
            return self.person

    await run_worker(traced)
    await (await in_a_thread.enqueue()).result(timeout=60)
    await (await traced.enqueue(Greet(person="Ada"))).result(timeout=60)
    first, second = await kept.until("inside", 2)
    (thread,) = await kept.until("process in_a_thread")
    runs = [span for span in kept.spans if span.name.startswith("process ")]
    assert parent_of(first) == ids(thread)
    assert [parent_of(second)] == [ids(run) for run in runs if run is not thread]


@pytest.mark.parametrize("how", ["process", "fails"])
async def test_a_child_process_continues_the_trace(
    how: str, shared: TaskQueue, kept: Kept, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.integrations import traced_app

    # The module was made without the settings of this test.
    queue = TaskQueue.from_config()
    instrument(queue, kept.tracers)
    function = traced_app.in_a_process if how == "process" else traced_app.fails_in_a_process
    queue.registry.add(function.definition)
    async with queue:
        await run_worker(queue)
        handle = await queue.send(function.message())
        if how == "process":
            trace_id, span_id, task_id = await handle.result(timeout=30)
            (run,) = await kept.until("process in_a_process")
            assert (int(trace_id, 16), int(span_id, 16), task_id) == (*ids(run), handle.id)
            return
        with pytest.raises(TaskExecutionError):
            await handle.result(timeout=30)
        (run,) = await kept.until("process fails_in_a_process")
        assert facts(run)["error.type"] == "KeyError"
        assert "fails_in_a_process" in str(dict(run.events[0].attributes or {})["exception.stacktrace"])


async def test_each_tick_of_a_schedule_is_a_trace_of_its_own(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    @traced.task
    async def report() -> None: ...

    with kept.tracers.get_tracer("app").start_as_current_span("deploy"):
        await traced.add_schedule(name="reports", task=report, every=1)
    await traced.start_scheduler()
    await run_worker(traced)
    runs = await kept.until("process report", 2)
    assert {run.parent for run in runs} == {None}
    assert len({ids(run)[0] for run in runs}) == len(runs)
    await traced.remove_schedule("reports")

    def all_ended() -> bool:
        waits, runs = kept.named("wait report"), kept.named("process report")
        return len(waits) > 1 and {parent_of(wait) for wait in waits} <= {ids(run) for run in runs}

    await until(all_ended, "every wait is that of a run")


async def test_the_end_of_a_run_is_in_its_span(traced: TaskQueue, kept: Kept, run_worker: RunWorker) -> None:
    @traced.task(timeout=0.1, max_retries=0)
    async def slow() -> None:
        await asyncio.sleep(30)

    @traced.task
    async def later() -> str:
        if not kept.named("process later"):
            raise RetryLater(0.0)
        return "now"

    @traced.task
    async def endless() -> None:
        await asyncio.sleep(30)

    await run_worker(traced)
    with pytest.raises(TaskExecutionError):
        await (await slow.enqueue()).result(timeout=60)
    (run,) = await kept.until("process slow")
    assert (run.status.status_code, facts(run)["error.type"]) == (StatusCode.ERROR, "timeout")
    await (await later.enqueue()).result(timeout=60)
    first, _ = await kept.until("process later", 2)
    assert (first.status.status_code, facts(first)["taskfleet.task.outcome"]) == (StatusCode.UNSET, "retry_later")
    handle = await endless.enqueue()

    async def runs() -> bool:
        return await handle.status() == "running"

    await until(runs, "it runs")
    await handle.cancel()
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=60)
    (run,) = await kept.until("process endless")
    assert (run.status.status_code, facts(run)["taskfleet.task.outcome"]) == (StatusCode.UNSET, "cancelled")


async def test_the_worker_says_how_a_run_has_ended_and_not_what_its_handler_makes_of_its_cancellation(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    queue = traced

    @queue.task(timeout=0.1, max_retries=0)
    async def returns() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return "late"

    @queue.task(timeout=0.1, max_retries=0)
    async def raises() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise ValueError("on the way out") from None

    @queue.task(max_retries=0)
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    @queue.batch_task(size=2, window_ms=10, max_retries=0, timeout=0.1)
    async def together(items: list[BatchItem]) -> list[Exception]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return [ValueError("late") for _ in items]

    await run_worker(queue)
    for task, error in ((returns, "timeout"), (raises, "timeout"), (cancels_itself, "CancelledError")):
        with pytest.raises(TaskExecutionError):
            await (await task.enqueue()).result(timeout=60)
        (run,) = await kept.until(f"process {task.name}")
        assert run.status.status_code is StatusCode.ERROR
        assert str(facts(run)["error.type"]).endswith(error)
        assert "taskfleet.task.outcome" not in facts(run)
    with pytest.raises(TaskExecutionError):
        await (await together.enqueue(1)).result(timeout=60)
    (run,) = await kept.until("process together")
    assert facts(run)["error.type"] == "timeout"
    points = await asyncio.to_thread(kept.points)
    consumed = points["messaging.client.consumed.messages"]
    ended = {(one.attributes["taskfleet.task.name"], one.attributes.get("error.type")) for one in consumed}
    assert {("returns", "timeout"), ("raises", "timeout"), ("together", "timeout")} <= ended


async def test_a_run_that_its_worker_gives_back_or_has_lost_is_no_error(
    make_queue: MakeQueue, kept: Kept, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=[{"name": "default", "lease_seconds": 6}], grace=0.1)
    instrument(queue, kept.tracers)
    running: list[str] = []

    @queue.task
    async def endless(name: str) -> None:
        running.append(name)
        await asyncio.sleep(60)

    @queue.task
    async def stopped_by_others() -> None:
        running.append("other")
        await asyncio.sleep(60)

    worker = await run_worker(queue)
    lost = await endless.enqueue("lost")
    await until(lambda: running == ["lost"], "it runs")
    await white_box.give_away(queue, lost.id)
    await white_box.lengthen_lease(queue, lost.id, 600)  # nobody renews it, and who ends it runs the task again
    await until(lambda: not worker.held, "it has lost it")
    await endless.enqueue("returned")
    await until(lambda: running == ["lost", "returned"], "it runs")
    await stopped_by_others.enqueue()
    await until(lambda: running[-1] == "other", "it runs")
    (job,) = [job for job in worker.slots.running.values() if job.definition.name == "stopped_by_others"]
    assert job.task is not None
    job.task.cancel()  # neither the worker nor the handler has done it
    (other,) = await kept.until("process stopped_by_others")
    worker.drain()
    runs = await kept.until("process endless", 2)
    found = [(facts(run)["taskfleet.task.outcome"], run.status.status_code) for run in [*runs, other]]
    assert found == [
        ("lease_lost", StatusCode.UNSET), ("returned", StatusCode.UNSET), ("returned", StatusCode.UNSET),
    ]  # fmt: skip


async def test_what_a_process_remembers_of_its_enqueues_and_a_span_of_its_links_has_a_bound(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_MOST_SENT", 40)
    monkeypatch.setattr(middleware, "_MOST_LINKED", 2)

    @traced.task
    async def small() -> None: ...

    @traced.batch_task(size=3, window_ms=5000)
    async def together(items: list[BatchItem]) -> None: ...

    await traced.enqueue_many([small.message() for _ in range(100)])
    (spans_of,) = traced.application.middleware.all
    assert isinstance(spans_of, middleware.OpenTelemetryMiddleware)
    assert len(spans_of._sent) == spans.MOST_LINKS, "of many messages the first"
    handles = [await small.enqueue() for _ in range(30)]
    assert len(spans_of._sent) == 40
    assert all(handle.id in spans_of._sent for handle in handles), "the latest"
    for _ in range(3):
        await together.enqueue()
    await run_worker(traced)
    (run,) = await kept.until("process together")
    assert facts(run)["messaging.batch.message_count"] == 3
    assert len(links_of(run)) == 2


async def test_a_wait_never_ends_before_it_begins(traced: TaskQueue, kept: Kept, run_worker: RunWorker) -> None:
    @traced.task
    async def small() -> None: ...

    due = dt.datetime.now(dt.UTC).timestamp() + 3600  # a clock that is ahead wrote it
    packed = msgpack.packb([1, "small", [], {}, {"h": {"taskfleet-due": f"@{due:.3f}"}}])
    await traced.broker.enqueue("default", [("ahead-1", packed, 0, 0, None)], max_length=0)  # type: ignore[arg-type]
    await run_worker(traced)
    (wait,) = await kept.until("wait small")
    assert wait.start_time is not None
    assert wait.end_time is not None
    assert wait.start_time <= wait.end_time <= (due - 3500) * 1e9


async def test_a_run_that_is_stopped_while_it_looks_for_the_one_before_has_a_span_that_ends(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = asyncio.Event()

    async def endless(*_: Any) -> None:
        looks.set()
        await asyncio.sleep(30)

    monkeypatch.setattr("taskfleet.integrations.opentelemetry.middleware.earlier_run", endless)

    @traced.task(max_retries=1, retry=AT_ONCE)
    async def fails() -> None:
        raise ValueError

    await run_worker(traced)
    handle = await fails.enqueue()
    async with asyncio.timeout(60):
        await looks.wait()
    await handle.cancel()
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=60)
    _, second = await kept.until("process fails", 2)
    assert (facts(second)["taskfleet.task.attempt"], second.status.status_code) == (2, StatusCode.UNSET)


async def test_a_refused_enqueue_is_an_error_of_its_span(make_queue: MakeQueue, kept: Kept) -> None:
    queue = make_queue(max_payload_bytes=200)
    instrument(queue, kept.tracers, kept.meters)

    @queue.task
    async def small(text: str) -> None: ...

    with pytest.raises(Exception, match="max_payload_bytes"):
        await small.enqueue("x" * 300)
    (sent,) = kept.named("send small")
    assert sent.status.status_code is StatusCode.ERROR
    assert facts(sent)["error.type"] == "taskfleet.errors.PayloadTooLargeError"


async def test_a_trace_that_is_not_sampled_costs_no_span_and_stays_unsampled(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(ParentBased(ALWAYS_OFF))
    queue = make_queue()
    instrument(queue, kept.tracers)
    seen: list[tuple[bool, Any]] = []

    @queue.task(max_retries=1, retry=AT_ONCE)
    async def small() -> None:
        about = trace.get_current_span().get_span_context()
        seen.append((about.is_valid, about.trace_flags.sampled))
        assert tracing.exemplar() is None
        if len(seen) == 1:
            raise ValueError

    called: list[object] = []
    monkeypatch.setattr("taskfleet.integrations.opentelemetry.middleware.earlier_run", called.append)
    await run_worker(queue)
    handle = await small.enqueue()
    await handle.result(timeout=60)
    assert seen == [(True, False)] * 2
    assert (list(kept.spans), called) == ([], [])
    kept.close()


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside-another-middleware"])
async def test_what_is_not_sampled_stays_in_its_trace(
    make_queue: MakeQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture, beside: bool
) -> None:
    class Other(Middleware):
        async def enqueue(self, messages: Any, call_next: Any) -> None:
            await call_next()

        async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
            return await call_next()

    kept = Kept(ParentBased(ALWAYS_OFF))
    queue = make_queue(middleware=[Other()] if beside else [])
    instrument(queue, kept.tracers)
    found: list[Any] = []
    fields: list[str] = []

    @queue.task(max_retries=0)
    async def outer() -> None:
        found.append(dict(current_task().headers))
        fields.append(tracing.current().trace_id)  # type: ignore[union-attr]
        await inner.enqueue()
        raise ValueError("no luck")

    @queue.task
    async def inner() -> None:
        found.append(dict(current_task().headers))
        with kept.tracers.get_tracer("own").start_as_current_span("own") as own:
            assert not own.is_recording()
            fields.append(f"{own.get_span_context().trace_id:032x}")

    await run_worker(queue)
    sender = trace.SpanContext(0xABC, 0xDEF, True, trace.TraceFlags(0), trace.TraceState([("vendor", "x")]))
    token = contexts.attach(trace.set_span_in_context(trace.NonRecordingSpan(sender)))
    message = outer.message()
    handle = await queue.enqueue(message)
    contexts.detach(token)
    assert message.headers == {}, "a message may be sent again"
    with pytest.raises(TaskExecutionError):
        await handle.result(timeout=60)
    await until(lambda: len(found) == 2, "both have run")
    assert [each["traceparent"] for each in found] == [f"00-{0xABC:032x}-{0xDEF:016x}-00"] * 2
    assert [each["tracestate"] for each in found] == ["vendor=x"] * 2
    assert fields == [f"{0xABC:032x}"] * 2
    assert list(kept.spans) == []
    [failure] = [record for record in caplog.records if "no luck" in record.getMessage()]
    assert getattr(failure, "taskfleet")["trace_id"] == f"{0xABC:032x}"  # noqa: B009 - a field of a record
    kept.close()


async def test_headers_that_no_tracer_has_written_begin_a_trace(
    make_queue: MakeQueue, traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    async def small() -> None: ...

    traced.task(small)
    plain = make_queue().task(small).message()
    plain.headers["traceparent"] = f"00-{'0' * 32}-{'1' * 16}-00"
    await make_queue().enqueue(plain)
    await run_worker(traced)
    [run] = await kept.until("process small")
    assert run.parent is None


async def test_a_sampler_in_the_worker_decides_for_traces_that_begin_there(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    kept = Kept(ParentBased(TraceIdRatioBased(0.0)))
    queue = make_queue()
    instrument(queue, kept.tracers, separate_traces=True)

    @queue.task
    async def small() -> None: ...

    await run_worker(queue)
    await (await small.enqueue()).result(timeout=60)
    assert list(kept.spans) == []
    kept.close()


async def test_separate_traces_link_to_the_enqueue(make_queue: MakeQueue, kept: Kept, run_worker: RunWorker) -> None:
    queue = make_queue()
    instrument(queue, kept.tracers, separate_traces=True, wait_spans=False)

    @queue.task
    async def small() -> None: ...

    await run_worker(queue)
    await (await small.enqueue()).result(timeout=60)
    (run,), (sent,) = await kept.until("process small"), kept.named("send small")
    assert run.parent is None
    assert links_of(run) == [("enqueue", ids(sent))]
    assert kept.named("wait small") == []


async def test_separate_traces_begin_anew_also_where_the_enqueue_is_not_sampled(
    make_queue: MakeQueue, kept: Kept, run_worker: RunWorker
) -> None:
    queue = make_queue()
    instrument(queue, kept.tracers, separate_traces=True)

    @queue.task
    async def small() -> None: ...

    await run_worker(queue)
    sender = trace.SpanContext(0xABC, 0xDEF, True, trace.TraceFlags(0))
    with trace.use_span(trace.NonRecordingSpan(sender)):
        await (await small.enqueue()).result(timeout=60)
    (run,) = await kept.until("process small")
    assert run.parent is None
    assert links_of(run) == [("enqueue", (0xABC, 0xDEF))]


async def test_what_is_in_no_kept_trace_is_counted_all_the_same(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    kept = Kept(ParentBased(ALWAYS_OFF))
    queue = make_queue()
    instrument(queue, kept.tracers, kept.meters, queue_figures=False)

    @queue.task
    async def small() -> None: ...

    await run_worker(queue)
    await (await small.enqueue()).result(timeout=60)

    async def counted() -> bool:
        points = await asyncio.to_thread(kept.points)
        names = ("messaging.client.sent.messages", "messaging.client.consumed.messages")
        return [[point.value for point in points.get(name, ())] for name in names] == [[1], [1]]

    await until(counted, "both are counted")
    assert list(kept.spans) == []
    kept.close()


async def test_a_run_names_its_partition_beside_its_queue(
    make_queue: MakeQueue, kept: Kept, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=[{"name": "default", "partitions": 4}])
    instrument(queue, kept.tracers)

    @queue.task
    async def small() -> None: ...

    await queue.enqueue_many([small.message() for _ in range(40)])
    await run_worker(queue)
    runs = await kept.until("process small", 40)
    assert {facts(run)["messaging.destination.name"] for run in runs} == {"default"}
    partitions = {facts(run).get("messaging.destination.partition.id") for run in runs}
    assert len(partitions) > 1
    assert partitions <= {None, "1", "2", "3"}


async def test_a_long_state_of_a_trace_does_not_travel(traced: TaskQueue, kept: Kept, run_worker: RunWorker) -> None:
    found: list[dict[str, str]] = []

    @traced.task
    async def small() -> None:
        found.append(dict(current_task().headers))

    await run_worker(traced)
    for size in (100, 250):
        state = trace.TraceState([("a", "x" * size), ("b", "y" * size), ("c", "z" * size)][: size // 80])
        sender = trace.SpanContext(0xABC, 0xDEF, True, trace.TraceFlags(1), state)
        with trace.use_span(trace.NonRecordingSpan(sender)):
            await (await small.enqueue()).result(timeout=60)
    assert [len(headers.get("tracestate", "")) for headers in found] == [102, 0]
    assert all("traceparent" in headers for headers in found)


async def test_a_long_traceback_is_cut_in_the_span(traced: TaskQueue, kept: Kept, run_worker: RunWorker) -> None:
    @traced.task(max_retries=0)
    async def deep() -> None:
        raise ValueError("m" * 50_000)

    await run_worker(traced)
    with pytest.raises(TaskExecutionError):
        await (await deep.enqueue()).result(timeout=60)
    (run,) = await kept.until("process deep")
    attributes = dict(run.events[0].attributes or {})
    assert len(str(attributes["exception.stacktrace"])) <= 16_100
    assert len(str(attributes["exception.message"])) < 5000


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("on", [False, True])
async def test_baggage_travels_only_when_asked(
    on: bool, sampled: bool, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue()
    kept = Kept() if sampled else Kept(ParentBased(ALWAYS_OFF))
    instrument(queue, kept.tracers, baggage=on)

    @queue.task
    async def small() -> list[Any]:
        return [baggage.get_baggage("customer")]

    token = contexts.attach(baggage.set_baggage("customer", "7"))
    handle = await small.enqueue()
    contexts.detach(token)
    await run_worker(queue)
    assert await handle.result(timeout=60) == (["7"] if on else [None])
    kept.close()


async def test_messages_of_exceptions_can_be_left_out(make_queue: MakeQueue, kept: Kept, run_worker: RunWorker) -> None:
    queue = make_queue()
    instrument(queue, kept.tracers, record_exceptions=False)

    @queue.task(max_retries=0)
    async def leaky() -> None:
        raise ValueError("the password is hunter2")

    await run_worker(queue)
    with pytest.raises(TaskExecutionError):
        await (await leaky.enqueue()).result(timeout=60)
    (run,) = await kept.until("process leaky")
    assert facts(run)["error.type"] == "ValueError"
    assert "hunter2" not in run.to_json()


HOSTILE: list[Any] = [
    None, 7, "text", [], ["traceparent"], {b"traceparent": b"x"}, {"traceparent": 7}, {"traceparent": None},
    {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"}, {"traceparent": "x" * 500_000},
    {"traceparent": "00-" + "A" * 32 + "-" + "b" * 16 + "-01"},
    {"traceparent": "ff-" + "a" * 32 + "-" + "b" * 16 + "-01"},
    {"traceparent": ["00-" + "a" * 32 + "-" + "b" * 16 + "-01"]},
    {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01\n"},
    {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "a=b," * 50_000,
     "baggage": "x" * 300_000, "taskfleet-due": "1e999", "taskfleet-after": "00-" * 100_000},
    {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": {"a": 1}, "baggage": 7,
     "taskfleet-due": "@nan", "taskfleet-after": 3.5},
]  # fmt: skip


@pytest.mark.parametrize("headers", HOSTILE, ids=lambda headers: str(headers)[:40])
async def test_hostile_headers_in_redis_harm_nothing(
    headers: Any, traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    @traced.task
    async def small() -> str:
        return "done"

    packed = msgpack.packb([1, "small", [], {}, {"h": headers}])
    await traced.broker.enqueue("default", [("hostile-1", packed, 0, 0, None)], max_length=0)  # type: ignore[arg-type]
    await run_worker(traced)
    assert await traced.handle("hostile-1").result(timeout=60) == "done"
    (run,) = await kept.until("process small")
    valid = isinstance(headers, dict) and headers.get("traceparent") == HOSTILE[-1]["traceparent"]
    assert (run.parent is not None) is valid
    assert len(run.to_json()) < 5000


async def test_a_fault_of_the_sdk_harms_no_task(
    make_queue: MakeQueue, kept: Kept, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry.sdk.trace import SpanProcessor

    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("no start")

        def on_end(self, span: Any) -> None:
            raise RuntimeError("no end")

    kept.tracers.add_span_processor(Broken())
    queue = make_queue()
    instrument(queue, kept.tracers)

    @queue.task
    async def small() -> str:
        return "done"

    await run_worker(queue)
    assert await (await small.enqueue()).result(timeout=60) == "done"
    assert "a span or a metric was lost: no start" in caplog.text


async def test_the_spans_of_tasks_that_run_at_once_do_not_mix(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker
) -> None:
    inner = kept.tracers.get_tracer("app")

    @traced.task
    async def slow(n: int) -> None:
        for _ in range(3):
            with inner.start_as_current_span(f"step {n}"):
                await asyncio.sleep(0.01)

    handles = [await slow.enqueue(n) for n in range(8)]
    await run_worker(traced)
    for handle in handles:
        await handle.result(timeout=60)
    runs = {facts(run)["messaging.message.id"]: ids(run) for run in await kept.until("process slow", 8)}
    for n, handle in enumerate(handles):
        assert {parent_of(step) for step in kept.named(f"step {n}")} == {runs[handle.id]}


async def test_spans_are_outside_of_other_middleware(make_queue: MakeQueue, kept: Kept, run_worker: RunWorker) -> None:
    seen: list[int] = []

    class Mine(Middleware):
        async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
            seen.append(trace.get_current_span().get_span_context().span_id)
            return await call_next()

    queue = make_queue(middleware=[Mine()])
    instrument(queue, kept.tracers)
    instrument(queue, kept.tracers)  # has no effect

    @queue.task
    async def small() -> None: ...

    await run_worker(queue)
    await (await small.enqueue()).result(timeout=60)
    (run,) = await kept.until("process small")
    assert seen == [ids(run)[1]]
    assert len(kept.named("send small")) == 1


async def test_the_exemplar_of_a_run_is_known_until_its_outcome_is_recorded(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    @traced.task
    async def small() -> dict[str, str] | None:
        return tracing.exemplar()

    worker = await run_worker(traced)
    noted: list[Any] = []
    succeed = worker.endings.succeed
    monkeypatch.setattr(worker.endings, "succeed", lambda *args: (noted.append(tracing.exemplar()), succeed(*args)))
    inside = await (await small.enqueue()).result(timeout=60)
    (run,) = await kept.until("process small")
    trace_id, span_id = ids(run)
    assert inside == {"trace_id": f"{trace_id:032x}", "span_id": f"{span_id:016x}"}
    assert noted == [inside]
    assert tracing.exemplar() is None


async def test_each_line_that_a_task_logs_names_its_trace(
    traced: TaskQueue, kept: Kept, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, out = logging.getLogger("app.traced"), io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.JsonLines())
    monkeypatch.setattr(logger, "handlers", [handler])
    inner = kept.tracers.get_tracer("app")

    @traced.task
    async def on_the_loop() -> None:
        logger.warning("begin")
        with inner.start_as_current_span("inside"):
            logger.warning("inside")

    @traced.task
    def in_a_thread() -> None:
        logger.warning("begin")

    await run_worker(traced)
    for task in (on_the_loop, in_a_thread):
        await (await task.enqueue()).result(timeout=60)
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    for task in (on_the_loop, in_a_thread):
        (run,) = await kept.until(f"process {task.name}")
        spans[task.name, "begin"] = ids(run)
    spans["on_the_loop", "inside"] = ids(kept.named("inside")[0])
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {(line["task"], line["message"]): (line["trace_id"], line["span_id"]) for line in lines} == {
        said: (f"{trace_id:032x}", f"{span_id:016x}") for said, (trace_id, span_id) in spans.items()
    }


async def test_metrics_of_messaging_and_of_queues(traced: TaskQueue, kept: Kept, run_worker: RunWorker) -> None:
    @traced.task(max_retries=0)
    async def small(n: int) -> None:
        if n == 0:
            raise ValueError

    handles = [await small.enqueue(n) for n in range(3)]

    async def aged() -> bool:
        return (await traced.queue_stats("default")).oldest_age_seconds > 0

    await until(aged, "the clock of Redis goes on")
    points = await asyncio.to_thread(kept.points)
    ready = {p.attributes["messaging.destination.name"]: p.value for p in points["taskfleet.queue.ready"]}
    assert ready == {"default": 3}
    assert 0 < points["taskfleet.queue.oldest_age"][0].value < 60
    (sent,) = points["messaging.client.sent.messages"]
    assert (sent.value, sent.attributes["taskfleet.task.name"]) == (3, "small")
    (duration,) = points["messaging.client.operation.duration"]
    assert (duration.count, tuple(duration.explicit_bounds)) == (3, conventions.DURATION_BUCKETS)
    await run_worker(traced)
    for handle in handles[1:]:
        await handle.result(timeout=60)
    await kept.until("process small", 3)

    async def dead() -> bool:
        nonlocal points
        points = await asyncio.to_thread(kept.points)
        return [p.value for p in points["taskfleet.queue.dead"]] == [1]

    # The gauges of one collection share a reading for a second.
    await until(dead, "a reading that has the end of all")
    consumed = {p.attributes.get("error.type", ""): p.value for p in points["messaging.client.consumed.messages"]}
    assert consumed == {"": 2, "ValueError": 1}
    assert {p.attributes.get("error.type", ""): p.count for p in points["messaging.process.duration"]} == consumed


async def test_the_gauges_of_one_collection_share_a_reading_and_have_a_bound(
    make_queue: MakeQueue, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(queues=["a", "b", "c"])
    instrument(queue, kept.tracers, kept.meters)
    monkeypatch.setattr(queue_figures, "_MOST_QUEUES", 2)
    monkeypatch.setattr(queue_figures, "_FRESH_SECONDS", 600.0)  # of a slow machine, too
    for name in "abc":

        async def small() -> None: ...

        await queue.task(name=name, queue=name)(small).enqueue()
    read, readings = queue_figures._read, list[str]()

    async def counted(queue: TaskQueue) -> Any:
        readings.append("one")
        return await read(queue)

    monkeypatch.setattr(queue_figures, "_read", counted)
    points = await asyncio.to_thread(kept.points)
    assert readings == ["one"]
    for name in ("ready", "running", "delayed", "blocked", "dead", "oldest_age"):
        found = [point.attributes["messaging.destination.name"] for point in points[f"taskfleet.queue.{name}"]]
        assert found == ["a", "b"]


async def test_a_run_does_not_wait_long_for_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        """Sessions of a Redis that does not answer."""

        def current(self) -> Any:
            return self

        @property
        def broker(self) -> Any:
            return self

        async def inspect(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(earlier, "_SECONDS", 0.05)
    about = TaskContext("id-1", "small", "default", 2, 2, dt.datetime.now(dt.UTC), None)
    async with asyncio.timeout(30):
        assert await earlier.earlier_run(Silent(), PLAIN, about) is None  # type: ignore[arg-type]


def sampling_of(sampler: Sampler) -> Sampling:
    return Sampling(TracerProvider(sampler, shutdown_on_exit=False).get_tracer("x"))


def test_what_a_sampler_drops_for_sure_is_known_from_its_description() -> None:
    for sampler in (ParentBased(ALWAYS_OFF), ALWAYS_OFF):
        root = tracing.parsed(sampling_of(sampler).unsampled_root())
        assert root is not None
        assert not root.sampled
    for sampler in (ParentBased(ALWAYS_ON), ALWAYS_ON, TraceIdRatioBased(0.5), ParentBased(TraceIdRatioBased(0.0))):
        assert sampling_of(sampler).unsampled_root() == ""
    assert sampling_of(ParentBased(ALWAYS_ON)).drops_unsampled()
    for sampler in (
        ALWAYS_ON,
        TraceIdRatioBased(0.5),
        ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON),
        ParentBased(ALWAYS_OFF, remote_parent_not_sampled=ALWAYS_ON),
    ):
        assert not sampling_of(sampler).drops_unsampled()


def test_a_tracer_of_another_sdk_is_asked_for_every_span() -> None:
    class Theirs(trace.NoOpTracer):
        """It is of a module that is not OpenTelemetry's, and has no sampler."""

    for parent in (None, trace.SpanContext(1, 2, True, trace.TraceFlags(0))):
        assert not Sampling(Theirs()).drops(parent)
        assert Sampling(trace.NoOpTracer()).drops(parent)


async def test_without_an_sdk_a_trace_passes_through(make_queue: MakeQueue, kept: Kept, run_worker: RunWorker) -> None:
    """A worker that exports nothing: its own lines and the tasks that it sends stay in the trace."""
    producer, consumer = make_queue(), make_queue()
    instrument(producer, kept.tracers)
    instrument(consumer, trace.NoOpTracerProvider())
    seen: list[Any] = []

    async def small() -> None:
        seen.append(tracing.current())

    tasks = [queue.task(small) for queue in (producer, consumer)]
    handle = await tasks[0].enqueue()
    await run_worker(consumer)
    await handle.result(timeout=60)
    (sent,) = kept.named("send small")
    trace_id, span_id = ids(sent)
    assert seen == [tracing.TraceSpan(f"{trace_id:032x}", f"{span_id:016x}", True)]


def test_opentelemetry_instrument_instruments_every_queue(make_queue: MakeQueue, kept: Kept) -> None:
    from importlib.metadata import EntryPoint

    from opentelemetry.instrumentation.distro import DefaultDistro

    entry = EntryPoint(
        "taskfleet",
        "taskfleet.integrations.opentelemetry.instrumentor:TaskfleetInstrumentor",
        "opentelemetry_instrumentor",
    )
    DefaultDistro().load_instrumentor(entry, tracer_provider=kept.tracers, skip_dep_check=True)
    try:
        queue = make_queue()
        assert [type(each).__name__ for each in queue.application.middleware.all] == ["OpenTelemetryMiddleware"]
    finally:
        TaskfleetInstrumentor().uninstrument()
    assert make_queue().application.middleware.all == []
