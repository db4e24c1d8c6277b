"""Task functions: they can be called directly, or enqueued."""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, Protocol, SupportsIndex, TypeVar, Unpack, cast

from taskfleet.errors import ConfigurationError
from taskfleet.handles import TaskHandle
from taskfleet.tasks import depends, other_queues
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.message import Message, PartialMessage
from taskfleet.tasks.options import CallOptions, TaskOptions

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
R_co = TypeVar("R_co", covariant=True)
Rest = ParamSpec("Rest")
First = TypeVar("First")
First_contra = TypeVar("First_contra", contravariant=True)


class Sender(Protocol):
    """The queue on which a task was defined, in its role of sending messages."""

    async def send(self, message: Message[R]) -> TaskHandle[R]: ...

    def send_sync(self, message: Message[R]) -> TaskHandle[R]: ...

    async def send_calls(
        self, task: Definition, options: TaskOptions, calls: Iterable[tuple[Any, ...]]
    ) -> Sequence[TaskHandle[Any]]: ...

    def send_calls_sync(
        self, task: Definition, options: TaskOptions, calls: Iterable[tuple[Any, ...]]
    ) -> Sequence[TaskHandle[Any]]: ...


class TakesFirst(Protocol[First_contra, Rest, R_co]):
    """A task with a first argument, as type checkers see it: they take the argument apart from the others."""

    def message(self, first: First_contra, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Message[R_co]: ...


class BoundTask(Generic[P, R]):
    """A task with options for its next calls."""

    def __init__(self, sender: Sender, definition: Definition, options: TaskOptions) -> None:
        self._sender = sender
        self._definition = definition
        self._options = options

    @property
    def name(self) -> str:
        return self._definition.name

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """The call, for `enqueue_many`."""
        return Message(self._definition, args, kwargs, self._options)

    def partial(self: TakesFirst[First, Rest, R], *args: Rest.args, **kwargs: Rest.kwargs) -> Message[R, First]:
        """The call without its first argument, which is the result of the task before it in a workflow.

        Errors: `ConfigurationError` when the task takes no argument that could be the result.
        """
        task = cast("BoundTask[..., R]", self)
        return _partial(task._definition, args, kwargs, task._options)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send the call; returns when Redis has it.

        Errors: `SerializationError` (names the parameter), `QueueFullError`, `BrokerConnectionError`.
        """
        return await self._sender.send(Message(self._definition, args, kwargs, self._options))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """`enqueue` for code without an event loop, from any thread; the same errors."""
        return self._sender.send_sync(Message(self._definition, args, kwargs, self._options))

    async def enqueue_many(self, calls: Iterable[tuple[Any, ...]]) -> Sequence[TaskHandle[R]]:
        """Send many calls in order, each given as the tuple of its arguments; returns when Redis has them.

        `await add.enqueue_many([(1, 2), (3, 4)])`. The handles have the order of the calls, and each is made when it is
        asked for. Arguments by name, and options that differ, need messages: `queue.enqueue_many`.
        Errors: those of `queue.enqueue_many`, which is all or nothing, too. `TypeError` names a call that is no tuple.
        """
        return await self._sender.send_calls(self._definition, self._options, calls)

    def enqueue_many_sync(self, calls: Iterable[tuple[Any, ...]]) -> Sequence[TaskHandle[R]]:
        """`enqueue_many` for code without an event loop, from any thread; the same errors."""
        return self._sender.send_calls_sync(self._definition, self._options, calls)


class TaskFunction(Generic[P, R, C]):
    """A function that can be called directly, or enqueued. `C` is the type that the direct call returns."""

    def __init__(self, sender: Sender, definition: Definition, function: Callable[P, C]) -> None:
        self._sender = sender
        self._function = function
        self.definition = definition
        definition.task_function = weakref.ref(self)
        functools.update_wrapper(cast("Any", self), function)

    @property
    def name(self) -> str:
        return self.definition.name

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> str:
        """It is pickled by module and name, as functions are."""
        module, qualname = self._function.__module__, self._function.__qualname__
        found: Any = sys.modules.get(module)
        for part in qualname.split("."):
            found = getattr(found, part, None)
        if found is not self:
            import pickle

            raise pickle.PicklingError(
                f"task {self.name!r} is pickled by module and name, and {module}:{qualname} is not this task; define "
                "it at the top of a module, under the name of its function"
            )
        return qualname

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        if self.definition.plan is not None:
            depends.check_plain_call(self._function, args, kwargs)
        return self._function(*args, **kwargs)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """The call, for `enqueue_many`."""
        definition = self.definition
        return Message(definition, args, kwargs, definition.options)

    def partial(self: TakesFirst[First, Rest, R], *args: Rest.args, **kwargs: Rest.kwargs) -> Message[R, First]:
        """The call without its first argument, which is the result of the task before it in a workflow.

        Errors: `ConfigurationError` when the task takes no argument that could be the result.
        """
        task = cast("TaskFunction[..., R, Any]", self)
        return _partial(task.definition, args, kwargs, task.definition.options)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send the call; returns when Redis has it.

        Errors: `SerializationError` (names the parameter), `QueueFullError`, `BrokerConnectionError`.
        """
        definition = self.definition
        return await self._sender.send(Message(definition, args, kwargs, definition.options))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """`enqueue` for code without an event loop, from any thread; the same errors."""
        definition = self.definition
        return self._sender.send_sync(Message(definition, args, kwargs, definition.options))

    async def enqueue_many(self, calls: Iterable[tuple[Any, ...]]) -> Sequence[TaskHandle[R]]:
        """Send many calls in order, each given as the tuple of its arguments; returns when Redis has them.

        `await add.enqueue_many([(1, 2), (3, 4)])`. The handles have the order of the calls, and each is made when it is
        asked for. Arguments by name, and options that differ, need messages: `queue.enqueue_many`.
        Errors: those of `queue.enqueue_many`, which is all or nothing, too. `TypeError` names a call that is no tuple.
        """
        return await self._sender.send_calls(self.definition, self.definition.options, calls)

    def enqueue_many_sync(self, calls: Iterable[tuple[Any, ...]]) -> Sequence[TaskHandle[R]]:
        """`enqueue_many` for code without an event loop, from any thread; the same errors."""
        return self._sender.send_calls_sync(self.definition, self.definition.options, calls)

    def options(self, **options: Unpack[CallOptions]) -> BoundTask[P, R]:
        """The same task with options of this call; `None` leaves an option to the task.

        Durations are seconds or timedeltas, up to 100 years; `eta` is a time with a zone.

        Args:
            unique_key: at most one task of this key waits or runs in its queue; `unique_mode` decides about a second.
            limit_key: shares the queue's `concurrency_per_key` and `rate_limit_per_key` with others of this key.
            fair_key: keys take turns, however many tasks each has.
            after: it waits until all of these have succeeded; when one fails, it is cancelled.
            wait_for_room: how long to wait while the queue is full, before `QueueFullError`.

        Errors: `ConfigurationError` names the option, its value and the expected form.
        """
        return BoundTask(self._sender, self.definition, self.definition.options.for_call(options))


for _task in (TaskFunction, BoundTask):
    other_queues.explain(_task)


def _partial(
    definition: Definition, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions
) -> PartialMessage[Any, Any]:
    if not definition.takes_result:
        name = definition.name
        raise ConfigurationError(
            f"task {name!r} takes no argument by position that could be a result; write {name}.message(…), which only "
            "waits for the task before it"
        )
    return PartialMessage(definition, args, dict(kwargs), options)
