"""Between a call such as `task.enqueue(…)` and the producer: the application's middleware, and the loop of the call."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, cast

from taskfleet import sync
from taskfleet.application import Application
from taskfleet.handles import GroupHandle, TaskHandle
from taskfleet.session import Sessions
from taskfleet.tasks.message import Message
from taskfleet.workflows import WorkflowPlan, compile_workflow

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
        return await self._send(message)

    def send_sync(self, message: Message[R]) -> TaskHandle[R]:
        """`send` for code without an event loop."""
        instead = f"await {message.task.name}.enqueue(…)"
        return sync.run(functools.partial(self.send, message), instead=instead, sends=True)

    async def _send(self, message: Message[R]) -> TaskHandle[R]:
        producer = self._sessions.current().producer
        if message.options.after:
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


def _with_headers(message: Message[R], headers: Mapping[str, str] = NO_HEADERS) -> Message[R]:
    """A copy, with more headers, which middleware may change: the caller may send the same message again."""
    # Not `dataclasses.replace`, which takes five times as long.
    return type(message)(message.task, message.args, message.kwargs, message.options, {**message.headers, **headers})
