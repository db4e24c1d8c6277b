"""Tasks as classes: a pydantic model with an `execute` method."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, Unpack

from pydantic import BaseModel

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.tasks import dependency_plan, depends, other_queues
from taskfleet.tasks.class_options import options_of
from taskfleet.tasks.definition import Definition, location_of, with_executor
from taskfleet.tasks.member import Result_co, TypedResult
from taskfleet.tasks.message import Message
from taskfleet.tasks.namespace import CLASS_TASKS
from taskfleet.tasks.options import OF_DECORATOR, CallOptions, TaskOptions
from taskfleet.tasks.signature import Signature, hints_of
from taskfleet.travel.hints import return_hint

R_co = TypeVar("R_co", covariant=True)
_METHOD = types.MethodType  # both are used for every message
_BY_NAME = CLASS_TASKS._definitions
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Task(BaseModel, TypedResult[Result_co]):
    """A task as a class: its fields are the arguments, `execute` does the work: `class Refund(Task[Receipt])`.

    A subclass is registered when it is defined. `name` is the snake-case class name unless set. The options of
    `@queue.task(…)` are class attributes without annotation (`queue = "mail"`; with one they are fields), or keywords
    of the class (`class Refund(Task[Receipt], queue="mail")`). `timeout` has the name `timeout_seconds`, too. A key
    function is called with the task. Subclasses inherit them.
    """

    name: ClassVar[str] = ""
    max_retries: ClassVar[int] = 3
    timeout_seconds: ClassVar[float | None] = 300.0

    if TYPE_CHECKING:
        # It may be plain or async, and its parameters are injected, so they are no part of its type.
        def execute(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Result_co] | Result_co: ...

    else:

        async def execute(self) -> Any:
            raise NotImplementedError(f"{type(self).__name__} has no execute method")

        def __class_getitem__(cls, result: Any) -> Any:
            if cls is Task:
                return types.GenericAlias(cls, result)
            return super().__class_getitem__(result)

        def __getattr__(self, name: str) -> Any:
            other_queues.check_class_task(type(self).__name__, name)
            return super().__getattr__(name)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__()
        if "name" in options:
            cls.name = options.pop("name")
        elif "name" not in cls.__dict__:
            cls.name = _WORD_START.sub("_", cls.__name__).lower()
        cls.__class_vars__ -= cls.__pydantic_fields__.keys()
        CLASS_TASKS.add(_definition_of(cls, options), thing=cls)

    def message(self, options: CallOptions | None = None) -> Message[Result_co]:
        """This task as a message, for `enqueue_many` and workflows.

        Errors: `ConfigurationError` names the option.
        """
        try:
            definition = _BY_NAME[type(self).name]
        except KeyError:
            definition = CLASS_TASKS.get(type(self).name)  # its error names those that are known
        if options is None:
            return Message(definition, (self,), {}, definition.options)
        # Callers without a type checker pass anything.
        if not isinstance(options, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"options={checks.shown(options)} is no dict; expected CallOptions(delay=…)")
        return Message(definition, (self,), {}, definition.options.for_call(options))

    def options(self, **options: Unpack[CallOptions]) -> Message[Result_co]:
        """This task with options of this call: `await queue.enqueue(Refund(order=1).options(delay=60))`.

        Errors: `ConfigurationError` names the option, its value and the expected form.
        """
        return message_of(self, options)


class _OfInstances:
    """A method that instances have, and their class does not seem to have.

    Pydantic would take it for the default of a field of that name (`message: str`), and warn of it.
    """

    def __init__(self, method: types.FunctionType) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: object, owner: type | None = None) -> types.MethodType:
        if instance is not None:
            return _METHOD(self._method, instance)
        name = self._method.__name__
        raise AttributeError(f".{name}() is a method of instances, such as {getattr(owner, '__name__', 'Task')}(…)")


message_of: Callable[..., Message[Any]] = vars(Task)["message"]
"""The message of a class task, also of one with a field that has the name of the method."""

for _name in ("message", "options"):
    setattr(Task, _name, _OfInstances(vars(Task)[_name]))
# Pydantic takes a class attribute without annotation only under a name that it knows as one.
Task.__class_vars__ |= OF_DECORATOR.keys()


class AsyncTask(Protocol[R_co]):
    """A class task as type checkers see it when only its `execute` says what its result is."""

    name: ClassVar[str]
    timeout_seconds: ClassVar[float | None]

    def execute(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R_co]: ...


def _definition_of(cls: type[Task], keywords: dict[str, Any]) -> Definition:
    # Subclasses override `execute` with any return type, so the annotation is read from the class itself.
    execute: Any = cls.execute
    where = f"class task {cls.__qualname__} ({location_of(cls)}): "
    checks.text(where + "name", cls.name)
    given = options_of(cls, Task, keywords, where)
    options = with_executor(cls.name, execute, TaskOptions(**given))
    run: Any
    if options.executor == "async":

        async def run_on_loop(task: Task, **injected: Any) -> Any:
            return await task.execute(**injected)

        run = run_on_loop
    else:

        def run_in_thread(task: Task, **injected: Any) -> Any:
            return task.execute(**injected)

        run = run_in_thread

    run.__annotations__ = {"task": cls}
    run.__module__ = cls.__module__
    run.__qualname__ = f"{cls.__qualname__}.execute"
    run.__wrapped__ = execute  # a child process finds it by module and name
    run.__signature__ = inspect.Signature([inspect.Parameter("task", inspect.Parameter.POSITIONAL_OR_KEYWORD)])
    markers = depends.markers_of_method(execute, cls.name, hints_of)
    return Definition(
        cls.name,
        run,
        options,
        signature=Signature(run, cls.name, result=return_hint(cls, execute, cls.name, _result_of(cls))),
        location=location_of(cls),
        takes_result=False,
        plan=dependency_plan.of_task(cls.name, markers, hints_of, options.executor),
    )


def _result_of(cls: type[Task]) -> Any:
    """The result that `class Refund(Task[Receipt])` names, for an `execute` without a return annotation."""
    for each in cls.__mro__:
        for base in vars(each).get("__orig_bases__", ()):
            if isinstance(base, types.GenericAlias) and base.__origin__ is Task:
                return base.__args__[0]
    return Any
