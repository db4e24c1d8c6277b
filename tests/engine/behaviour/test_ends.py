"""Every outcome is recorded and every slot becomes free, whatever user code raises, returns or swallows."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, field_validator

from taskfleet import Retry, RetryLater, Task, TaskExecutionError, TaskQueue
from taskfleet.options import QueueOptions
from taskfleet.protocol.claim import StepReply
from taskfleet.protocol.outcome import Outcome
from tests.engine.conftest import MakeQueue, RunWorker, until


class _NoText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class _NumberForText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


class _EndsProgram(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class _LiesAboutItsClass(Exception):
    @property
    def __class__(self) -> Any:
        raise KeyError("class")


class _OddMeta(type):
    @property
    def __name__(cls) -> str:
        raise KeyError("name")

    def __instancecheck__(cls, instance: object) -> bool:
        raise KeyError("instance")


class _OddClass(Exception, metaclass=_OddMeta):
    pass


class _OfNothing(BaseException):
    pass


def _endless_chain() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def _long_chain() -> Exception:
    error = ValueError("the first")
    for n in range(3000):
        other = ValueError(f"number {n}")
        other.__context__ = error
        error = other
    return error


ERRORS: dict[str, Callable[[], BaseException]] = {
    "no text": _NoText,
    "a number for a text": _NumberForText,
    "a text that ends the program": _EndsProgram,
    "lies about its class": _LiesAboutItsClass,
    "an odd class": _OddClass,
    "of no Exception": _OfNothing,
    "half a surrogate pair": lambda: ValueError("\ud800"),
    "large": lambda: ValueError("x" * 5_000_000),
    "an endless chain": _endless_chain,
    "a long chain": _long_chain,
    "a large group": lambda: ExceptionGroup("many", [ValueError(str(n)) for n in range(3000)]),
    "StopIteration": lambda: StopIteration(3),
    "StopAsyncIteration": StopAsyncIteration,
    "GeneratorExit": GeneratorExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(1),
    "CancelledError": asyncio.CancelledError,
}


@pytest.mark.parametrize("kind", ERRORS)
async def test_any_exception_of_a_task_is_recorded(queue: TaskQueue, run_worker: RunWorker, kind: str) -> None:
    @queue.task(max_retries=0, never_retry=(KeyError,), always_retry=())
    async def on_the_loop() -> None:
        raise ERRORS[kind]()

    @queue.task(max_retries=0)
    def in_a_thread() -> None:
        raise ERRORS[kind]()

    @queue.batch_task(size=2, window_ms=1, max_retries=0)
    async def in_a_batch(items: list[Any]) -> list[Any]:
        return [ERRORS[kind]() for _ in items]

    worker = await run_worker(queue, concurrency=2)
    handles = [await task.enqueue() for task in (on_the_loop, in_a_thread, in_a_batch)]
    for handle in handles:
        with pytest.raises(TaskExecutionError):
            await handle.result(timeout=60)
        assert await handle.status() == "failed"
    letters = await queue.dead_letters("default")
    assert {letter.id for letter in letters} == {handle.id for handle in handles}
    assert all(letter.error for letter in letters)
    await until(lambda: not worker.slots.running, "the slots are back")


class _Picky(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _never(cls, value: int) -> int:
        raise KeyError(value)


class _NoLength(list[Any]):
    def __len__(self) -> int:
        raise KeyError("len")

    def __iter__(self) -> Any:
        raise KeyError("iter")


async def test_a_result_whose_validator_raises_fails_its_task(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=0)
    async def picky() -> _Picky:
        return {"n": 3}  # type: ignore[return-value]

    @queue.batch_task(size=1, window_ms=1, max_retries=0)
    async def unreadable(items: list[Any]) -> list[Any]:
        return _NoLength(items)

    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="KeyError"):
        await (await picky.enqueue()).result(timeout=60)
    with pytest.raises(TaskExecutionError, match="cannot be read: KeyError"):
        await (await unreadable.enqueue()).result(timeout=60)
    assert {letter.reason for letter in await queue.dead_letters("default")} == {"bad_result", "bad_outcomes"}


class _Forgetful(RetryLater):
    def __init__(self, order: int) -> None:
        self.order = order


class _Asking(RetryLater):
    @property
    def delay(self) -> float:  # type: ignore[override]
        raise KeyError("delay")


def _set(delay: Any) -> RetryLater:
    error = RetryLater(0)
    error.delay = delay
    return error


@pytest.mark.parametrize(
    "raised",
    [
        lambda: RetryLater(float("nan")),
        lambda: RetryLater(float("inf")),
        lambda: RetryLater(1e20),
        lambda: RetryLater("soon"),  # type: ignore[arg-type]
        lambda: _Forgetful(7),
        lambda: _Asking(0.0),
        lambda: _set(float("nan")),
        lambda: _set(1e300),
        lambda: _set(object()),
        lambda: _set(-(10**400)),
    ],
)
async def test_a_delay_that_is_none_leaves_it_to_the_policy(
    queue: TaskQueue, run_worker: RunWorker, raised: Callable[[], BaseException]
) -> None:
    runs = 0

    @queue.task(max_retries=2, retry=Retry.fixed(0.01))
    async def later() -> None:
        nonlocal runs
        runs += 1
        raise raised()

    await run_worker(queue)
    with pytest.raises(TaskExecutionError):
        await (await later.enqueue()).result(timeout=60)
    assert runs == 3


class _NoIsinstance(Exception, metaclass=_OddMeta):
    pass


async def test_invalid_options_do_not_prevent_an_outcome_from_being_recorded(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    runs = {"list": 0, "alone": 0, "odd": 0}

    @queue.task(max_retries=2, retry=Retry.fixed(0.0))
    async def listed() -> None:
        runs["list"] += 1
        raise ValueError

    @queue.task(max_retries=2, retry=Retry.fixed(0.0))
    async def alone() -> None:
        runs["alone"] += 1
        raise ValueError

    @queue.task(max_retries=2, retry=Retry.fixed(0.0))
    async def odd() -> None:
        runs["odd"] += 1
        raise _NoIsinstance

    @queue.task(max_retries=1, retry=Retry.fixed(0.0))
    async def for_ever() -> int:
        return 3

    # Annotations that a definition in an older or another program might have.
    for task, name, value in (
        (listed, "never_retry", [ValueError]),
        (alone, "never_retry", ValueError),
        (odd, "never_retry", (KeyError, _NoIsinstance)),
        (for_ever, "result_ttl", 1e300),
    ):
        object.__setattr__(task.definition.options, name, value)
    await run_worker(queue)
    for task in (listed, alone, odd):
        with pytest.raises(TaskExecutionError):
            await (await task.enqueue()).result(timeout=60)
    assert runs == {"list": 1, "alone": 1, "odd": 1}
    assert await (await for_ever.enqueue()).result(timeout=60) == 3
    for ttl in (float("nan"), -3.0):
        object.__setattr__(for_ever.definition.options, "result_ttl", ttl)
        handle = await for_ever.enqueue()
        await until(lambda handle=handle: _has_ended(handle), "it has ended")


async def _has_ended(handle: Any) -> bool:
    return await handle.status() not in ("ready", "running")


async def test_a_policy_without_end_waits_for_the_longest_delay_there_is(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task(max_retries=2)
    async def fails() -> None:
        raise ValueError

    object.__setattr__(fails.definition.options, "retry", _policy(float("inf")))
    await run_worker(queue)
    handle = await fails.enqueue()
    await until(lambda: _is(handle, "retrying"), "it waits")
    object.__setattr__(fails.definition.options, "retry", _policy(float("nan")))
    again = await fails.enqueue()
    await until(lambda: _has_ended(again), "it has ended, or waits")


def _policy(delay: float) -> Retry:
    policy = Retry.fixed(1.0)
    object.__setattr__(policy, "delay", delay)
    return policy


async def _is(handle: Any, status: str) -> bool:
    return await handle.status() == status


class _Poisoned:
    """A broker that refuses every call with the outcome of one task, like a client that cannot encode it."""

    def __init__(self, queue: TaskQueue, error: Exception, *, codes: str) -> None:
        self.task_id = ""
        self.calls = 0
        self._step = queue.broker.step
        self._error = error
        self._codes = codes

    async def step(
        self, queue: str, options: QueueOptions, incarnation: str, slots: int, outcomes: list[Outcome]
    ) -> StepReply:
        self.calls += 1
        if any(ended[0] == self.task_id and ended[2] in self._codes for ended in outcomes):
            raise self._error
        return await self._step(queue, options, incarnation, slots, outcomes)


@pytest.mark.parametrize("error", [OverflowError("int too big to convert"), ValueError("odd"), TypeError("none")])
async def test_an_outcome_that_cannot_be_sent_takes_no_other_with_it(
    queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    release = asyncio.Event()
    poisoned = _Poisoned(queue, error, codes="s")
    monkeypatch.setattr(queue.broker, "step", poisoned.step)

    @queue.task(max_retries=0)
    async def work(n: int) -> int:
        await release.wait()
        return n

    worker = await run_worker(queue, concurrency=20)
    handles = await queue.enqueue_many([work.message(n) for n in range(20)])
    await until(lambda: len(worker.slots.running) == 20, "all run")
    poisoned.task_id = handles[7].id
    release.set()
    with pytest.raises(TaskExecutionError, match="could not be recorded"):
        await handles[7].result(timeout=60)
    assert [await handle.result(timeout=60) for handle in handles if handle is not handles[7]] == [
        n for n in range(20) if n != 7
    ]
    assert await (await work.enqueue(3)).result(timeout=60) == 3


async def test_an_outcome_that_cannot_be_recorded_is_left_to_its_lease(
    queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = _Poisoned(queue, OverflowError("too big"), codes="sf")
    monkeypatch.setattr(queue.broker, "step", poisoned.step)
    release = asyncio.Event()

    @queue.task(max_retries=0)
    async def work() -> None:
        await release.wait()

    worker = await run_worker(queue)
    handle = await work.enqueue()
    await until(lambda: worker.slots.running, "it runs")
    poisoned.task_id = handle.id
    release.set()
    await until(lambda: not worker.held, "it is given up")
    assert await (await work.enqueue()).result(timeout=60) is None
    assert poisoned.calls < 50  # it is not sent again and again


async def test_an_error_of_the_worker_itself_ends_no_task(
    queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await run_worker(queue)
    real, failures = worker.turns.run, 3

    async def run() -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise KeyError("a fault of ours")
        await real()

    monkeypatch.setattr(worker.turns, "run", run)

    @queue.task
    async def work() -> int:
        return 1

    assert await (await work.enqueue()).result(timeout=60) == 1
    assert "the worker met an error and goes on" in caplog.text


async def test_an_unawaited_result_is_no_success(queue: TaskQueue, run_worker: RunWorker) -> None:
    async def inner() -> int:
        return 3

    @queue.task(max_retries=0)
    async def forgotten() -> Any:
        return inner()

    @queue.task(max_retries=0, result_ttl=0)
    async def forgotten_and_not_kept() -> Any:
        return inner()

    @queue.task(max_retries=0)
    async def generator() -> Any:
        return (n for n in range(3))

    @queue.task(max_retries=0)
    async def future() -> Any:
        return asyncio.get_running_loop().create_future()

    @queue.task(max_retries=0)
    def in_a_thread() -> Any:
        return (n for n in range(3))

    await run_worker(queue)
    for task in (forgotten, generator, future, in_a_thread):
        with pytest.raises(TaskExecutionError, match="it returned"):
            await (await task.enqueue()).result(timeout=60)
    handle = await forgotten_and_not_kept.enqueue()
    await until(lambda: _is(handle, "failed"), "it has failed")
    letters = await queue.dead_letters("default")
    assert {letter.reason for letter in letters} == {"bad_result"}
    assert "add await" in next(letter.error for letter in letters if letter.task == "forgotten")


def _sync(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class _Plain(Task):
    name: ClassVar[str] = "plain_execute"
    n: int

    def execute(self) -> int:  # type: ignore[override]
        return self.n + 1


async def test_a_plain_function_around_an_async_one_is_awaited(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    @_sync
    async def doubled(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    @queue.task(max_retries=0)
    @_sync
    async def fails() -> None:
        raise LookupError("inside")

    @queue.task(timeout=0.1, max_retries=0)
    @_sync
    async def hangs() -> None:
        await asyncio.sleep(60)

    @queue.batch_task(size=2, window_ms=1)
    @_sync
    async def many(items: list[Any]) -> list[int]:
        return [1 for _ in items]

    await run_worker(queue)
    assert await (await doubled.enqueue(4)).result(timeout=60) == 8
    assert await (await many.enqueue()).result(timeout=60) == 1
    assert await (await queue.enqueue(_Plain(n=4))).result(timeout=60) == 5
    for task, problem in ((fails, "LookupError: inside"), (hangs, "timeout")):
        with pytest.raises(TaskExecutionError, match=problem):
            await (await task.enqueue()).result(timeout=60)


async def test_the_next_of_nothing_in_a_thread_fails_at_once(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=0, timeout=60)
    def first() -> Any:
        return next(iter(()))

    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="StopIteration"):
        await (await first.enqueue()).result(timeout=60)


async def test_deadlines_are_kept_for_running_tasks_only(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=50)

    @queue.task
    async def work(data: bytes) -> None:
        pass

    worker = await run_worker(queue)
    await queue.enqueue_many([work.options(timeout=100 + n / 1000).message(b"") for n in range(5000)])
    await until(lambda: worker.tally.finished == 5000, "all have run")
    assert len(worker.deadlines) <= 1025
