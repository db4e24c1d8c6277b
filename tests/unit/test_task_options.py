"""An option stands in the typed dicts, in `TaskOptions` and in the reference, and each says the same of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taskfleet import BatchItem, ConfigurationError, Retry, Task, TaskQueue
from taskfleet.protocol import envelope
from taskfleet.tasks.message import Message
from taskfleet.tasks.options import OF_CALL, OF_CLASS, OF_DECORATOR, OPTIONS, BatchTaskOptions, TaskOptions

REFERENCE = Path(__file__).parents[2] / "docs/reference/library.md"
ROW = re.compile(r"^\| `(\w+)` \| ([a-z, ]+) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
NOT_SAID = {"executor": "async", "retry": "Retry.exponential()", "result_ttl": "the queue's, 3600"}


@pytest.fixture
def queue() -> TaskQueue:
    return TaskQueue("memory://options")


def test_each_option_can_be_set_somewhere() -> None:
    assert OF_CALL.keys() | OF_DECORATOR.keys() == OPTIONS.keys()


def test_the_reference_says_of_each_option_where_it_is_set_and_its_default() -> None:
    text = REFERENCE.read_text()
    start = text.index("| option | set by | default | meaning |")
    rows = {name: (by, default) for name, by, default in ROW.findall(text[start : text.index("\n\n", start)])}
    rows.pop("name")
    of_batch = BatchTaskOptions.__optional_keys__
    routes = {"decorator": OF_DECORATOR, "batch": of_batch, "call": OF_CALL, "class": OF_DECORATOR}
    assert {name: by for name, (by, _) in rows.items()} == {
        name: ", ".join(route for route, names in routes.items() if name in names) for name in OPTIONS
    }
    for name, option in OPTIONS.items():
        said = rows[name][1].strip("`")
        assert said == (NOT_SAID.get(name) or ("none" if option.default in (None, ()) else f"{option.default:g}"
                        if isinstance(option.default, float) else str(option.default)))  # fmt: skip


def test_the_defaults_of_a_class_task_are_those_of_the_options() -> None:
    assert {attribute: getattr(Task, attribute) for attribute in OF_CLASS} == {
        attribute: option.default for attribute, (_, option) in OF_CLASS.items()
    }


def test_no_two_options_are_sent_under_one_key() -> None:
    keys = [option.setting for option in OPTIONS.values() if option.setting is not None]
    assert len(set(keys)) == len(keys)
    # What decides where a task runs and when is not sent, and a worker knows of an option only what it is sent.
    assert all(name in OF_CALL for name, option in OPTIONS.items() if option.setting is not None)


def settings_of(message: Message[Any]) -> dict[str, Any]:
    _, blob, *_ = message.encode(10_000)
    return envelope.decode(b"\0" * envelope.STAMP_BYTES + blob).settings


def test_a_call_sends_only_the_options_that_it_sets_itself(queue: TaskQueue) -> None:
    @queue.task(max_retries=5, timeout=60, result_ttl=1, max_age=9, retry=Retry.fixed(3))
    async def work(n: int) -> None: ...

    assert settings_of(work.message(1)) == {}
    assert settings_of(work.options(delay=1, queue="other").message(1)) == {}
    own = work.options(max_retries=0, timeout=None, retry=Retry.fixed(2), max_age=7).message(1)
    assert settings_of(own) == {"r": 0, "b": ["fixed", 2.0, 2.0, False], "a": 7.0}


def test_a_call_has_the_options_of_its_task_except_those_that_it_sets(queue: TaskQueue) -> None:
    @queue.task(queue="a", delay=5, unique_key="u", unique_mode="replace", fair_key="f")
    async def work(n: int) -> None: ...

    options = work.options(queue="b", unique_key="v", unique_mode=None, fair_key=None, delay=0).message(1).options
    assert (options.queue, options.unique_key, options.unique_mode, options.fair_key) == ("b", "v", "replace", "f")
    assert options.delay == 0  # in place of the decorator's 5 s
    at = datetime.now(UTC)
    assert (work.options(eta=at).message(1).options.delay, work.options(eta=at).message(1).options.eta) == (
        0.0,
        at.timestamp(),
    )
    assert work.message(1).options is work.definition.options
    assert work.definition.options == TaskOptions(
        queue="a", delay=5.0, unique_key="u", unique_mode="replace", fair_key="f"
    )


def test_a_message_is_sent_elsewhere_and_later_without_a_change_to_itself(queue: TaskQueue) -> None:
    @queue.task(delay=5)
    async def work(n: int) -> None: ...

    message = work.options(delay=7, timeout=3).message(1)
    other = message.to("other").delayed(9)
    assert (other.queue, other.options.delay, settings_of(other)) == ("other", 9.0, {"t": 3.0})
    assert (message.queue, message.options.delay) == ("default", 7.0)
    assert message.delayed(0).options.delay == 0.0
    with pytest.raises(ConfigurationError, match="delay and the message's eta both say"):
        work.options(eta=datetime.now(UTC)).message(1).delayed(1)


def test_a_decorator_refuses_the_options_of_calls(queue: TaskQueue) -> None:
    for option in OF_CALL.keys() - OF_DECORATOR.keys():
        with pytest.raises(ConfigurationError, match=f"task option '{option}' is not known"):

            @queue.batch_task(**{option: 1})  # type: ignore[call-overload]
            async def work(items: list[BatchItem]) -> list[None]: ...
