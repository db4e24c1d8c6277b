"""Task functions, class tasks, and the registry that finds them by name."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast

from pydantic import BaseModel

from taskfleet import checks, dependencies, ids
from taskfleet.errors import ConfigurationError, PayloadTooLargeError, SerializationError
from taskfleet.namespace import CLASS_TASKS
from taskfleet.options import TASK_CHECKS, CallOptions, KeyFunction, SetByCall, TaskOptions
from taskfleet.protocol import envelope, outcome
from taskfleet.protocol.broker import Item
from taskfleet.retry import delay_ms
from taskfleet.signature import Signature, hints_of
from taskfleet.travel.hints import return_hint

if TYPE_CHECKING:
    from taskfleet.batches import BatchOptions
    from taskfleet.dependencies import Plan
    from taskfleet.handles import TaskHandle
    from taskfleet.origin import Origin
    from taskfleet.protocol.sealing import Seal

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


# `dict` itself: calling the alias dict[str, str] takes ten times as long, for every message.
_new_dict: Callable[[], dict[str, str]] = dict


@dataclass(slots=True)
class Message(Generic[R]):
    """A call that can be enqueued: which task, its encoded arguments, and what the call sets for itself.

    Encoding happens when the message is sent, so that `enqueue_many` can report all bad ones at once.
    """

    task: Definition
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: CallOptions
    headers: dict[str, str] = field(default_factory=_new_dict)  # what middleware gives along

    @property
    def queue(self) -> str:
        return self.options.queue or self.task.options.queue

    @property
    def unique_key(self) -> str | None:
        return self._key("unique_key", self.options.unique_key or self.task.options.unique_key)

    @property
    def spread_key(self) -> str | None:
        """What keeps tasks in one partition: they share a lock, a limit or a turn."""
        task, options = self.task.options, self.options
        return (
            self.unique_key
            or self._key("limit_key", options.limit_key or task.limit_key)
            or self._key("fair_key", options.fair_key or task.fair_key)
        )

    @property
    def takes_result(self) -> bool:
        """Whether it has a first argument for the result of the task before it."""
        return self.task.takes_result

    def encode(
        self,
        max_payload_bytes: int,
        seal: Seal | None = None,
        *,
        task_id: str | None = None,
        behind_result: bool = False,
        more_settings: dict[str, Any] | None = None,
        clock: Callable[[str], float] | None = None,
    ) -> Item:
        """The item for `Broker.enqueue`; `SerializationError` names the parameter.

        `behind_result`: the first argument is the result of another task and comes when that ends. `clock`: the time
        in ms where a queue lives; what it raises passes through.
        """
        signature = self.task.signature
        args, kwargs = signature.dump(self.args, self.kwargs, behind_result=behind_result)
        options, defaults = self.options, self.task.options
        plain = options is NO_OPTIONS and not self.task.has_call_defaults
        settings = {} if plain else self._settings(clock)
        if more_settings:
            settings |= more_settings
        if self.headers:
            settings["h"] = _checked_headers(self.task.name, self.headers)
        try:
            version = signature.version_for(args, kwargs) if signature.may_be_typed else envelope.VERSION
            blob = envelope.encode(self.task.name, args, kwargs, settings, version)
        except (TypeError, ValueError, OverflowError) as error:
            raise signature.blame(args, kwargs, error, behind_result=behind_result) from None
        if task_id is None:
            task_id = ids.new_id()
        if seal is not None:
            blob = seal.close("task", self.queue, task_id, blob)
        if len(blob) > max_payload_bytes:
            raise PayloadTooLargeError(
                f"task {self.task.name!r}: {len(blob)} bytes are more than max_payload_bytes={max_payload_bytes}; "
                "store the data elsewhere and pass its address"
            )
        if plain:
            return task_id, blob, 0, 0
        eta = math.ceil(options.eta * 1000) if options.eta else 0
        delay = options.delay or (defaults.delay if not eta else 0.0)
        more = self._more()
        if more:
            return task_id, blob, delay_ms(delay), eta, more
        return task_id, blob, delay_ms(delay), eta

    def _settings(self, clock: Callable[[str], float] | None) -> dict[str, Any]:
        """What the call sets for itself: protocol/envelope.py."""
        options = self.options
        settings: dict[str, Any] = {}
        if options.max_retries is not None:
            settings["r"] = options.max_retries
        if options.timeout is not None:
            settings["t"] = options.timeout
        if options.result_ttl is not None:
            settings["k"] = options.result_ttl
        expires = self.task.options.expires if options.expires is None else options.expires
        if expires is not None:
            now = clock(self.queue) / 1000 if clock is not None else time.time()
            settings["x"] = now + expires
        if options.retry is not None:
            settings["b"] = options.retry.packed()
        if options.max_age is not None:
            settings["a"] = options.max_age
        return settings

    def _more(self) -> dict[str, Any]:
        """What lua/enqueue.lua calls `more`."""
        options, defaults = self.options, self.task.options
        more: dict[str, Any] = {}
        if unique := self.unique_key:
            mode = options.unique_mode or defaults.unique_mode
            more |= {"u": unique, "m": mode[0]}
            if mode != "keep_existing":
                record = outcome.pack_end(outcome.CANCELLED, "replaced by a newer task of the same unique key")
                more |= {"r": record, "t": outcome.CANCELLED_TTL_MS}
        if limit := self._key("limit_key", options.limit_key or defaults.limit_key):
            more["l"] = limit
        if fair := self._key("fair_key", options.fair_key or defaults.fair_key):
            more["f"] = fair
        return more

    def _key(self, option: str, key: str | KeyFunction | None) -> str | None:
        if key is None or isinstance(key, str):
            return key
        where = f"task {self.task.name!r}, {option}: "
        try:
            made: object = key(*self.args, **self.kwargs)
        except Exception as error:
            raise SerializationError(
                f"{where}its key function failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error
        if inspect.iscoroutine(made):
            made.close()
        return checks.key(f"{where}what its key function returned", made)


NO_OPTIONS = CallOptions()
_call_options = checks.instance(CallOptions, "CallOptions(delay=…)")


def _checked_headers(task: str, headers: dict[str, str]) -> dict[str, str]:
    for key, value in headers.items():
        if type(key) is not str or type(value) is not str:
            raise SerializationError(
                f"task {task!r}, header {key!r}: {checks.shown(value)} is no text; headers are text to text"
            )
        if not (checks.is_utf8(key) and checks.is_utf8(value)):
            raise SerializationError(f"task {task!r}, header {key!r}: {checks.shown(value)} is not valid Unicode")
    return headers


class Sender(Protocol):
    """Where a task function sends its messages: the queue that it was defined on."""

    async def send(self, message: Message[R]) -> TaskHandle[R]: ...

    def send_sync(self, message: Message[R]) -> TaskHandle[R]: ...


class Definition:
    """One task as the worker knows it: a name, a function, its signature and options."""

    __slots__ = (
        "batch",
        "function",
        "has_call_defaults",
        "made",
        "name",
        "options",
        "origin",
        "plan",
        "signature",
        "takes_result",
        "where",
    )

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        options: TaskOptions,
        *,
        signature: Signature,
        where: str,
        takes_result: bool | None = None,
        plan: Plan | None = None,
        batch: BatchOptions | None = None,
    ) -> None:
        self.plan = plan  # of its dependencies, if it has any
        self.batch = batch  # for a batch task
        self.name = name
        self.function = function
        self.options = options
        self.signature = signature
        self.where = where
        self.origin: Origin | None = None  # set by the first registry that it is added to
        self.made: weakref.ref[Any] | None = None  # the task function that its author has
        # What a call takes over unless it sets it itself; most tasks have nothing of the kind.
        self.has_call_defaults = any(
            (options.delay, options.expires is not None, options.unique_key, options.limit_key, options.fair_key)
        )
        self.takes_result = signature.takes_first if takes_result is None else takes_result


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
        return Message(self._definition, args, kwargs, self._options)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send the call; returns when Redis has it.

        Errors: `SerializationError` (names the parameter), `QueueFullError`, `BrokerConnectionError`.
        """
        return await self._sender.send(Message(self._definition, args, kwargs, self._options))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """`enqueue` for code without an event loop, from any thread; the same errors."""
        return self._sender.send_sync(Message(self._definition, args, kwargs, self._options))


