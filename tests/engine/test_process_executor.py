"""`executor="process"` with real workers and real processes, which are really killed."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from taskfleet import (
    CallNext,
    ConfigurationError,
    Depends,
    Message,
    Middleware,
    SendNext,
    TaskCancelledError,
    TaskContext,
    TaskExecutionError,
    TaskHandle,
    TaskQueue,
    TaskTimeoutError,
    chain,
)
from taskfleet.runtime.executors import process_executor
from taskfleet.runtime.worker import Worker
from tests.engine import cpu_app
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.processes import Start, python_processes


@pytest.fixture
def queue(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> TaskQueue:
    """A queue with the tasks of cpu_app. Processes import cpu_app and use the same Redis and prefix."""
    queue = make_queue()
    monkeypatch.setenv("REDIS_URL", queue.url)
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", queue.broker.prefix)
    for definition in cpu_app.queue.registry:
        queue.registry.add(definition)
    return queue


def is_there(pid: int) -> bool:
    """Whether the process runs. A zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def ledger(queue: TaskQueue, note: str) -> list[int]:
    """The process ids that tasks have recorded."""
    entries = await queue.broker.client.redis.lrange(f"{queue.broker.prefix}:ledger", 0, -1)
    parts = [entry.decode().split(":") for entry in entries]
    return [int(pid) for text, pid, _ in parts if text == note]


async def test_a_class_task_runs_in_a_process(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue)
    pid, more, name = await (await queue.enqueue(cpu_app.InProcess(more=Decimal("1.5")))).result(timeout=60)
    assert pid != os.getpid()
    assert (more, name) == (Decimal("2.5"), "in_process")


