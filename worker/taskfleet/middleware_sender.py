"""Between a call such as `task.enqueue(…)` and the producer: the application's middleware, and the loop of the call."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from taskfleet import checks, sync
from taskfleet.application import Application
from taskfleet.handles import GroupHandle, TaskHandle
from taskfleet.session import Sessions
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.message import Message
from taskfleet.tasks.options import TaskOptions

if TYPE_CHECKING:
    from taskfleet.workflows import WorkflowPlan

R = TypeVar("R")

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class MiddlewareSender:
    """Hands messages to the producer of the running loop, inside the middleware that wraps an enqueue."""

    def __init__(self, application: Application, sessions: Sessions) -> None:
        self._middleware = application.middleware
        self._sessions = sessions

    async def send(self, message: Message[R]) -> TaskHandle[R]:
        """Send one message. Messages of one turn of the event loop share a call to Redis."""
        if self._middleware.enqueue:
            headers = self._middleware.headers_instead()
            if headers is not None:
                return await self._send(_with_headers(message, headers) if headers else message)
            message = _with_headers(message)

            async def send() -> list[TaskHandle[R]]:
                return [await self._send(message)]

            return (await self._middleware.around_enqueue([message], send))[0]
        if message.options.after:
            return await self._send(message)
        return await self._sessions.current().producer.one(message)

    def send_sync(self, message: Message[R]) -> TaskHandle[R]:
        """`send` for code without an event loop."""
        instead = f"await {message.task.name}.enqueue(…)"
        return sync.run(functools.partial(self.send, message), instead=instead, sends=True)

    async def _send(self, message: Message[R]) -> TaskHandle[R]:
        producer = self._sessions.current().producer
        if message.options.after:
            from taskfleet.workflows import compile_workflow  # only here: most programs send no workflow

            return cast("TaskHandle[R]", await producer.workflow(compile_workflow(message)))
        return await producer.one(message)

    async def send_many(self, messages: Sequence[Message[R]], *, wait_for_room: float) -> list[TaskHandle[R]]:
        """Send messages in order; see `TaskQueue.enqueue_many`."""
        if self._middleware.enqueue:
            messages = [_with_headers(message) for message in messages]
            send = functools.partial(self._send_many, messages, wait_for_room)
            return list(await self._middleware.around_enqueue(messages, send))
        return await self._send_many(messages, wait_for_room)

    async def _send_many(self, messages: Sequence[Message[R]], wait_for_room: float) -> list[TaskHandle[R]]:
        return await self._sessions.current().producer.many(messages, wait_for_room=wait_for_room)

    async def send_calls(
        self, task: Definition, options: TaskOptions, calls: Iterable[tuple[Any, ...]]
    ) -> Sequence[TaskHandle[Any]]:
        """Send calls of one task in order; see `TaskFunction.enqueue_many`."""
        calls = argument_tuples(calls, f"{task.name}.enqueue_many")
        if not self._middleware.enqueue:
            handles = await self._sessions.current().producer.plain_calls(task, options, calls)
            if handles is not None:
                return handles
        messages = [Message[Any](task, args, {}, options) for args in calls]
        return await self.send_many(messages, wait_for_room=options.wait_for_room)

    def send_calls_sync(
        self, task: Definition, options: TaskOptions, calls: Iterable[tuple[Any, ...]]
    ) -> Sequence[TaskHandle[Any]]:
        """`send_calls` for code without an event loop."""
        call = functools.partial(self.send_calls, task, options, calls)
        return sync.run(call, instead=f"await {task.name}.enqueue_many(…)", sends=True)

    async def send_workflow(self, plan: WorkflowPlan) -> TaskHandle[Any] | GroupHandle:
        """Send a workflow; the handle stands for its end."""
        if not self._middleware.enqueue:
            return await self._sessions.current().producer.workflow(plan)
        for node in plan.nodes:
            node.message = _with_headers(node.message)
        end: TaskHandle[Any] | GroupHandle | None = None

        async def send() -> Sequence[TaskHandle[Any]]:
            nonlocal end
            end = await self._sessions.current().producer.workflow(plan)
            return end.handles if isinstance(end, GroupHandle) else [end]

        await self._middleware.around_enqueue([node.message for node in plan.nodes], send)
        assert end is not None
        return end


def argument_tuples(calls: object, call: str) -> Sequence[tuple[Any, ...]]:
    """The calls of a list or other iterable. Errors: `TypeError` names the position of a call that is no tuple."""
    if isinstance(calls, (str, bytes, Mapping)) or not isinstance(calls, Iterable):
        raise TypeError(f"{call}: {checks.a_thing(calls)} is no list of calls; write [(argument, …), …]")
    found = list(calls)
    if set(map(type, found)) - {tuple}:
        at, wrong = next((at, each) for at, each in enumerate(found) if type(each) is not tuple)
        raise TypeError(
            f"{call}: call {at}: {checks.a_thing(wrong)} is no tuple of arguments; write (argument,) for a single one"
        )
    return found


def _with_headers(message: Message[R], headers: Mapping[str, str] = NO_HEADERS) -> Message[R]:
    """A copy, with more headers, which middleware may change: the caller may send the same message again."""
    # Not `dataclasses.replace`, which takes five times as long.
    return type(message)(message.task, message.args, message.kwargs, message.options, {**message.headers, **headers})