class TaskFunction(Generic[P, R, C]):
    """A function that can be called here, or enqueued. `C` is what the plain call returns."""

    def __init__(self, sender: Sender, definition: Definition, function: Callable[P, C]) -> None:
        self._sender = sender
        self._function = function
        self.definition = definition
        definition.made = weakref.ref(self)
        functools.update_wrapper(cast("Any", self), function)

    @property
    def name(self) -> str:
        return self.definition.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        if self.definition.plan is not None:
            dependencies.check_plain_call(self._function, args, kwargs)
        return self._function(*args, **kwargs)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """The call, for `enqueue_many`."""
        return Message(self.definition, args, kwargs, NO_OPTIONS)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send the call; returns when Redis has it.

        Errors: `SerializationError` (names the parameter), `QueueFullError`, `BrokerConnectionError`.
        """
        return await self._sender.send(Message(self.definition, args, kwargs, NO_OPTIONS))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """`enqueue` for code without an event loop, from any thread; the same errors."""
        return self._sender.send_sync(Message(self.definition, args, kwargs, NO_OPTIONS))

    def options(self, **options: Unpack[SetByCall]) -> BoundTask[P, R]:
        """The same task with options of this call: `queue, delay, eta, expires, max_retries, timeout, result_ttl,
        retry, max_age, unique_key, unique_mode, limit_key, fair_key, after, wait_for_room`.

        Durations are seconds or timedeltas, up to 100 years; `eta` is a time with a zone.

        Args:
            unique_key: at most one task of this key waits or runs in its queue; `unique_mode` says what a second does.
            limit_key: shares the queue's `concurrency_per_key` and `rate_limit_per_key` with others of this key.
            fair_key: keys take turns, however many tasks each has.
            after: it waits until all of these have succeeded; when one fails, it is cancelled.
            wait_for_room: how long to wait while the queue is full, before `QueueFullError`.

        Errors: `ConfigurationError` names the option, its value and what is expected.
        """
        return BoundTask(self._sender, self.definition, CallOptions.of(options))


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

    def message(self, options: CallOptions = NO_OPTIONS) -> Message[Any]:
        """This task as a message, for `enqueue_many`. Errors: `ConfigurationError` names the option."""
        if options is not NO_OPTIONS:
            options = _call_options("options", options).settled()
        return Message(CLASS_TASKS.get(type(self).name), (self,), {}, options)


def _definition_of(cls: type[Task]) -> Definition:
    # `execute` is overridden with every possible return type, so its hint is read from the class itself.
    execute = cls.execute
    _check_runs(cls.name, f"{cls.__qualname__}.execute", execute)
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
    where = f"class task {cls.__qualname__} ({place_of(cls)}): "
    for option in ("max_retries", "timeout_seconds"):
        field_of = cls.model_fields.get(option)
        if field_of is not None and not field_of.is_required():
            raise ConfigurationError(
                f"{where}{option} has an annotation, which makes it a field of the task's data; "
                f"write {option} = {checks.shown(field_of.default)}, or give the field another name"
            )
    checks.text(where + "name", cls.name)
    options = TaskOptions(
        max_retries=TASK_CHECKS["max_retries"](where + "max_retries", cls.max_retries),
        timeout=TASK_CHECKS["timeout"](where + "timeout_seconds", cls.timeout_seconds),
        executor="thread" if threaded else "async",
    )
    markers = dependencies.markers_of_method(execute, cls.name, hints_of)
    return Definition(
        cls.name,
        run,
        options,
        signature=Signature(run, cls.name, result=return_hint(cls, execute, cls.name)),
        where=place_of(cls),
        takes_result=False,
        plan=dependencies.plan(cls.name, markers, hints_of, threaded=threaded) if markers else None,
    )


def define(name: str, function: Callable[..., Any], options: TaskOptions) -> Definition:
    """The definition of a function task; errors name the function."""
    options = with_executor(name, function, options)
    signature = Signature(function, name)
    plan = None
    if signature.injected:
        if options.executor == "process":
            raise ConfigurationError(
                f"task {name!r}: executor='process' goes with no dependencies, which live in the worker's process; "
                "make what the function needs inside it"
            )
        plan = dependencies.plan(name, signature.injected, hints_of, threaded=options.executor == "thread")
    return Definition(name, function, options, signature=signature, where=place_of(function), plan=plan)


def with_executor(name: str, function: Callable[..., Any], options: TaskOptions) -> TaskOptions:
    """`options` with the executor that the function can run in; errors name the task."""
    if isinstance(function, (staticmethod, classmethod)) or not callable(function):
        raise ConfigurationError(f"task {name!r}: decorate a plain function")
    if isinstance(function, type):
        raise ConfigurationError(
            f"task {name!r}: {function.__qualname__} is a class; derive it from taskfleet.Task, or decorate a function"
        )
    if not isinstance(getattr(function, "__qualname__", None), str):
        raise ConfigurationError(
            f"task {name!r}: {type(function).__name__} is no function, though it can be called; decorate one that is "
            "defined with def or async def and calls it"
        )
    _check_runs(name, function.__qualname__, function)
    is_async = inspect.iscoroutinefunction(function)
    executor = options.executor
    if executor == "async" and not is_async:
        return dataclasses.replace(options, executor="thread")
    if executor != "async" and is_async:
        raise ConfigurationError(f"task {name!r} is async: it runs on the loop, not with executor={executor!r}")
    if executor == "process" and "<" in function.__qualname__:
        raise ConfigurationError(
            f"task {name!r} ({place_of(function)}): with executor='process' another process finds the function by "
            f"module and name, which {function.__qualname__!r} has not; define it with def at the top of a module"
        )
    return options


def _check_runs(name: str, label: str, function: Callable[..., Any]) -> None:
    """Errors for a function whose call only makes a generator, of which nothing would run."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"task {name!r}: {label} is a generator, for it has a yield: a call runs nothing of it; collect what it "
            "gives and return that"
        )


AsyncFunction = Callable[P, Coroutine[Any, Any, R]] | Callable[P, Awaitable[R]]
