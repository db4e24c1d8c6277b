"""A class task has the options of a function: by keywords of its class, or as class variables."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import pydantic
import pytest

from taskfleet import ConfigurationError, Depends, Retry, Task, TaskQueue
from taskfleet.tasks.namespace import CLASS_TASKS
from taskfleet.tasks.options import OF_DECORATOR

Item = TypeVar("Item")

ALL: dict[str, Any] = {
    "queue": "mail", "max_retries": 7, "timeout": 9.0, "retry": Retry.fixed(5), "max_age": 60.0,
    "never_retry": (KeyError,), "always_retry": (OSError,), "executor": "async", "result_ttl": 5.0, "expires": 8.0,
    "delay": 2.0, "unique_key": "u", "unique_mode": "replace", "limit_key": "l", "fair_key": "f",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _leaves_no_tasks() -> Iterator[None]:
    before = dict(CLASS_TASKS._definitions)
    yield
    CLASS_TASKS._definitions.clear()
    CLASS_TASKS._definitions.update(before)


def options_of(cls: Any) -> Any:
    return CLASS_TASKS.get(cls.name).options


def test_every_option_of_a_function_is_one_of_a_class() -> None:
    assert ALL.keys() == OF_DECORATOR.keys()

    class MailCase(Task[int], **ALL):  # type: ignore[misc]
        order: int

        async def execute(self) -> int:
            return self.order

    assert {name: getattr(options_of(MailCase), name) for name in ALL} == ALL
    assert MailCase(order=1).message().queue == "mail"
    assert MailCase.model_fields.keys() == {"order"}


def test_class_variables_are_options_and_annotated_ones_are_fields() -> None:
    class SendCase(Task[int]):
        queue = "mail"
        retry: ClassVar[Retry] = Retry.fixed(5)
        unique_key = lambda task: f"order:{task.order}"  # noqa: E731
        max_retries = 1
        timeout_seconds = None
        order: int
        delay: int  # not the option: a field
        expires: str = "never"

        async def execute(self) -> int:
            return self.order

    options = options_of(SendCase)
    assert (options.queue, options.retry, options.max_retries, options.timeout) == ("mail", Retry.fixed(5), 1, None)
    assert (options.delay, options.expires) == (0.0, None)
    task = SendCase(order=4, delay=9)
    assert task.message().unique_key == "order:4"
    task.delay = 10  # pydantic refuses to set a class variable
    assert task.model_dump() == {"order": 4, "delay": 10, "expires": "never"}


def test_a_subclass_inherits_options_and_may_override_them() -> None:
    class Priority:
        queue = "high"

    class BaseCase(Task[int], queue="mail", retry=Retry.fixed(5), timeout=4):
        async def execute(self) -> int:
            return 1

    class ChildCase(BaseCase, queue="letters"):
        timeout_seconds = 8

    class MixedCase(Priority, BaseCase):
        pass

    assert (options_of(ChildCase).queue, options_of(ChildCase).retry, options_of(ChildCase).timeout) == (
        "letters", Retry.fixed(5), 8,
    )  # fmt: skip
    assert options_of(MixedCase).queue == "high"
    assert options_of(BaseCase).queue == "mail"


def test_methods_and_properties_with_the_name_of_an_option_are_none() -> None:
    class OddCase(Task[int]):
        async def execute(self) -> int:
            return 1

        def delay(self) -> int:
            return 5

        @property
        def retry(self) -> int:
            return 1

        @classmethod
        def queue(cls) -> str:
            return "x"

    assert (options_of(OddCase).queue, options_of(OddCase).delay) == ("default", 0.0)


def test_a_key_may_be_a_method_or_a_property() -> None:
    class KeyedCase(Task[int]):
        order: int
        shop: str = "paris"

        def unique_key(self) -> str:
            return f"order:{self.order}"

        @property
        def limit_key(self) -> str:
            return self.shop

        @staticmethod
        def fair_key(task: Any) -> str:
            return f"fair:{task.shop}"

        async def execute(self) -> int:
            return self.order

    item = KeyedCase(order=3).message().encode(1000)
    assert (item[4].unique_key, item[4].limit_key, item[4].fair_key) == ("order:3", "paris", "fair:paris")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"quue": "mail"}, r"option 'quue' is not known; .*did you mean 'queue'"),
        ({"queue": "a b"}, "queue"),
        ({"max_retries": -1}, "max_retries=-1 is negative"),
        ({"retry": 3}, "retry=3 is no Retry"),
        ({"executor": "thread"}, "is async: it runs on the loop"),
        ({"eta": 1}, "option 'eta' is not known"),
    ],
)
def test_a_wrong_option_names_class_and_option(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):

        class BadCase(Task[int], **options):  # type: ignore[misc]
            async def execute(self) -> int:
                return 1


def test_a_name_may_be_a_keyword() -> None:
    class Named(Task[int], name="other-name"):
        async def execute(self) -> int:
            return 1

    assert CLASS_TASKS.get("other-name").name == Named.name == "other-name"


def _at_the_top(task: Any, db: Annotated[int, Depends(int)]) -> int:
    return db


def test_dependencies_and_processes_do_not_go_together() -> None:
    with pytest.raises(ConfigurationError, match="executor='process' goes with no dependencies"):

        class BothCase(Task[int], executor="process"):
            execute = _at_the_top


def test_options_of_one_call() -> None:
    class ResendCase(Task[int], queue="mail"):
        order: int

        async def execute(self) -> int:
            return self.order

    message = ResendCase(order=1).options(delay=60, queue="low", unique_key="u")
    assert (message.options.delay, message.queue, message.unique_key) == (60, "low", "u")
    with pytest.raises(ConfigurationError, match="did you mean 'delay'"):
        ResendCase(order=1).options(dealy=1)  # type: ignore[call-arg]


def test_fields_may_have_the_names_of_our_methods() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class TextCase(Task[str]):
            message: str
            options: dict[str, int]

            async def execute(self) -> str:
                return self.message

    with pytest.raises(pydantic.ValidationError):
        TextCase()  # type: ignore[call-arg]
    task = TextCase(message="hi", options={"a": 1})
    assert (task.message, task.options) == ("hi", {"a": 1})


async def test_a_field_called_message_can_be_sent() -> None:
    class ShoutCase(Task[str]):
        message: str

        async def execute(self) -> str:
            return self.message.upper()

    async with TaskQueue("memory://shout") as queue:
        await queue.start_workers(1)
        assert await (await queue.enqueue(ShoutCase(message="hi"))).result(timeout=30) == "HI"
        (handle,) = await queue.enqueue_many([ShoutCase(message="ho")])
        assert await handle.result(timeout=30) == "HO"


async def test_the_result_is_of_the_class_that_the_task_names() -> None:
    class FoundCase(Task["Sum"]):
        async def execute(self):  # type: ignore[no-untyped-def]
            return {"total": 3}

    class Sum(pydantic.BaseModel):
        total: int

    class TypedCase(Task[int], Generic[Item]):
        item: Item

        async def execute(self) -> int:
            return 1

    globals()["Sum"] = Sum
    try:
        async with TaskQueue("memory://named-result") as queue:
            await queue.start_workers(1)
            assert await (await queue.enqueue(FoundCase())).result(timeout=30) == Sum(total=3)
            assert await (await queue.enqueue(TypedCase[str](item="x"))).result(timeout=30) == 1
    finally:
        del globals()["Sum"]


def test_a_worker_serves_the_queues_that_class_tasks_name() -> None:
    from taskfleet.runtime.worker import Worker

    class StampCase(Task[int], queue="stamps"):
        async def execute(self) -> int:
            return 1

    queue = TaskQueue("memory://stamps")
    assert "stamps" in {name for tier in Worker(queue).selection.tiers for name in tier.names}


def test_the_schema_is_that_of_the_fields() -> None:
    class SchemaCase(Task["Later"], queue="mail", max_retries=1):
        order: int

        async def execute(self) -> Any:
            return self.order

    assert SchemaCase.model_json_schema() == {
        "title": "SchemaCase", "type": "object",
        "properties": {"order": {"title": "Order", "type": "integer"}}, "required": ["order"],
    }  # fmt: skip


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters in brackets are of Python 3.12")
async def test_type_parameters_in_brackets() -> None:
    names: dict[str, Any] = {"Task": Task, "__name__": __name__}
    exec(
        "class BracketsCase[T](Task[T]):\n    item: T\n    async def execute(self) -> T:\n        return self.item\n",
        names,
    )
    async with TaskQueue("memory://brackets") as queue:
        await queue.start_workers(1)
        handle = await queue.enqueue(names["BracketsCase"][tuple[int, ...]](item=(1, 2)))
        assert await handle.result(timeout=30) == (1, 2)


def test_only_the_root_takes_a_result_in_brackets() -> None:
    class WholeCase(Task[int]):
        async def execute(self) -> int:
            return 1

    with pytest.raises(TypeError, match="not a generic class"):
        WholeCase[int]  # type: ignore[misc]
    assert "task" not in {definition.name for definition in CLASS_TASKS}
