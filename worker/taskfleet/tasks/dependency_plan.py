"""The dependency plan of a task: how a worker makes its dependencies.

A plan is made when the task is defined, so that a dependency that cannot be made is an error at that moment and not in
production. It is a list of providers, each after the providers that it needs; a provider with several users is made
once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

from taskfleet.context import TaskContext
from taskfleet.errors import ConfigurationError
from taskfleet.tasks.depends import HintsOf, Marker, Scope, marker_of, name_of

Kind = Literal["value", "coroutine", "context", "async context"]


class DependencyNode:
    """One provider in a plan. Nodes of equal `key` give the same value."""

    __slots__ = ("children", "contexts", "factory", "in_thread", "key", "kind", "name", "scope")

    def __init__(
        self,
        provider: Callable[..., Any],
        scope: Scope,
        children: Mapping[str, DependencyNode],
        contexts: tuple[str, ...],
    ) -> None:
        self.name = name_of(provider)
        self.scope: Scope = scope
        self.children = dict(children)
        self.contexts = contexts
        self.factory, self.kind = _factory_of(provider)
        self.key: Any = (provider, scope, tuple((name, child.key) for name, child in children.items()))
        self.in_thread = False

    @property
    def needs_loop(self) -> bool:
        return self.scope == "worker" or self.kind in ("coroutine", "async context")


class DependencyPlan:
    """How to make the injected parameters of one task: its `nodes`, each after the nodes that it needs."""

    __slots__ = ("has_context", "markers", "nodes", "roots", "task", "threaded")

    def __init__(
        self,
        task: str,
        markers: Mapping[str, Marker],
        roots: dict[str, DependencyNode],
        nodes: list[DependencyNode],
        *,
        threaded: bool,
        has_context: bool,
    ) -> None:
        self.task = task
        self.markers = markers
        self.roots = roots
        self.nodes = nodes
        self.threaded = threaded
        self.has_context = has_context


class _Planner:
    def __init__(
        self,
        task: str,
        hints_of: HintsOf,
        overrides: Mapping[Any, Callable[..., Any]],
        has_context: bool,
    ) -> None:
        self._task = task
        self._hints_of = hints_of
        self._overrides = overrides
        self._has_context = has_context
        self._made: dict[tuple[Any, Scope], DependencyNode] = {}
        self._path: list[Callable[..., Any]] = []
        self.nodes: list[DependencyNode] = []

    def node(self, marker: Marker, parent_scope: Scope | None = None) -> DependencyNode:
        provider, scope = marker.provider, marker.scope
        try:
            provider = self._overrides.get(provider, provider)
        except TypeError:
            raise self._error(provider, "it cannot be hashed; use a function") from None
        if parent_scope == "worker" and scope == "task":
            raise self._error(
                provider,
                f"{name_of(self._path[-1])} lives as long as the worker and cannot need what is made for each task; "
                "give both the same scope",
            )
        if provider in self._path:
            circle = " → ".join(name_of(one) for one in [*self._path[self._path.index(provider) :], provider])
            raise self._error(provider, f"it needs itself: {circle}")
        if (known := self._made.get((provider, scope))) is not None:
            return known
        self._path.append(provider)
        children, contexts = self._parameters(provider, scope)
        self._path.pop()
        node = self._made[provider, scope] = DependencyNode(provider, scope, children, contexts)
        self.nodes.append(node)
        return node

    def _parameters(
        self, provider: Callable[..., Any], scope: Scope
    ) -> tuple[dict[str, DependencyNode], tuple[str, ...]]:
        try:
            parameters = inspect.signature(provider).parameters.values()
        except ValueError:
            return {}, ()  # written in C, without a signature: it is called without arguments
        target = _function_of(provider)
        hints = self._hints_of(inspect.unwrap(target)) if parameters else {}
        children: dict[str, DependencyNode] = {}
        contexts: list[str] = []
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            hint = hints.get(parameter.name, parameter.annotation)
            marker = marker_of(hint, parameter.default)
            if marker is not None and parameter.kind is not parameter.POSITIONAL_ONLY:
                children[parameter.name] = self.node(marker, scope)
            elif hint is TaskContext:
                if scope == "worker":
                    raise self._error(provider, "it lives as long as the worker and has no TaskContext")
                if not self._has_context:
                    raise self._error(provider, "a batch has no TaskContext; its items have one each (item.context)")
                contexts.append(parameter.name)
            elif parameter.default is parameter.empty:
                raise self._error(
                    provider,
                    f"nobody gives it {parameter.name!r}; mark that with Depends, annotate it TaskContext, "
                    "or give it a default",
                )
        return children, tuple(contexts)

    def _error(self, provider: Callable[..., Any], problem: str) -> ConfigurationError:
        return ConfigurationError(f"task {self._task!r}, dependency {name_of(provider)}: {problem}")


def of_task(task: str, markers: Mapping[str, Marker], hints_of: HintsOf, executor: str) -> DependencyPlan | None:
    """The plan of a task that runs alone, if it has marked parameters. Errors: `ConfigurationError` names the task."""
    if not markers:
        return None
    if executor == "process":
        raise ConfigurationError(
            f"task {task!r}: executor='process' goes with no dependencies, which live in the worker's process; "
            "make what the function needs inside it"
        )
    return plan(task, markers, hints_of, threaded=executor == "thread")


def plan(
    task: str,
    markers: Mapping[str, Marker],
    hints_of: HintsOf,
    *,
    threaded: bool = False,
    has_context: bool = True,
    overrides: Mapping[Any, Callable[..., Any]] | None = None,
) -> DependencyPlan:
    """The plan for a task's marked parameters. Errors: `ConfigurationError` names task and provider.

    A plain function runs in a thread, and so do the plain providers that only it needs: they may block, and objects
    that belong to one thread stay in it. All others are made on the loop before.
    """
    compiler = _Planner(task, hints_of, overrides or {}, has_context)
    roots = {name: compiler.node(marker) for name, marker in markers.items()}
    if threaded:
        on_loop: set[int] = set()
        for node in reversed(compiler.nodes):  # each before the nodes that it needs
            if node.needs_loop or id(node) in on_loop:
                on_loop.update(id(child) for child in node.children.values())
            else:
                node.in_thread = True
    return DependencyPlan(task, markers, roots, compiler.nodes, threaded=threaded, has_context=has_context)


def _function_of(provider: Callable[..., Any]) -> Any:
    """The function with the annotations of a provider, whose kind decides how the provider is called."""
    if isinstance(provider, type):
        return vars(provider).get("__init__", provider.__init__)  # type: ignore[misc]
    return provider if inspect.isroutine(provider) else type(provider).__call__


def _factory_of(provider: Callable[..., Any]) -> tuple[Callable[..., Any], Kind]:
    if isinstance(provider, type):
        if hasattr(provider, "__aenter__"):
            return provider, "async context"
        return provider, "context" if hasattr(provider, "__enter__") else "value"
    target = _function_of(provider)
    if inspect.isasyncgenfunction(target):
        return asynccontextmanager(provider), "async context"
    if inspect.isgeneratorfunction(target):
        return contextmanager(provider), "context"
    if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(provider):
        return provider, "coroutine"
    # contextlib's decorators return a plain function around a generator function.
    inner = inspect.unwrap(target)
    if inspect.isasyncgenfunction(inner):
        return provider, "async context"
    return provider, "context" if inspect.isgeneratorfunction(inner) else "value"
