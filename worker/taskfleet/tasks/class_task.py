"""Tasks as classes: a pydantic model with an `execute` method."""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar

from pydantic import BaseModel

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.tasks import dependency_plan, depends
from taskfleet.tasks.definition import Definition, check_runs, location_of
from taskfleet.tasks.message import Message
from taskfleet.tasks.namespace import CLASS_TASKS
from taskfleet.tasks.options import OF_CLASS, CallOptions, TaskOptions
from taskfleet.tasks.signature import Signature, hints_of
from taskfleet.travel.hints import return_hint

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Task(BaseModel):
    """A task as a class: its fields are the arguments, `execute` does the work.

    A subclass is registered when it is defined. `name` is the snake-case class name unless set.
    """

    name: ClassVar[str] = ""
    max_retries: ClassVar[int] = 3
    timeout_seconds: ClassVar[float | None] = 300.0

    async def execute(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no execute method")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = _WORD_START.sub("_", cls.__name__).lower()
        CLASS_TASKS.add(_definition_of(cls), thing=cls)

    def message(self, options: CallOptions | None = None) -> Message[Any]:
        """This task as a message, for `enqueue_many`. Errors: `ConfigurationError` names the option."""
        definition = CLASS_TASKS.get(type(self).name)
        if options is None:
            return Message(definition, (self,), {}, definition.options)
        # Callers without a type checker pass anything.
        if not isinstance(options, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"options={checks.shown(options)} is no dict; expected CallOptions(delay=…)")
        return Message(definition, (self,), {}, definition.options.for_call(options))


def _definition_of(cls: type[Task]) -> Definition:
    # Subclasses override `execute` with any return type, so the annotation is read from the class itself.
    execute = cls.execute
    check_runs(cls.name, f"{cls.__qualname__}.execute", execute)
    run: Any
    if inspect.iscoroutinefunction(execute):

        async def run_on_loop(task: Task, **injected: Any) -> Any:
            return await task.execute(**injected)

        run = run_on_loop
    else:

        def run_in_thread(task: Task, **injected: Any) -> Any:
            return task.execute(**injected)

        run = run_in_thread

    run.__annotations__ = {"task": cls}
    run.__qualname__ = f"{cls.__qualname__}.execute"
    run.__signature__ = inspect.Signature([inspect.Parameter("task", inspect.Parameter.POSITIONAL_OR_KEYWORD)])
    threaded = not inspect.iscoroutinefunction(run)
    where = f"class task {cls.__qualname__} ({location_of(cls)}): "
    for option in OF_CLASS:
        field_of = cls.model_fields.get(option)
        if field_of is not None and not field_of.is_required():
            raise ConfigurationError(
                f"{where}{option} has an annotation, which makes it a field of the task's data; "
                f"write {option} = {checks.shown(field_of.default)}, or give the field another name"
            )
    checks.text(where + "name", cls.name)
    own: dict[str, Any] = {
        option: rules.check(where + attribute, getattr(cls, attribute))
        for attribute, (option, rules) in OF_CLASS.items()
    }
    options = TaskOptions(executor="thread" if threaded else "async", **own)
    markers = depends.markers_of_method(execute, cls.name, hints_of)
    return Definition(
        cls.name,
        run,
        options,
        signature=Signature(run, cls.name, result=return_hint(cls, execute, cls.name)),
        location=location_of(cls),
        takes_result=False,
        plan=dependency_plan.plan(cls.name, markers, hints_of, threaded=threaded) if markers else None,
    )