async def test_values_keep_their_types_on_the_way_to_a_process_and_back(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def order() -> cpu_app.Order:
        return cpu_app.Order(orderId=42, password=SecretStr("s3"))

    await run_worker(queue)
    given = cpu_app.Order(orderId=42, password=SecretStr("s3"))
    for value in (b"\xff", (1, 2), {2025: "a"}):
        handle = await queue.enqueue(cpu_app.keep.message(given, value))
        assert await handle.result(timeout=60) == (42, "s3", value)
    passed_on = await queue.enqueue(chain(order.message(), cpu_app.keep.message(given=(1,))))  # type: ignore[call-arg]
    assert await passed_on.result(timeout=60) == (42, "s3", (1,))


@pytest.mark.parametrize("watched", [False, True])
async def test_validators_run_once_for_a_process_too(queue: TaskQueue, run_worker: RunWorker, watched: bool) -> None:
    class Watch(Middleware):
        async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
            return await call_next()

    if watched:
        queue.add_middleware(Watch())
    await run_worker(queue)
    assert await (await queue.enqueue(cpu_app.shout.message("a"))).result(timeout=60) == "a!!"


async def test_it_runs_elsewhere_and_the_process_is_used_again(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    assert worker.processes.pids == []  # nothing starts before it is needed
    pids = {await (await queue.enqueue(cpu_app.where.message())).result(timeout=60) for _ in range(5)}
    assert len(pids) == 1
    assert pids == set(worker.processes.pids)
    assert os.getpid() not in pids


async def test_variables_that_a_call_sets_end_with_it(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue, concurrency=1)
    pids: set[int] = set()
    for name in ("a", "fails at first", "b", "c"):
        handle = await queue.enqueue(cpu_app.sees_and_sets.message(name))
        seen, left, in_thread, pid, task_id = await handle.result(timeout=60)
        assert (seen, left, in_thread, task_id) == ("set up when imported", None, [name], handle.id)
        pids.add(pid)
    assert len(pids) == 1


async def test_values_and_context_arrive_as_in_any_task(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue)
    before = time.time()
    handle = await queue.enqueue(cpu_app.about.options(timeout=30).message())
    task_id, name, queue_name, attempt, delivery, enqueued, left = await handle.result(timeout=60)
    assert (task_id, name, queue_name, attempt, delivery) == (handle.id, "about", "default", 1, 1)
    assert before - 1 < enqueued < time.time() + 1
    assert 0 < left <= 30
    dates = await queue.enqueue(cpu_app.add_days.message(dt.date(2024, 2, 28), 2, price=Decimal("1.25")))
    assert await dates.result(timeout=60) == (dt.date(2024, 3, 1), Decimal("2.50"))
    text = "x" * 900_000
    assert await (await queue.enqueue(cpu_app.echo.message(text))).result(timeout=60) == text
    # Under a second name, and under a name that still refers to the plain function.
    assert await (await queue.enqueue(cpu_app.twice.message(3))).result(timeout=60) == 9
    assert await (await queue.enqueue(cpu_app.beside.message(3))).result(timeout=60) == 4


async def test_results_are_passed_on_in_a_workflow(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue)
    square = cpu_app.square.options(result_ttl=0)
    end = await queue.enqueue(chain(square.message(2), square.message(), cpu_app.square.message()))
    assert await end.result(timeout=60) == 256


async def test_a_timeout_kills_a_call_of_c_code_and_nothing_else(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    warm = [await queue.enqueue(cpu_app.hold.message("warm")) for _ in range(2)]
    await until(lambda: _times(queue, "warm", 2), "two processes have started", seconds=60)
    await cpu_app.release(queue, "warm")
    assert [await each.result(timeout=60) for each in warm] == ["done", "done"]
    other = await queue.enqueue(cpu_app.hold.message("other"))
    await until(lambda: ledger(queue, "other"), "the other one runs")
    # Long enough that both are seen to run, also when the machine stands still for a while.
    stuck = await queue.enqueue(cpu_app.backtrack.options(timeout=5).message())
    await until(lambda: len(worker.slots.running) == 2, "both run")
    pids = set(worker.processes.pids)
    began = time.monotonic()
    with pytest.raises(TaskTimeoutError, match=r"longer than its timeout of 5 s"):
        await stuck.result(timeout=60)
    assert time.monotonic() - began < 15, "the call alone would take years"
    (survivor,) = await until(lambda: _one(worker), "one process is gone")
    (killed,) = pids - {survivor}
    await until(lambda: not is_there(killed), "it is gone")
    await cpu_app.release(queue, "other")
    assert await other.result(timeout=60) == "done"
    assert worker.processes.pids == [survivor]


async def _times(queue: TaskQueue, note: str, count: int) -> bool:
    return len(set(await ledger(queue, note))) == count


def _one(worker: Worker) -> list[int]:
    pids = worker.processes.pids
    return pids if len(pids) == 1 else []


async def test_cancelling_kills_programs_that_the_task_has_started(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    handle = await queue.enqueue(cpu_app.with_offspring.message("offspring"))
    (offspring,) = await until(lambda: ledger(queue, "offspring"), "it has started a program", seconds=60)
    (pid,) = worker.processes.pids
    assert is_there(pid)
    assert is_there(offspring)
    assert await handle.cancel() is True
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=60)
    await until(lambda: not is_there(pid) and not is_there(offspring), "both are gone")
    assert await (await queue.enqueue(cpu_app.square.message(7))).result(timeout=60) == 49


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("exit", "its process ended with exit code 3"),
        ("SIGKILL", "its process was killed by SIGKILL, perhaps by the kernel for want of memory"),
        ("SIGSEGV", "its process was killed by SIGSEGV"),
    ],
)
async def test_a_crash_is_a_failed_attempt_with_its_reason(
    queue: TaskQueue, run_worker: RunWorker, how: str, reason: str
) -> None:
    worker = await run_worker(queue)
    handle = await queue.enqueue(cpu_app.die.message(how))
    with pytest.raises(TaskExecutionError, match=reason):
        await handle.result(timeout=60)
    (letter,) = await queue.dead_letters("default")
    assert (letter.reason, letter.error, letter.attempts, letter.deliveries) == ("crashed", reason, 1, 1)
    assert worker.health.ready
    assert await (await queue.enqueue(cpu_app.square.message(7))).result(timeout=60) == 49


async def test_a_crashed_attempt_is_retried(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue)
    assert await (await queue.enqueue(cpu_app.die_once.message())).result(timeout=60) == 2


async def test_an_idle_process_that_was_killed_costs_no_task(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    pid = await (await queue.enqueue(cpu_app.where.message())).result(timeout=60)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: worker.processes.pids == [], "it is known to be gone")
    handle = await queue.enqueue(cpu_app.where.options(max_retries=0).message())
    assert await handle.result(timeout=60) != pid


async def test_exceptions_come_back_with_their_traceback(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="VeryOddError: 1 and 2") as failed:
        await (await queue.enqueue(cpu_app.odd.message())).result(timeout=60)
    assert "cpu_app.py" in failed.value.traceback
    assert "raise VeryOddError(1, 2)" in failed.value.traceback
    with pytest.raises(TaskExecutionError, match="SystemExit: enough"):
        await (await queue.enqueue(cpu_app.leave.message())).result(timeout=60)
    with pytest.raises(TaskExecutionError, match=r"task 'unfit', result: .*valid integer"):
        await (await queue.enqueue(cpu_app.unfit.message())).result(timeout=60)
    never = await queue.enqueue(cpu_app.never.message())
    with pytest.raises(TaskExecutionError):
        await never.result(timeout=60)
    attempts = {letter.id: letter.attempts for letter in await queue.dead_letters("default")}
    assert attempts[never.id] == 1  # a subclass of an exception in `never_retry`
    assert await (await queue.enqueue(cpu_app.later.message())).result(timeout=60) == 2
    assert len(worker.processes.pids) == 1  # all of these ran in one process


async def test_progress_is_told_and_its_latest_report_arrives(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    handle = await queue.enqueue(cpu_app.count_up.message(100_000, 60.0))

    async def all_counted() -> bool:
        progress = await handle.progress()
        return progress is not None and (progress.done, progress.note) == (100_000, "counting")

    await until(all_counted, "the last report is there", seconds=60)
    assert await asyncio.to_thread(handle.progress_sync) == await handle.progress()
    await handle.cancel()
    await until(lambda: not worker.slots.running, "it has ended")
    with pytest.raises(TaskExecutionError, match="TypeError: progress: done='half' is no number"):
        await (await queue.enqueue(cpu_app.report_nonsense.message())).result(timeout=60)


class Watching(Middleware):
    def __init__(self) -> None:
        self.seen: list[object] = []

    async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
        for message in messages:
            message.headers = {"from": "here"}
        await call_next()

    async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
        try:
            value = await call_next()
        except Exception as error:
            self.seen.append(type(error).__name__)
            raise
        self.seen.append(value)
        return value


async def test_middleware_sees_values_and_headers_arrive(
    make_queue: MakeQueue, queue: TaskQueue, run_worker: RunWorker
) -> None:
    watching = Watching()
    watched = make_queue(middleware=[watching])
    for definition in cpu_app.queue.registry:
        watched.registry.add(definition)
    await run_worker(watched)
    day = dt.date(2024, 2, 28)
    dates = await watched.enqueue(cpu_app.add_days.options(result_ttl=0).message(day, 2))
    await until(lambda: watching.seen, "it has run")
    assert watching.seen == [(dt.date(2024, 3, 1), Decimal(2))]
    await until(lambda: _unknown(dates), "its end is recorded, and its result is not kept, as requested")
    headers = await watched.enqueue(cpu_app.count_up.message(0, 0.0))
    assert await headers.result(timeout=60) == {"from": "here"}
    for message in (cpu_app.unfit.message(), cpu_app.odd.message()):
        with pytest.raises(TaskExecutionError):
            await (await watched.enqueue(message)).result(timeout=60)
    assert {letter.reason for letter in await queue.dead_letters("default")} == {"bad_result", "exception"}
    assert watching.seen[-1] == "ChildError"


async def _unknown(handle: TaskHandle[Any]) -> bool:
    return await handle.status() == "unknown"


async def test_a_process_has_none_of_the_workers_sockets(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue)
    assert await (await queue.enqueue(cpu_app.sockets.message())).result(timeout=60) == ["AF_UNIX"]


async def test_a_process_can_enqueue(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue)
    task_id = await (await queue.enqueue(cpu_app.enqueue_another.message(6))).result(timeout=60)
    assert await queue.handle(task_id).result(timeout=60) == 36


async def test_a_thousand_short_tasks_share_a_few_processes(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=3)
    for definition in cpu_app.queue.registry:
        queue.registry.add(definition)
    worker = await run_worker(queue)
    await (await queue.enqueue(cpu_app.square.message(0))).result(timeout=60)
    began = time.monotonic()
    handles = await queue.enqueue_many([cpu_app.square.message(n) for n in range(1000)])
    assert [await handle.result(timeout=60) for handle in handles] == [n * n for n in range(1000)]
    assert time.monotonic() - began < 60  # about 1 s; one process per task would take minutes
    assert 1 <= len(worker.processes.pids) <= 3


async def test_an_idle_process_ends(queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_executor, "_IDLE_SECONDS", 0.1)
    worker = await run_worker(queue)
    pid = await (await queue.enqueue(cpu_app.where.message())).result(timeout=60)
    await until(lambda: not is_there(pid), "it has ended")
    await until(lambda: worker.processes.pids == [], "it is known to have ended")


async def test_a_timeout_shorter_than_the_start_is_met_in_the_end(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    attempt = await (await queue.enqueue(cpu_app.short.message())).result(timeout=60)
    assert attempt > 1  # else the machine is too fast for this test
    assert len(worker.processes.pids) == 1  # the process that was still starting has run the retry


async def test_a_draining_worker_ends_its_processes(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    pid = await (await queue.enqueue(cpu_app.where.message())).result(timeout=60)
    worker.drain()
    await until(lambda: worker.health.stopped, "it has drained")
    assert not is_there(pid)


# The worker in a separate process.


@pytest.fixture
def start(queue: TaskQueue) -> Iterator[Start]:
    with python_processes("taskfleet", "worker", "tests.engine.cpu_app:queue") as start:
        yield start


async def test_sigterm_hands_back_tasks_that_outlast_the_grace_period(queue: TaskQueue, start: Start) -> None:
    worker = start(TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD="6")
    short, long = await queue.enqueue_many([cpu_app.hold.message("short"), cpu_app.hold.message("long")])
    await until(lambda: _both(queue, "short", "long"), "both run", seconds=60)
    pids = await ledger(queue, "short") + await ledger(queue, "long")
    worker.send_signal(signal.SIGTERM)
    # A supervisor that signals every process of the service must not cost a task its grace period.
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    await cpu_app.release(queue, "short")
    assert await asyncio.to_thread(worker.wait, 60) == 0
    assert await short.result(timeout=1) == "done"
    assert await long.status() == "ready"
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.in_flight, stats.dead) == (1, 0, 0)
    assert not any(is_there(pid) for pid in pids)


async def _both(queue: TaskQueue, *notes: str) -> bool:
    return all([await ledger(queue, note) for note in notes])


@pytest.mark.parametrize("busy", ["sleeping", "in C code"])
async def test_processes_end_with_a_killed_worker(queue: TaskQueue, start: Start, busy: str) -> None:
    worker = start()
    (warm,) = await queue.enqueue_many([cpu_app.nap.message(0.0, "a")])
    await warm.result(timeout=60)
    (pid,) = await ledger(queue, "a")
    await queue.enqueue_many([cpu_app.nap.message(60.0, "b") if busy == "sleeping" else cpu_app.backtrack.message()])
    await until(lambda: _in_flight(queue, 1), "it works")
    worker.kill()
    await until(lambda: not is_there(pid), "its process is gone")


async def _in_flight(queue: TaskQueue, count: int) -> bool:
    return (await queue.queue_stats("default")).in_flight == count


async def test_a_worker_without_processes_does_not_import_multiprocessing() -> None:
    code = (
        "import sys, taskfleet.runtime.worker; "
        "print(*[m for m in sys.modules if m.split('.')[0] == 'multiprocessing' or m == 'concurrent.futures.process'])"
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


# Functions that a process could not import.


def test_a_closure_is_refused_where_it_is_defined(queue: TaskQueue) -> None:
    with pytest.raises(
        ConfigurationError, match=r"task 'inner' \(.*test_process_executor\.py:\d+\): .*top of a module"
    ):

        @queue.task(executor="process")
        def inner() -> None: ...

    with pytest.raises(ConfigurationError, match="top of a module"):
        queue.task(executor="process", name="x")(lambda: None)


def test_a_coroutine_function_is_refused(queue: TaskQueue) -> None:
    with pytest.raises(
        ConfigurationError, match=r"task 'x' is async: it runs on the loop, not with executor='process'"
    ):
        queue.task(executor="process", name="x")(asyncio.sleep)


def one() -> int:
    return 1


def needs(value: int = Depends(one)) -> None: ...


def test_dependencies_and_batches_are_refused(queue: TaskQueue) -> None:
    with pytest.raises(ConfigurationError, match=r"task 'needs': executor='process' goes with no dependencies"):
        queue.task(executor="process")(needs)
    with pytest.raises(
        ConfigurationError, match=r"batch task 'x': executor='process' is for tasks that run one by one"
    ):
        queue.batch_task(executor="process", name="x")(hidden)


def test_an_unknown_executor_is_refused(queue: TaskQueue) -> None:
    with pytest.raises(
        ConfigurationError, match="executor='fork' is not known; expected one of async, thread, process"
    ):
        queue.task(executor="fork", name="x")(hidden)  # type: ignore[call-overload]


def hidden() -> None: ...


def test_a_function_that_its_name_does_not_find_is_an_error_when_a_worker_starts(queue: TaskQueue) -> None:
    queue.task(executor="process", name="hidden_one")(hidden)
    Worker(queue, name="x")
    function, globals()["hidden"] = hidden, "something"
    try:
        with pytest.raises(ConfigurationError, match=r"task 'hidden_one' \(.*:\d+\): .*is something else, 'something'"):
            Worker(queue, name="x")
    finally:
        globals()["hidden"] = function


def test_a_function_of_the_main_file_is_an_error_when_a_worker_starts(tmp_path: Path, redis_url: str) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        "import asyncio\n"
        "from taskfleet import TaskQueue\n"
        f"queue = TaskQueue({redis_url!r})\n"
        "@queue.task(executor='process')\n"
        "def work() -> None: ...\n"
        "asyncio.run(queue.start_workers(1))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert "ConfigurationError: task 'work' (" in last
    assert "main.py:4) is defined in the program's main file or a notebook" in last
    assert last.endswith("move it into a module that can be imported")


async def test_a_result_of_any_size_costs_the_worker_no_memory(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    first = await queue.enqueue(cpu_app.of_size.message(10))
    assert await first.result(timeout=60) == bytes(10)
    (pid,) = worker.processes.pids
    for size, problem in ((2_000_000, "more than max_result_bytes=1048576"), (100_000_000, "more than 16777216 of")):
        handle = await queue.enqueue(cpu_app.of_size.message(size))
        tracemalloc.start()
        with pytest.raises(TaskExecutionError, match=problem):
            await handle.result(timeout=60)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000_000
    assert {letter.reason for letter in await queue.dead_letters("default")} == {"result_too_large"}
    # The same process has served all of them.
    assert worker.processes.pids == [pid]
