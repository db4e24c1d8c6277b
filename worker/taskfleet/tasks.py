"""Task functions, class tasks, and the registry that finds them by name."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar, cast

from pydantic import BaseModel

from taskfleet import ids, queue_names
from taskfleet.engine import envelope
from taskfleet.errors import ConfigurationError, PayloadTooLargeError, SerializationError, TaskNotFoundError
from taskfleet.options import CallOptions, TaskOptions
from taskfleet.signature import Signature

if TYPE_CHECKING:
    from taskfleet.handles import TaskHandle

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


@dataclass(slots=True)
class Message(Generic[R]):
    """A call that can be enqueued: which task, its encoded arguments, and what the call sets for itself.

    Encoding happens when the message is sent, so that `enqueue_many` can report all bad ones at once.
    """

    task: Definition
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: CallOptions

    @property
    def queue(self) -> str:
        return self.options.queue or self.task.options.queue

    def encode(self, max_payload_bytes: int) -> tuple[str, bytes, int, int]:
        """(id, envelope, delay_ms, eta_ms); `SerializationError` names the parameter."""
        signature = self.task.signature
        args, kwargs = signature.dump(self.args, self.kwargs)
        options = self.options
        try:
            blob = envelope.encode(
                self.task.name, args, kwargs, _settings(options) if options is not NO_OPTIONS else {}
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise signature.blame(args, kwargs, error) from None
        if len(blob) > max_payload_bytes:
            raise PayloadTooLargeError(
                f"task {self.task.name!r}: {len(blob)} bytes are more than max_payload_bytes={max_payload_bytes}; "
                "store the data elsewhere and pass its address"
            )
        eta = int(options.eta * 1000) if options.eta else 0
        return ids.new_id(), blob, int(options.delay * 1000), eta


NO_OPTIONS = CallOptions()


def _settings(options: CallOptions) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if options.max_retries is not None:
        settings["r"] = options.max_retries
    if options.timeout is not None:
        settings["t"] = options.timeout
    if options.result_ttl is not None:
        settings["k"] = options.result_ttl
    if options.expires is not None:
        settings["x"] = time.time() + options.expires
    return settings


class Sender(Protocol):
    """Where a task function sends its messages: the queue that it was defined on."""

    async def send(self, message: Message[R]) -> TaskHandle[R]: ...


class Definition:
    """One task as the worker knows it: a name, a function, its signature and options."""

    __slots__ = ("function", "name", "options", "signature", "where")

    def __init__(
        self, name: str, function: Callable[..., Any], options: TaskOptions, *, signature: Signature, where: str
    ) -> None:
        self.name = name
        self.function = function
        self.options = options
        self.signature = signature
        self.where = where


class Registry:
    """Task definitions by name; two of one name are an error that names both places."""

    def __init__(self) -> None:
        self._definitions: dict[str, Definition] = {}

    def add(self, definition: Definition) -> None:
        other = self._definitions.get(definition.name)
        if other is not None and other.where != definition.where:
            raise ConfigurationError(
                f"two tasks are named {definition.name!r}: {other.where} and {definition.where}; give one another name"
            )
        self._definitions[definition.name] = definition

    def find(self, name: str) -> Definition | None:
        return self._definitions.get(name)

    def get(self, name: str) -> Definition:
        definition = self._definitions.get(name)
        if definition is None:
            known = ", ".join(sorted(self._definitions)) or "none"
            raise TaskNotFoundError(f"no task is named {name!r}; known: {known}")
        return definition

    def __iter__(self) -> Iterator[Definition]:
        return iter(self._definitions.values())

    def __len__(self) -> int:
        return len(self._definitions)


def place_of(thing: Any) -> str:
    """file:line of a function or class."""
    try:
        _, line = inspect.getsourcelines(thing)
        return f"{inspect.getsourcefile(thing)}:{line}"
    except (OSError, TypeError):
        return f"{thing.__module__}.{thing.__qualname__}"


class BoundTask(Generic[P, R]):
    """A task with options for the calls made through it."""

    def __init__(self, sender: Sender, definition: Definition, options: CallOptions) -> None:
        self._sender = sender
        self._definition = definition
        self._options = options

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """The call, for `enqueue_many`."""
        return Message(self._definition, args, dict(kwargs), self._options)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send the call; returns when Redis has it.

        Errors: `SerializationError` (names the parameter), `QueueFullError`, `BrokerConnectionError`.
        """
        return await self._sender.send(Message(self._definition, args, kwargs, self._options))


