"""Middleware: code around every enqueue and every run, for tracing, logging, metrics and headers.

The first middleware of the list is the outermost, in the producer and in the worker alike: its code before
`call_next()` runs first and its code after it last. Only overridden hooks are called, so the others cost nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from taskfleet import background, describing, showing
from taskfleet.context import TaskContext
from taskfleet.errors import ConfigurationError, TaskQueueError

if TYPE_CHECKING:
    from taskfleet.handles import TaskHandle
    from taskfleet.tasks.message import Message

logger = showing.logger("taskfleet.middleware")

HOOK_SECONDS = 30.0  # for a hook that reports a retry or a dead letter
SHUTDOWN_SECONDS = 10.0

SendNext = Callable[[], Awaitable[Sequence["TaskHandle[Any]"]]]
CallNext = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The worker that starts or stops. `concurrency` is its number of slots."""

    name: str
    queues: tuple[str, ...]
    concurrency: int


class Middleware:
    """Subclass it, override the hooks you need, and give an instance to `TaskQueue(middleware=[…])`.

    The effect of an exception in a hook:

    | hook | effect |
    | --- | --- |
    | `enqueue`, before the tasks are sent | no task is sent; it reaches the caller of `enqueue` |
    | `enqueue`, after they were sent | it is logged; the caller gets its handles |
    | `execute`, `execute_batch` | the task fails with it, and is retried by its options |
    | `on_retry`, `on_dead`, `shutdown` | it is logged; a hook that hangs is left after 30 s, `shutdown` after 10 s |
    | `startup` | the worker ends with it and has claimed nothing |
    """

    async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
        """Around the sending of `messages`: one for `enqueue`, all of them for `enqueue_many` and for a workflow.

        `message.headers` (text to text) travel to the worker. `await call_next()` sends, and returns the handles in the
        order of the messages, or that of a workflow's end; it must be awaited exactly once. To refuse the messages,
        raise.
        """
        await call_next()

    async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
        """Around one run of a task, inside its timeout. The hook's return value is the task's result.

        `await call_next()` makes the dependencies, runs the function and returns its result or raises its exception.
        A hook may run it again, or not at all. A cancellation passes through as `asyncio.CancelledError`.
        """
        return await call_next()

    async def execute_batch(self, tasks: Sequence[TaskContext], call_next: CallNext) -> Any:
        """Around one run of a batch task. The hook returns the list of outcomes, one for each of `tasks`."""
        return await call_next()

    async def on_retry(self, task: TaskContext, reason: str, error: str, delay: float) -> None:
        """The run failed and the worker has decided to run it again in `delay` seconds.

        `reason` is `exception`, `timeout` or `crashed`. Called beside the worker's loop: it holds no slot.
        """

    async def on_dead(self, task: TaskContext, reason: str, error: str) -> None:
        """The task becomes a dead letter: its retries are used up, or it could not be run.

        `reason` is that of the dead letter. Redis itself buries a task whose workers died `max_deliveries` times, so no
        hook is called for it. Called beside the worker's loop: it holds no slot.
        """

    async def startup(self, worker: WorkerContext) -> None:
        """A worker starts; it claims no task before this returns. Outermost first."""

    async def shutdown(self, worker: WorkerContext) -> None:
        """A worker has drained. Innermost first; only for middleware whose `startup` has returned."""


class OptionalMiddleware(Middleware):
    """A middleware of the library that is asked before its hooks whether a message or a run needs them.

    It is asked only while it is the only one with that hook: between others it keeps its place in the chain.
    """

    def headers_instead(self) -> Mapping[str, str] | None:
        """The headers with which one message goes without the `enqueue` hook; None: it needs the hook."""
        return None

    def runs_plain(self, headers: object) -> bool:
        """Whether a run goes without the `execute` hook. Called in the context of the run, which it may change."""
        return False


