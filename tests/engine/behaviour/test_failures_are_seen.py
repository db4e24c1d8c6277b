"""A worker logs the tasks that fail, die, are retried and are taken over."""

from __future__ import annotations

import asyncio
import logging

import pytest

from taskfleet import Retry, TaskExecutionError, TaskQueue
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.recording.reporting import BURST
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box


def _records(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == level and record.name == "taskfleet.worker"]


async def test_a_final_failure_is_an_error_with_its_traceback_and_a_retry_an_information(
    queue: TaskQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    @queue.task(queue="mail", max_retries=1, retry=Retry.fixed(0))
    async def send() -> None:
        raise ValueError("no\nluck")

    await run_worker(queue)
    handle = await send.enqueue()
    with pytest.raises(TaskExecutionError):
        await handle.result(timeout=60)
    (failure,) = _records(caplog, logging.ERROR)
    text = failure.getMessage()
    for part in ("send", handle.id, "mail", "attempt 2", r"ValueError: no\nluck"):
        assert part in text
    assert "\n" not in text
    assert failure.exc_text is not None
    assert 'raise ValueError("no' in failure.exc_text
    retries = [record.getMessage() for record in _records(caplog, logging.INFO) if "runs again" in record.getMessage()]
    assert len(retries) == 1
    assert "attempt 1" in retries[0]
    assert handle.id in retries[0]


async def test_a_timeout_and_a_bad_result_are_errors_too(
    queue: TaskQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    @queue.task(max_retries=0, timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(60)

    @queue.task(max_retries=0)
    async def odd() -> object:
        return object()

    await run_worker(queue)
    for task in (slow, odd):
        with pytest.raises(TaskExecutionError):
            await (await task.enqueue()).result(timeout=60)
    texts = [record.getMessage() for record in _records(caplog, logging.ERROR)]
    assert any("slow" in text and "(timeout)" in text for text in texts)
    assert any("odd" in text and "(bad_result)" in text for text in texts)


async def test_a_storm_of_failures_is_counted(
    make_queue: MakeQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(slots=50)

    @queue.task(max_retries=0)
    async def fails() -> None:
        raise ValueError

    @queue.task(max_retries=0)
    async def other() -> None:
        raise KeyError

    worker = await run_worker(queue)
    await queue.enqueue_many([fails.message() for _ in range(300)])
    await until(lambda: worker.tally.finished == 300, "all have failed")
    assert BURST <= len([r for r in _records(caplog, logging.ERROR) if "fails" in r.getMessage()]) < 100
    await other.enqueue()
    await until(lambda: "other" in caplog.text, "another task is listed")
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")
    assert "more that are not listed" in caplog.text or "more before it" in caplog.text


async def test_a_takeover_and_a_death_are_said(
    make_queue: MakeQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(queues=[{"name": "default", "max_deliveries": 2}])

    @queue.task
    async def dies() -> None:
        pass

    handle = await dies.enqueue()
    for _ in range(2):
        reply = await queue.broker.step("default", queue.application.options_of("default"), "gone", 1, [])
        while not reply.claims:
            reply = await queue.broker.step("default", queue.application.options_of("default"), "gone", 1, [])
        await white_box.end_lease(queue, handle.id)
        if not caplog.records:
            await _say(queue, caplog)
    await run_worker(queue)
    await until(lambda: "max_deliveries" in caplog.text, "its death is said")
    (death,) = _records(caplog, logging.ERROR)
    assert "dies" in death.getMessage()
    assert handle.id in death.getMessage()
    assert "died 2 times" in death.getMessage()


async def _say(queue: TaskQueue, caplog: pytest.LogCaptureFixture) -> None:
    """A worker without free slots takes the task over and logs it."""
    from taskfleet.runtime.worker import Worker

    worker = Worker(queue)
    worker.context.begin(queue.broker)
    worker.receiver.take(
        Partition("default"), await queue.broker.step("default", queue.application.options_of("default"), "w", 0, [])
    )
    (takeover,) = _records(caplog, logging.WARNING)
    assert "is taken over at attempt 1" in takeover.getMessage()
    assert "dies" in takeover.getMessage()
