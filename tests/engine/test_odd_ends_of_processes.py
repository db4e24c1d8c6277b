"""Whatever a function raises or returns in its process, its outcome is recorded, and the process runs the next task."""

from __future__ import annotations

import pytest

from taskfleet import TaskExecutionError, TaskQueue
from tests.engine import odd_process_app
from tests.engine.conftest import MakeQueue, RunWorker


@pytest.fixture
def queue(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> TaskQueue:
    """A queue with the tasks of odd_process_app."""
    queue = make_queue()
    monkeypatch.setenv("REDIS_URL", queue.url)
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", queue.broker.prefix)
    for definition in odd_process_app.queue.registry:
        queue.registry.add(definition)
    return queue


async def test_odd_ends_in_a_process_are_failures_with_a_reason(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue, concurrency=1)
    for name, problem in (
        ("no_text", "it has no text"),
        ("odd_class", "_OddClass"),
        ("surrogate", r"\\ud800"),
        ("long_text", "ValueError: xxx"),
        ("nothing_more", "StopIteration"),
        ("coroutine", "nobody has awaited"),
        ("generator", "a generator"),
        ("picky", "KeyError"),
        ("forgetful", "_Forgetful"),
    ):
        with pytest.raises(TaskExecutionError, match=problem):
            await (await queue.enqueue(getattr(odd_process_app, name).message())).result(timeout=30)
    assert len(worker.processes.pids) == 1
