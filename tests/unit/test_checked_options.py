"""Options are checked where they are written: a one-line error names the option, the value and the expected form."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any

import pytest

from taskfleet import (
    ConfigurationError,
    InvalidQueueNameError,
    Retry,
    Task,
    TaskQueue,
    TaskQueueBuilder,
    chain,
    chord,
    group,
)
from taskfleet.checks import shown
from taskfleet.options import DeadLetterOptions, QueueOptions, RateLimit
from taskfleet.runtime.worker import Worker
from taskfleet.tasks.options import CallOptions

NAN, INF = float("nan"), float("inf")


class Odd:
    """A value of an unrelated type. A check must neither call its methods nor show its representation."""

    def __repr__(self) -> str:
        raise RuntimeError("odd\n")

    def __bool__(self) -> bool:
        raise RuntimeError("odd")

    def __index__(self) -> int:
        raise RuntimeError("odd")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("odd")

    __hash__ = None  # type: ignore[assignment]


class Long:
    def __repr__(self) -> str:
        return "line\n\x1b[31m" * 1000


NO_SECONDS: list[Any] = [NAN, INF, -INF, -3, -0.001, 1e12, 1e16, 1e18, 1e300, 10**400, "3", b"3", True, [3], object()]
NO_SECONDS += [Decimal(3), Fraction(3), timedelta(seconds=-1), timedelta.max, 3j, datetime.now(UTC), int, Odd(), Long()]
DURATIONS = ("timeout", "expires", "result_ttl", "max_age", "delay")


def one_line(caught: pytest.ExceptionInfo[BaseException], *parts: str) -> None:
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    for part in parts:
        assert part in text


@pytest.fixture
def queue() -> TaskQueue:
    return TaskQueue("memory://checked")


def decorated(queue: TaskQueue, /, **options: Any) -> Any:
    if queue.registry.find("work") is not None:
        options.setdefault("name", f"work_{len(queue.registry)}")

    @queue.task(**options)
    async def work(n: int = 0) -> None: ...

    return work


def batch(queue: TaskQueue, /, **options: Any) -> Any:
    if queue.registry.find("work") is not None:
        options.setdefault("name", f"work_{len(queue.registry)}")

    @queue.batch_task(**options)
    async def work(items: list[Any]) -> list[None]: ...

    return work


def for_one_call(queue: TaskQueue, /, **options: Any) -> Any:
    return decorated(queue).options(**options)


ROUTES: list[Callable[..., Any]] = [decorated, batch, for_one_call]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("option", DURATIONS)
@pytest.mark.parametrize("value", NO_SECONDS, ids=lambda value: shown(value)[:20])
def test_an_invalid_duration_is_refused(queue: TaskQueue, route: Any, option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        route(queue, **{option: value})
    one_line(caught, f"{option}=", "expected seconds (a number or a timedelta)")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("option", DURATIONS)
def test_numbers_and_timedeltas_are_seconds(queue: TaskQueue, route: Any, option: str) -> None:
    made = route(queue, **{option: timedelta(minutes=2)})
    options = made.definition.options if hasattr(made, "definition") else made._options
    assert getattr(options, option) == 120.0
    assert type(getattr(options, option)) is float


@pytest.mark.parametrize("option", ["timeout", "expires"])
def test_a_timeout_or_expiry_of_zero_is_refused(queue: TaskQueue, option: str) -> None:
    for route in ROUTES:
        with pytest.raises(ConfigurationError, match=f"{option}=0 must be positive"):
            route(queue, **{option: 0})
    assert decorated(queue, result_ttl=0, max_age=0, delay=0).definition.options.result_ttl == 0


class Number(IntEnum):
    THREE = 3


class Word(StrEnum):
    HIGH = "high"
    REPLACE = "replace"


class Real(float):
    def __repr__(self) -> str:
        return "Real"


def test_stored_options_are_of_plain_types(queue: TaskQueue) -> None:
    options = decorated(
        queue,
        max_retries=Number.THREE,
        timeout=Real(3),
        queue=Word.HIGH,
        unique_mode=Word.REPLACE,
        unique_key=Word.HIGH,
    ).definition.options
    assert [type(value) for value in (options.max_retries, options.timeout, options.queue)] == [int, float, str]
    assert [type(value) for value in (options.unique_mode, options.unique_key)] == [str, str]
    assert (options.max_retries, options.timeout, options.queue) == (3, 3.0, "high")


COUNTS: list[Any] = [Odd(), Long(), -1, 2.5, 3.0, "3", True, NAN, INF, Decimal(3), 10**400, (3,)]


@pytest.mark.parametrize("value", COUNTS, ids=lambda value: shown(value)[:20])
def test_an_invalid_count_is_refused(queue: TaskQueue, value: Any) -> None:
    for route in ROUTES:
        with pytest.raises(ConfigurationError) as caught:
            route(queue, max_retries=value)
        one_line(caught, "max_retries=", "whole number")
    with pytest.raises(ConfigurationError) as caught:
        batch(queue, size=value)
    one_line(caught, "batch task 'work", ": size=")


@pytest.mark.parametrize("value", [NAN, -1, "3", True, INF, 1e9, timedelta(hours=2), None])
def test_the_window_of_a_batch_is_milliseconds_up_to_an_hour(queue: TaskQueue, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        batch(queue, window_ms=value)
    one_line(caught, "batch task 'work': window_ms=", "expected milliseconds")
    assert batch(queue, window_ms=timedelta(milliseconds=20), name="other").definition.batch.window == 0.02


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("retry", 5, "retry=5 is no Retry; expected Retry.fixed"),
        ("retry", "exponential", "retry='exponential' is no Retry"),
        ("retry", Retry, "is no Retry"),
        ("never_retry", "ValueError", "never_retry='ValueError' is not valid; expected exception classes"),
        ("never_retry", ("ValueError",), "expected exception classes"),
        ("never_retry", ValueError(), "expected exception classes"),
        ("always_retry", [ValueError, 3], "expected exception classes"),
        ("always_retry", int, "expected exception classes"),
        ("unique_mode", "replase", "unique_mode='replase' is not known; expected one of keep_existing, replace, "),
        ("unique_mode", "replase", "(did you mean 'replace'?)"),
        ("unique_mode", "KeepExisting", "(did you mean 'keep_existing'?)"),
        ("unique_mode", 3, "unique_mode=3 is not known"),
        ("unique_mode", ["replace"], "unique_mode=['replace'] is not known"),
        ("executor", "treads", "executor='treads' is not known; expected one of async, thread, process (did you mean"),
        ("executor", None, "executor=None is not known"),
        ("queue", "a b", "queue: queue name 'a b' is not valid"),
        ("queue", b"default", "queue: queue name b'default' is not valid"),
        ("queue", 3, "queue: queue name 3 is not valid"),
        ("queue", "\udcff", "is not valid"),
        ("name", "", "name='' is not valid; expected a text of 1 to 255 printable characters"),
        ("name", "a\nb", "is not valid"),
        ("name", "\udcff", "is not valid"),
        ("name", "\x1b[31m", "is not valid"),
        ("name", 5, "name=5 is not valid"),
        ("name", "x" * 300, "is not valid"),
    ],
)
def test_errors_of_task_options_name_the_expected_form(queue: TaskQueue, option: str, value: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        decorated(queue, **{option: value})
    one_line(caught, problem)


def test_exception_classes_come_in_any_collection(queue: TaskQueue) -> None:
    for given in ([ValueError], {ValueError}, (ValueError,), ValueError):
        options = decorated(queue, never_retry=given, always_retry=given).definition.options
        assert options.never_retry == options.always_retry == (ValueError,)


BAD_KEYS: list[Any] = [
    Odd(),
    Long(),
    "\udcff",
    "a\ud800b",
    "",
    "a\0b",
    "x" * 513,
    b"key",
    5,
    0,
    False,
    ["k"],
    Decimal(1),
]


@pytest.mark.parametrize("option", ["unique_key", "limit_key", "fair_key"])
@pytest.mark.parametrize("value", BAD_KEYS, ids=shown)
def test_a_key_is_a_text_that_can_travel(queue: TaskQueue, option: str, value: Any) -> None:
    for route in ROUTES:
        with pytest.raises(ConfigurationError) as caught:
            route(queue, **{option: value})
        one_line(caught, option, "a key is a text of 1 to 512 characters without NUL")


def test_a_key_function_is_plain(queue: TaskQueue) -> None:
    async def key(n: int) -> str:
        return str(n)

    with pytest.raises(ConfigurationError, match=r"unique_key=.* is async"):
        decorated(queue, unique_key=key)
    with pytest.raises(ConfigurationError, match="unique_key"):
        for_one_call(queue, unique_key=lambda n: str(n))


def test_a_misspelt_option_is_named(queue: TaskQueue) -> None:
    for route, text in ((decorated, "task option 'timeuot'"), (for_one_call, "option 'timeuot'")):
        with pytest.raises(ConfigurationError) as caught:
            route(queue, timeuot=3)
        one_line(caught, text, "(did you mean 'timeout'?)")
    with pytest.raises(ConfigurationError, match=r"did you mean 'max_retries'"):
        batch(queue, max_retry=3)
    with pytest.raises(ConfigurationError, match=r"options are named, such as @queue.task\(queue='default'\)"):
        queue.task("high")  # type: ignore[call-overload]


class NoOffset(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    "value",
    [
        date(2030, 1, 1), "2030-01-01T00:00:00Z", 1893456000, NAN, datetime(2030, 1, 1), timedelta(days=1),
        datetime(2030, 1, 1, tzinfo=NoOffset()), datetime.max.replace(tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC),
    ],
    ids=shown,
)  # fmt: skip
def test_an_eta_is_a_datetime_with_a_zone(queue: TaskQueue, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        for_one_call(queue, eta=value)
    one_line(caught, "eta=")


def test_an_eta_in_the_past_of_any_year_is_now(queue: TaskQueue) -> None:
    for year in (1, 1900, 1970):
        message = for_one_call(queue, eta=datetime(year, 1, 1, tzinfo=UTC)).message()
        assert message.encode(10_000)[3] > 0


def test_delay_and_eta_exclude_each_other(queue: TaskQueue) -> None:
    with pytest.raises(ConfigurationError, match="delay and eta both say when"):
        for_one_call(queue, delay=3, eta=datetime.now(UTC))
    assert decorated(queue, delay=5).options(eta=datetime.now(UTC)).message()


async def test_schedule_is_checked_like_delay(queue: TaskQueue) -> None:
    message = decorated(queue).message()
    for value in (NAN, INF, -1, 1e18, "3", None):
        with pytest.raises(ConfigurationError, match="delay="):
            await queue.schedule(message, delay=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="eta"):
        await queue.schedule(for_one_call(queue, eta=datetime.now(UTC)).message(), delay=3)


@pytest.mark.parametrize("after", [5, "id", ["id"], [None], [object()], {"a": 1}], ids=shown)
def test_after_takes_handles(queue: TaskQueue, after: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        for_one_call(queue, after=after)
    one_line(caught, "after=")


# Class tasks.


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("max_retries", "3"), ("max_retries", -1), ("max_retries", None), ("timeout_seconds", NAN),
     ("timeout_seconds", "300"), ("timeout_seconds", 0), ("name", 5), ("name", ""), ("name", "a\nb")],
)  # fmt: skip
def test_the_attributes_of_a_class_task_are_checked_when_it_is_defined(attribute: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        type("Wrong", (Task,), {attribute: value, "__module__": __name__, "execute": Task.execute})
    one_line(caught, f"{attribute}=", "Wrong")


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
@pytest.mark.parametrize("option", ["max_retries", "timeout_seconds"])
def test_an_option_that_pydantic_would_take_for_data_is_refused(option: str) -> None:
    namespace = {option: 5, "__annotations__": {option: int}, "__module__": __name__, "execute": Task.execute}
    with pytest.raises(ConfigurationError) as caught:
        type("Annotated", (Task,), namespace)
    one_line(caught, f"{option} has an annotation, which makes it a field", f"write {option} = 5")


def test_a_class_task_takes_a_timedelta() -> None:
    class Fine(Task):
        timeout_seconds = timedelta(minutes=1)  # type: ignore[assignment]

        async def execute(self) -> None: ...

    assert Fine().message().task.options.timeout == 60.0


@pytest.mark.parametrize(
    "options",
    [{"delay": NAN}, {"eta": NAN}, {"eta": "now"}, {"unique_key": "\udcff"}, {"timeout": "3"}, {"max_retries": -1},
     {"queue": "a b"}, {"after": [5]}, {"delay": 1, "eta": datetime.now(UTC)}, {"unique_mode": "replase"}],
    ids=shown,
)  # fmt: skip
def test_call_options_of_a_class_task_are_checked_in_its_message(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Instance().message(CallOptions(**options))
    one_line(caught, next(iter(options)))
    with pytest.raises(ConfigurationError, match="expected CallOptions"):
        Instance().message("high")  # type: ignore[arg-type]
    at = datetime.now(UTC)
    message = Instance().message(CallOptions(eta=at, timeout=timedelta(seconds=3)))
    assert (message.options.eta, message.options.timeout) == (at.timestamp(), 3.0)


# Retry.


@pytest.mark.parametrize("value", NO_SECONDS, ids=lambda value: shown(value)[:20])
def test_the_delays_of_a_retry_are_checked(value: Any) -> None:
    for make in (
        lambda: Retry.fixed(value),
        lambda: Retry.linear(value),
        lambda: Retry.exponential(value),
        lambda: Retry.linear(1, max_delay=value),
        lambda: Retry.exponential(max_delay=value),
        lambda: Retry("fixed", value, 1, False),
    ):
        with pytest.raises(ConfigurationError) as caught:
            make()
        one_line(caught, "expected seconds")


def test_a_retry_policy_checks_its_arguments() -> None:
    assert Retry.exponential(timedelta(seconds=2)).delay == 2.0
    with pytest.raises(ConfigurationError, match=r"kind='expnential' is not known.*did you mean 'exponential'"):
        Retry("expnential", 1, 1, False)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="jitter='yes' is not True or False"):
        Retry.exponential(jitter="yes")  # type: ignore[arg-type]


# Queues.


@pytest.mark.parametrize("make", [lambda options: QueueOptions(**options), QueueOptions.of])
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"lease_seconds": NAN}, "lease_seconds=nan is no number of seconds"),
        ({"lease_seconds": INF}, "lease_seconds=inf"),
        ({"lease_seconds": 0.5}, "lease_seconds=0.5 must be at least 1 second"),
        ({"lease_seconds": 1e6}, "lease_seconds=1000000.0 is too long"),
        ({"lease_seconds": "30"}, "lease_seconds='30'"),
        ({"concurrency": Decimal(3)}, "concurrency=Decimal('3') must be a whole number"),
        ({"concurrency": 0}, "concurrency=0 must be a whole number of at least 1"),
        ({"concurrency": 2.5}, "concurrency=2.5"),
        ({"concurrency_per_key": True}, "concurrency_per_key=True"),
        ({"weight": 10**400}, "weight="),
        ({"weight": 10**5000}, "weight=<int> must be a whole number"),
        ({"weight": 0}, "weight=0 must be a whole number of at least 1"),
        ({"weight": NAN}, "weight=nan"),
        ({"priority": "high"}, "priority='high'"),
        ({"priority": 1.5}, "priority=1.5"),
        ({"partitions": 10**9}, "partitions=1000000000 must be a whole number of at least 1, and at most 4096"),
        ({"partitions": "4"}, "partitions='4'"),
        ({"max_length": -1}, "max_length=-1 is negative"),
        ({"max_length": NAN}, "max_length=nan"),
        ({"max_deliveries": 0}, "max_deliveries=0"),
        ({"max_deliveries": INF}, "max_deliveries=inf"),
        ({"rate_limit": 3}, "rate_limit=3 is no RateLimit; expected RateLimit(tasks_per_second=10, burst=20)"),
        ({"rate_limit": {"tasks_per_second": 3}}, "rate_limit={'tasks_per_second': 3} lacks 'burst'"),
        ({"rate_limit": {"task_per_second": 3, "burst": 1}}, "(did you mean 'tasks_per_second'?)"),
        ({"rate_limit": {"tasks_per_second": NAN, "burst": 1}}, "rate_limit: tasks_per_second=nan must be positive"),
        ({"rate_limit": {"tasks_per_second": 0, "burst": 1}}, "rate_limit: tasks_per_second=0 must be positive"),
        ({"rate_limit": {"tasks_per_second": "3", "burst": 1}}, "rate_limit: tasks_per_second='3'"),
        ({"rate_limit": {"tasks_per_second": 3, "burst": 0}}, "rate_limit: burst=0"),
        ({"rate_limit_per_key": {"tasks_per_second": 3, "burst": 1.5}}, "queue 'mail': rate_limit_per_key: burst=1.5"),
        ({"rate_limit_per_key": [3, 1]}, "rate_limit_per_key=[3, 1] is no RateLimit"),
        ({"dead_letter": {"max_length": -1}}, "dead_letter: max_length=-1 is negative"),
        ({"dead_letter": {"ttl_seconds": NAN}}, "dead_letter: ttl_seconds=nan"),
        ({"dead_letter": {"ttl": 3}}, "dead_letter: unknown key 'ttl'"),
        ({"dead_letter": 5}, "dead_letter=5 is no DeadLetterOptions"),
        ({"dead_letter": None}, "dead_letter=None is no DeadLetterOptions"),
    ],
    ids=lambda value: shown(value)[:60],
)
def test_options_of_a_queue_are_checked(make: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make({"name": "mail", **options})
    one_line(caught, problem)


def test_parts_of_a_queue_are_checked_where_they_are_made() -> None:
    for make in (
        lambda: RateLimit(NAN, 1),
        lambda: RateLimit(1, 10**400),
        lambda: DeadLetterOptions(ttl_seconds=-1),
        lambda: DeadLetterOptions(max_length="3"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigurationError) as caught:
            make()
        one_line(caught)
    options = QueueOptions("a", lease_seconds=timedelta(seconds=9), rate_limit={"tasks_per_second": 3, "burst": 1})  # type: ignore[arg-type]
    assert options.lease_seconds == 9.0
    assert options.rate_limit == RateLimit(3, 1)


@pytest.mark.parametrize(
    ("queues", "problem"),
    [
        (["a", "a"], "queues: queue 'a' is there twice"),
        (["a", {"name": "a", "priority": 1}], "queues: queue 'a' is there twice"),
        ("default", "queues='default' is not a list"),
        ({"name": "a"}, "queues={'name': 'a'} is not a list"),
        (5, "queues=5 is not a list"),
        ([5], "queue options 5: expected QueueOptions, a dict"),
        ([{"priority": 1}], "queue options {'priority': 1} have no 'name'"),
        ([{"name": "a", "wieght": 1}], "unknown key 'wieght'; expected one of"),
        ([{"name": "a", "wieght": 1}], "(did you mean 'weight'?)"),
        ([{"name": None}], "queue name None is not valid"),
    ],
    ids=shown,
)
def test_the_list_of_queues_is_checked(queues: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue("memory://x", queues=queues)
    one_line(caught, problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"name": "a", "lease_seconds": NaN}]', "TASKFLEET_QUEUES: queue 'a': lease_seconds=nan"),
        ('[{"name": "a", "weight": "3"}]', "TASKFLEET_QUEUES: queue 'a': weight='3'"),
        ('[{"name": "a"}, {"name": "a"}]', "TASKFLEET_QUEUES: the list: queue 'a' is there twice"),
        ('[{"name": "a", "rate_limit": 3}]', "TASKFLEET_QUEUES: queue 'a': rate_limit=3"),
        ('[{"name": "a", "priorty": 3}]', "(did you mean 'priority'?)"),
        ("[" * 100_000, "TASKFLEET_QUEUES is not JSON"),
        ('["a"]', "TASKFLEET_QUEUES must be a JSON list of objects"),
    ],
)
def test_the_queues_of_the_environment_are_checked(monkeypatch: pytest.MonkeyPatch, text: str, problem: str) -> None:
    monkeypatch.setenv("TASKFLEET_QUEUES", text)
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue("memory://x")
    one_line(caught, problem)


@pytest.mark.parametrize(
    "options",
    [
        {"result_ttl": NAN}, {"result_ttl": -1}, {"result_ttl": 1e300}, {"result_ttl": "60"}, {"result_ttl": None},
        {"max_payload_bytes": 0}, {"max_payload_bytes": "1MB"}, {"max_payload_bytes": 1e6},
        {"max_result_bytes": -1}, {"max_result_bytes": 10**12}, {"max_result_bytes": NAN},
        {"compression_threshold_bytes": "1"}, {"settings": {"redis": {}}}, {"broker": TaskQueue("memory://a").broker},
    ],
    ids=shown,
)  # fmt: skip
def test_options_of_the_task_queue_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue("memory://x", **options)
    one_line(caught, next(iter(options)))


# Arguments of `enqueue` and its variants.


def plain(n: int) -> None: ...


async def coroutine(n: int) -> None: ...


class Instance(Task):
    async def execute(self) -> None: ...


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda work: work, "work is the task itself; write await work.enqueue(…), or send work.message(…)"),
        (lambda work: work.options(delay=1), "these are options without a call"),
        (lambda work: "work", "'work' is only a name; import the task and write await task.enqueue(…)"),
        (lambda work: coroutine(1), "coroutine(…) is a plain call that runs here; write await coroutine.enqueue(…)"),
        (lambda work: work(1), "work(…) is a plain call that runs here; write await work.enqueue(…)"),
        (lambda work: work.message, "message is a method that was not called; write task.message(…)"),
        (lambda work: work.options(delay=1).message, "message is a method that was not called"),
        (lambda work: work.enqueue(1), "that call sends by itself; write only await task.enqueue(…)"),
        (lambda work: plain, "plain is no task; define it with @queue.task"),
        (lambda work: [work.message()], "a list is no message; send several with await queue.enqueue_many("),
        (lambda work: ("a", "b"), "a tuple is no message"),
        (lambda work: Instance, "Instance is a class; send an instance, Instance(…)"),
        (lambda work: None, "a NoneType is no message"),
        (lambda work: {"n": 1}, "a dict is no message"),
    ],
)
async def test_enqueue_without_a_message_says_how_to_write_the_call(queue: TaskQueue, make: Any, problem: str) -> None:
    work = decorated(queue)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a coroutine that is never awaited
        for send in (
            queue.enqueue,
            lambda thing: queue.schedule(thing, delay=1),
            lambda thing: queue.enqueue_many([work.message(), thing]),
        ):
            with pytest.raises(TypeError) as caught:
                await send(make(work))
            one_line(caught, problem)
    assert (await queue.queue_stats("default")).ready == 0


def test_the_same_without_a_loop(queue: TaskQueue) -> None:
    work = decorated(queue)
    with pytest.raises(TypeError, match="the task itself"):
        queue.enqueue_sync(work)
    with pytest.raises(TypeError, match="message 0: a tuple is no message"):
        queue.enqueue_many_sync([("a", "b")])  # type: ignore[list-item]


async def test_many_messages_come_in_any_iterable(queue: TaskQueue) -> None:
    work = decorated(queue)
    handles = await queue.enqueue_many(work.message(n) for n in range(3))
    assert len(await queue.enqueue_many([Instance(), work.message(1)])) == 2
    assert len(handles) == 3
    assert await queue.enqueue_many([]) == []
    for wrong in (work.message(), "ab", {"a": 1}, 5, None, chain(work.message())):
        with pytest.raises(TypeError, match=r"queue\.enqueue_many: an? .* is no list of messages"):
            await queue.enqueue_many(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="wait_for_room=nan"):
        await queue.enqueue_many([work.message()], wait_for_room=NAN)


async def test_a_workflow_is_made_of_members(queue: TaskQueue) -> None:
    work = decorated(queue)
    assert len(group(*(work.message() for _ in range(3))).members) == 3
    assert len(chord((work.message() for _ in range(3)), work.message()).members[0].members) == 3  # type: ignore[union-attr]
    with pytest.raises(ConfigurationError, match=r"chord\(\) needs at least one member"):
        chord((work.message() for _ in range(0)), work.message())
    for make in (lambda: chain(work), lambda: group(work(1)), lambda: chord(work.message(), work.message()),
                 lambda: chord([work.message()], work), lambda: group([work.message()])):  # fmt: skip
        with pytest.raises(ConfigurationError) as caught:
            make()
        one_line(caught)
    with pytest.raises(ConfigurationError, match="members of a workflow go to queues of their own"):
        await queue.enqueue(chain(work.message()), "high")  # type: ignore[call-overload]


# Handles and views.


async def test_arguments_of_handles_and_views_are_checked(queue: TaskQueue) -> None:
    handle = await decorated(queue).enqueue()
    for value in (NAN, -1, "3", True, 1e18):
        with pytest.raises(ConfigurationError, match="timeout="):
            await handle.result(timeout=value)  # type: ignore[arg-type]
    for task_id in ("\udcff", "", 5, None, "a\0b", "x" * 1000):
        with pytest.raises(ConfigurationError, match="task_id"):
            queue.handle(task_id)  # type: ignore[arg-type]
    for call in (
        lambda: queue.queue_stats("default", horizon=NAN),
        lambda: queue.dead_letters("default", limit=-1),
        lambda: queue.dead_letters("default", cursor=1.5),  # type: ignore[arg-type]
        lambda: queue.requeue_dead("default", "abc"),
        lambda: queue.requeue_dead("default", [5]),  # type: ignore[list-item]
        lambda: queue.start_workers(-1),
        lambda: queue.start_workers(2.5),  # type: ignore[arg-type]
        lambda: queue.start_workers("2"),  # type: ignore[arg-type]
        lambda: queue.start_workers(10**9),
    ):
        with pytest.raises(ConfigurationError) as caught:
            await call()
        one_line(caught)
    for name in (None, b"default", 5, "a b", "\udcff"):
        with pytest.raises(InvalidQueueNameError):
            await queue.pause(name)  # type: ignore[arg-type]
    assert queue.worker_count == 0


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0}, {"concurrency": -1}, {"concurrency": 2.5}, {"concurrency": "4"}, {"concurrency": 10**9},
        {"concurrency": True}, {"concurrency": NAN}, {"name": "a\nb"}, {"name": ""}, {"name": 5}, {"name": "\x1b[31m"},
        {"name": "\udcff"}, {"number": -1}, {"number": "0"}, {"stall_limit": NAN}, {"stall_limit": 0},
        {"stall_limit": "300"}, {"notice": -1}, {"queues": "high"}, {"queues": []}, {"queues": [5]},
        {"queues": {"a": 1}}, {"queues": ["a b"]},
    ],
    ids=shown,
)  # fmt: skip
def test_arguments_of_a_worker_are_checked(queue: TaskQueue, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Worker(queue, **options)
    one_line(caught)


def test_the_worker_name_of_the_environment_is_checked(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_WORKER_NAME", "a\nb")
    with pytest.raises(ConfigurationError, match="name="):
        Worker(queue)


async def test_workers_of_this_process_are_started_for_a_list_of_queues(queue: TaskQueue) -> None:
    for queues in ("high", [], [5], {"high": 1}):
        with pytest.raises(ConfigurationError, match="queues"):
            await queue.start_workers(1, queues=queues)  # type: ignore[arg-type]
    assert queue.worker_count == 0
    await queue.start_workers(0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: TaskQueueBuilder("memory://b").initial_workers("4"),  # type: ignore[arg-type]
        lambda: TaskQueueBuilder("memory://b").initial_workers(2.5),  # type: ignore[arg-type]
        lambda: TaskQueueBuilder("memory://b").initial_workers(True),
        lambda: TaskQueueBuilder("memory://b").with_autoscaler(min_workers="3"),  # type: ignore[arg-type]
        lambda: TaskQueueBuilder("memory://b").with_autoscaler(min_workers=True),
        lambda: TaskQueueBuilder("memory://b").with_autoscaler(scale_up_threshold=NAN),
        lambda: TaskQueueBuilder("memory://b").with_autoscaler(scale_up_count=10**9),
        lambda: TaskQueueBuilder("memory://b").auto_register_tasks(5),  # type: ignore[arg-type]
        lambda: TaskQueueBuilder("redis://h/x"),
        lambda: TaskQueueBuilder("memory://b", result_tll=3),
        lambda: TaskQueueBuilder("memory://b", result_ttl=NAN),
        lambda: TaskQueueBuilder("memory://b", queues="default"),
        lambda: TaskQueueBuilder("memory://b", signing_keys=[]),
    ],
)
def test_arguments_of_a_builder_are_checked(build: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build().build()
    one_line(caught)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"every": NAN, "schedule": None}, "every=nan is not valid; expected at least 1 second"),
        ({"every": "5", "schedule": None}, "every='5' is not valid"),
        ({"every": True, "schedule": None}, "every=True is not valid"),
        ({"every": 1e18, "schedule": None}, "every=1e+18 is not valid"),
        ({"every": Decimal(5), "schedule": None}, "every=Decimal('5') is not valid"),
        ({"schedule": 5}, "schedule=5 is not valid"),
        ({"schedule": ["@daily"]}, "schedule=['@daily'] is not valid"),
        ({"time_zone": 5}, "time_zone=5 is not valid"),
        ({"time_zone": ""}, "time_zone='' is not valid"),
        ({"name": 5}, "schedule name 5 is not valid"),
        ({"name": "\udcff"}, "is not valid"),
        ({"args": 5}, "args=5 is not a list of arguments"),
        ({"args": b"ab"}, "args=b'ab' is not a list of arguments"),
        ({"args": {"n": 1}}, "args={'n': 1} is not a list of arguments"),
        ({"kwargs": [1]}, "kwargs=[1] is not a dict of arguments"),
        ({"starting_deadline_seconds": "5"}, "starting_deadline_seconds='5' is not valid"),
        ({"starting_deadline_seconds": INF}, "starting_deadline_seconds=inf is not valid"),
        ({"starting_deadline_seconds": True}, "starting_deadline_seconds=True is not valid"),
        ({"concurrency_policy": "Forbidden"}, "(did you mean 'Forbid'?)"),
        ({"concurrency_policy": None}, "concurrency_policy=None is not known"),
        ({"paused": "yes"}, "paused='yes' is not True or False"),
        ({"queue": 5}, "queue name 5 is not valid"),
        ({"task": plain}, "is not a task; expected a task function"),
        ({"task": None}, "task=None is not a task"),
    ],
    ids=shown,
)
async def test_arguments_of_a_schedule_are_checked(queue: TaskQueue, arguments: dict[str, Any], problem: str) -> None:
    given = {"name": "nightly", "schedule": "@daily", "task": decorated(queue), **arguments}
    with pytest.raises(ConfigurationError) as caught:
        await queue.add_schedule(**given)
    one_line(caught, problem)
    assert await queue.list_schedules() == []


async def test_a_schedule_takes_timedeltas(queue: TaskQueue) -> None:
    added = await queue.add_schedule(
        name="a", every=timedelta(minutes=5), task=decorated(queue), starting_deadline_seconds=timedelta(seconds=30)
    )
    assert (added.every, added.starting_deadline_seconds) == (300.0, 30.0)