class TaskFunction(Generic[P, R, C]):
    """A function that can be called here, or enqueued. `C` is what the plain call returns."""

    def __init__(self, sender: Sender, definition: Definition, function: Callable[P, C]) -> None:
        self._sender = sender
        self._function = function
        self.definition = definition
        functools.update_wrapper(cast("Any", self), function)

    @property
    def name(self) -> str:
        return self.definition.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        return self._function(*args, **kwargs)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """The call, for `enqueue_many`."""
        return Message(self.definition, args, dict(kwargs), NO_OPTIONS)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send the call; returns when Redis has it.

        Errors: `SerializationError` (names the parameter), `QueueFullError`, `BrokerConnectionError`.
        """
        return await self._sender.send(Message(self.definition, args, kwargs, NO_OPTIONS))

    def options(
        self,
        *,
        queue: str | None = None,
        delay: float | timedelta = 0.0,
        eta: datetime | None = None,
        expires: float | timedelta | None = None,
        max_retries: int | None = None,
        timeout: float | None = None,
        result_ttl: float | None = None,
    ) -> BoundTask[P, R]:
        """The same task with options of this call. Durations in seconds; `eta` is a time with a zone."""
        options = call_options(
            queue=queue,
            delay=delay,
            eta=eta,
            expires=expires,
            max_retries=max_retries,
            timeout=timeout,
            result_ttl=result_ttl,
        )
        return BoundTask(self._sender, self.definition, options)


def call_options(
    *,
    queue: str | None = None,
    delay: float | timedelta = 0.0,
    eta: datetime | None = None,
    expires: float | timedelta | None = None,
    max_retries: int | None = None,
    timeout: float | None = None,
    result_ttl: float | None = None,
) -> CallOptions:
    """Check and normalise what a call sets; `ConfigurationError` names the option."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if seconds < 0:
        raise ConfigurationError(f"delay={delay!r} is negative")
    if eta is not None and eta.tzinfo is None:
        raise ConfigurationError(f"eta={eta!r} has no time zone; use an aware datetime")
    if max_retries is not None and max_retries < 0:
        raise ConfigurationError(f"max_retries={max_retries} is negative")
    if timeout is not None and timeout <= 0:
        raise ConfigurationError(f"timeout={timeout!r} must be positive")
    return CallOptions(
        queue=queue_names.validate(queue) if queue is not None else None,
        delay=seconds,
        eta=eta.timestamp() if eta is not None else None,
        expires=expires.total_seconds() if isinstance(expires, timedelta) else expires,
        max_retries=max_retries,
        timeout=timeout,
        result_ttl=result_ttl,
    )


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
        CLASS_TASKS.add(_definition_of(cls))

    def message(self, options: CallOptions = NO_OPTIONS) -> Message[Any]:
        """This task as a message, for `enqueue_many`."""
        return Message(CLASS_TASKS.get(type(self).name), (self,), {}, options)


# Class tasks belong to no queue object, so they share one registry that every worker looks into.
CLASS_TASKS = Registry()


def _definition_of(cls: type[Task]) -> Definition:
    # `execute` is overridden with every possible return type, so its hint is read from the class itself.
    execute = cls.execute

    async def run(task: Task) -> Any:
        return await task.execute()

    run.__annotations__ = {"task": cls, "return": inspect.get_annotations(execute).get("return", Any)}
    run.__qualname__ = f"{cls.__qualname__}.execute"
    if isinstance(run.__annotations__["return"], str):
        run.__annotations__["return"] = Any
    options = TaskOptions(max_retries=cls.max_retries, timeout=cls.timeout_seconds)
    return Definition(cls.name, run, options, signature=Signature(run, cls.name), where=place_of(cls))


def define(name: str, function: Callable[..., Any], options: TaskOptions) -> Definition:
    """The definition of a function task; errors name the function."""
    if isinstance(function, (staticmethod, classmethod)) or not callable(function):
        raise ConfigurationError(f"task {name!r}: decorate a plain function")
    is_async = inspect.iscoroutinefunction(function)
    if options.executor == "async" and not is_async:
        options = dataclasses.replace(options, executor="thread")
    elif options.executor == "thread" and is_async:
        raise ConfigurationError(f"task {name!r} is async: it runs on the loop, not with executor='thread'")
    try:
        signature = Signature(function, name)
    except SerializationError as error:
        raise ConfigurationError(str(error)) from None
    return Definition(name, function, options, signature=signature, where=place_of(function))


AsyncFunction = Callable[P, Coroutine[Any, Any, R]] | Callable[P, Awaitable[R]]
