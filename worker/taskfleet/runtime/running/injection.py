"""Dependency injection: makes the dependencies of a task, runs it, and closes them afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from taskfleet import showing
from taskfleet.context import TaskContext
from taskfleet.runtime.state.run_context import RunContext

if TYPE_CHECKING:
    from taskfleet.tasks.dependency_plan import DependencyNode, DependencyPlan

logger = showing.logger("taskfleet.worker")

R = TypeVar("R")
Values = dict[Any, Any]  # node key → the value that its provider gave
MakeContext = Callable[[], TaskContext]

_CLOSE_SECONDS = 5.0  # how long one worker-scoped resource may take to close


class WorkerScope:
    """The resources that live as long as their worker. They are made when first needed and closed in reverse order."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._held: dict[Any, _Resource] = {}
        self._ready: list[_Resource] = []

    async def get(self, node: DependencyNode) -> Any:
        """The shared value of that node. Tasks that ask for it while it is being made wait.

        When making it fails, the waiting tasks fail, and the next task tries again.
        """
        held = self._held.get(node.key)
        if held is None:
            held = self._held[node.key] = _Resource(node)
            # Not in the context of the task that asks first.
            held.task = self._context.spawn(self._hold(held))
        if held.value.done():
            return held.value.result()
        # Shielded: a task that is cancelled while it waits must not take the value from the others.
        return await asyncio.shield(held.value)

    async def _hold(self, held: _Resource) -> None:
        # One task enters and exits the resource, as cancel scopes and context variables need.
        node = held.node
        try:
            given = {name: await self.get(child) for name, child in node.children.items()}
            async with AsyncExitStack() as stack:
                value = await _make_on_loop(node, given, stack)
                self._ready.append(held)
                held.value.set_result(value)
                await held.closing.wait()
        except BaseException as error:
            if not held.value.done():
                self._held.pop(node.key, None)
                if isinstance(error, asyncio.CancelledError):
                    held.value.cancel()
                    raise
                held.value.set_exception(error)
                held.value.exception()  # retrieved, in case no task awaits it any more
            else:
                logger.exception("closing dependency %s failed", node.name)

    async def close(self) -> None:
        """Close everything, last made first; errors are logged."""
        unfinished = [held.task for held in self._held.values() if held.task and not held.value.done()]
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=_CLOSE_SECONDS)
        while self._ready:
            held = self._ready.pop()
            held.closing.set()
            assert held.task is not None
            _, pending = await asyncio.wait([held.task], timeout=_CLOSE_SECONDS)
            if pending:
                logger.warning("dependency %s did not close in %g s and is left", held.node.name, _CLOSE_SECONDS)
                held.task.cancel()
        self._held.clear()


class _Resource:
    __slots__ = ("closing", "node", "task", "value")

    def __init__(self, node: DependencyNode) -> None:
        self.node = node
        self.value: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.closing = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


async def call_with(
    plan: DependencyPlan, scope: WorkerScope, context: MakeContext | None, call: Callable[[Values], Awaitable[R]]
) -> R:
    """Make the dependencies that the plan makes on the loop, await `call` with them, and close them.

    The generators get the exception of the call, a cancellation included. A generator that swallows the exception does
    not make the task a success; a generator that fails while it closes fails the task.
    """
    values: Values = {}
    failure: BaseException | None = None
    stack: AsyncExitStack[bool] = AsyncExitStack()
    try:
        async with stack:
            try:
                for node in plan.nodes:
                    if node.scope == "worker":
                        values[node.key] = await scope.get(node)
                    elif not node.in_thread:
                        values[node.key] = await _make_on_loop(node, _given(node, values, context), stack)
                return await call(values)
            except BaseException as error:
                failure = error
                raise
        assert failure is not None  # a provider has swallowed the exception
        raise failure
    finally:
        failure = None  # its traceback holds this frame: only the garbage collector would free that cycle


def call_in_thread(
    plan: DependencyPlan,
    values: Values,
    context: MakeContext | None,
    function: Callable[..., R],
    args: list[Any],
    kwargs: dict[str, Any],
) -> R:
    """The remaining nodes of the plan, made and closed in the thread that runs the function."""
    failure: BaseException | None = None
    stack: ExitStack[bool] = ExitStack()
    try:
        with stack:
            try:
                for node in plan.nodes:
                    if node.in_thread:
                        made = node.factory(**_given(node, values, context))
                        values[node.key] = stack.enter_context(made) if node.kind == "context" else made
                return function(*args, **kwargs, **injected(plan, values))
            except BaseException as error:
                failure = error
                raise
        assert failure is not None  # a provider has swallowed the exception
        raise failure
    finally:
        failure = None


def injected(plan: DependencyPlan, values: Values) -> dict[str, Any]:
    """The keyword arguments for the task function."""
    return {name: values[node.key] for name, node in plan.roots.items()}


def _given(node: DependencyNode, values: Values, context: MakeContext | None) -> dict[str, Any]:
    given = {name: values[child.key] for name, child in node.children.items()}
    for name in node.contexts:
        assert context is not None
        given[name] = context()
    return given


async def _make_on_loop(node: DependencyNode, given: dict[str, Any], stack: AsyncExitStack[Any]) -> Any:
    made = node.factory(**given)
    if node.kind == "coroutine":
        return await made
    if node.kind == "async context":
        return await stack.enter_async_context(made)
    return stack.enter_context(made) if node.kind == "context" else made