class Stack:
    """The middleware of one queue, and for each hook the middleware that overrides it."""

    def __init__(self, middleware: Sequence[Middleware]) -> None:
        self._all: list[Middleware] = []
        self._running = False
        self.enqueue: tuple[Middleware, ...] = ()
        self.execute: tuple[Middleware, ...] = ()
        self.execute_batch: tuple[Middleware, ...] = ()
        self.on_retry: tuple[Middleware, ...] = ()
        self.on_dead: tuple[Middleware, ...] = ()
        self._sender: OptionalMiddleware | None = None
        self._runner: OptionalMiddleware | None = None
        for one in middleware:
            self.add(one)

    @property
    def all(self) -> Sequence[Middleware]:
        """All of them, outermost first."""
        return self._all

    def add(self, middleware: Middleware, *, outermost: bool = False) -> None:
        """Add one innermost, or outermost.

        Errors: `ConfigurationError` when it is no middleware, or when a worker is running already.
        """
        if not isinstance(middleware, Middleware):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"middleware {middleware!r} is no instance of a subclass of taskfleet.Middleware")
        if self._running:
            raise ConfigurationError(
                f"middleware {type(middleware).__name__}: add it before the first worker of this queue starts"
            )
        self._all = [middleware, *self._all] if outermost else [*self._all, middleware]
        for hook in ("enqueue", "execute", "execute_batch", "on_retry", "on_dead"):
            if getattr(type(middleware), hook) is not getattr(Middleware, hook):
                before = getattr(self, hook)
                setattr(self, hook, (middleware, *before) if outermost else (*before, middleware))
        self._sender, self._runner = _optional(self.enqueue), _optional(self.execute)

    def headers_instead(self) -> Mapping[str, str] | None:
        """The headers with which one message goes without any hook; None: it goes through them."""
        return None if self._sender is None else self._sender.headers_instead()

    def runs_plain(self, headers: object) -> bool:
        """Whether a run goes without any hook."""
        return self._runner is not None and self._runner.runs_plain(headers)

    async def startup(self, worker: WorkerContext) -> list[Middleware]:
        """Start all. When one fails, those before it are shut down and its error is raised."""
        self._running = True
        started: list[Middleware] = []
        try:
            for one in self._all:
                await one.startup(worker)
                started.append(one)
        except BaseException:
            await self.shutdown(started, worker)
            raise
        return started

    async def shutdown(self, started: Sequence[Middleware], worker: WorkerContext) -> None:
        for one in reversed(started):
            await _notify(type(one).__name__ + ".shutdown", partial(one.shutdown, worker), SHUTDOWN_SECONDS)

    async def around_enqueue(self, messages: Sequence[Message[Any]], send: SendNext) -> Sequence[TaskHandle[Any]]:
        """Send through all `enqueue` hooks. Returns the handles."""
        handles: Sequence[TaskHandle[Any]] | None = None

        async def send_once() -> Sequence[TaskHandle[Any]]:
            nonlocal handles
            if handles is not None:
                raise TaskQueueError("a middleware called call_next() twice in its enqueue hook; call it once")
            handles = await send()
            return handles

        def layer(one: Middleware, inner: SendNext) -> SendNext:
            async def outer() -> Sequence[TaskHandle[Any]]:
                await one.enqueue(messages, inner)
                if handles is None:
                    raise TaskQueueError(
                        f"middleware {type(one).__name__}: its enqueue hook returned without call_next(), so nothing "
                        "was sent; await call_next(), or raise to refuse"
                    )
                return handles

            return outer

        chain: SendNext = send_once
        for one in reversed(self.enqueue):
            chain = layer(one, chain)
        try:
            await chain()
        except Exception:
            if handles is None:
                raise
            # The tasks are in Redis already: an error would make the caller send them again.
            logger.exception("a middleware failed after its tasks had been sent")
        assert handles is not None
        return handles

    def around_execute(self, task: TaskContext, inner: CallNext) -> CallNext:
        """`inner` inside all `execute` hooks."""
        for one in reversed(self.execute):
            inner = _layer(one.execute, task, inner)
        return inner

    def around_batch(self, tasks: Sequence[TaskContext], inner: CallNext) -> CallNext:
        """`inner` inside all `execute_batch` hooks."""
        for one in reversed(self.execute_batch):
            inner = _layer(one.execute_batch, tasks, inner)
        return inner

    async def tell_retry(self, task: TaskContext, reason: str, error: str, delay: float) -> None:
        for one in self.on_retry:
            await _notify(type(one).__name__ + ".on_retry", partial(one.on_retry, task, reason, error, delay))

    async def tell_dead(self, task: TaskContext, reason: str, error: str) -> None:
        for one in self.on_dead:
            await _notify(type(one).__name__ + ".on_dead", partial(one.on_dead, task, reason, error))


def _optional(hooks: Sequence[Middleware]) -> OptionalMiddleware | None:
    return hooks[0] if len(hooks) == 1 and isinstance(hooks[0], OptionalMiddleware) else None


async def _notify(hook: str, call: Callable[[], Awaitable[None]], seconds: float = HOOK_SECONDS) -> None:
    """Call a hook that only gets information: its exceptions are logged, and it is cancelled when it hangs."""
    running = background.start(_run_hook(hook, call), context=contextvars.copy_context())
    try:
        _, late = await asyncio.wait([running], timeout=seconds)
    except asyncio.CancelledError:
        asyncio.Task.cancel(running)
        raise
    if late:
        logger.error("%s hangs: it has not returned in %g s and is left", hook, seconds)
        asyncio.Task.cancel(running)


async def _run_hook(hook: str, call: Callable[[], Awaitable[None]]) -> None:
    try:
        await call()
    except BaseException as error:
        # BaseException: a hook that calls sys.exit() must not end the worker.
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        logger.error("%s failed:\n%s", hook, describing.trace(error).rstrip())


def _layer(hook: Callable[[Any, CallNext], Awaitable[Any]], subject: Any, inner: CallNext) -> CallNext:
    return lambda: hook(subject, inner)
