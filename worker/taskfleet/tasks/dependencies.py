"""What a task function is given by the worker in place of its caller: `Depends`, and the plan of how to make it.

A plan is made when the task is defined, so that whatever cannot be made is an error there and not at three in the
morning. It is a list of providers, each after those that it needs; a provider that several need is made once.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from taskfleet.context import TaskContext
from taskfleet.errors import ConfigurationError

T = TypeVar("T")
Scope = Literal["task", "worker"]
HintsOf = Callable[[Callable[..., Any]], dict[str, Any]]
Kind = Literal["value", "coroutine", "context", "async context"]


@dataclass(frozen=True, slots=True)
class Marker:
    """What `Depends` leaves in a signature."""

    provider: Callable[..., Any]
    scope: Scope

    def __repr__(self) -> str:
        return f"Depends({name_of(self.provider)})"


@overload
def Depends(provider: Callable[..., AbstractAsyncContextManager[T]], *, scope: Scope = "task") -> T: ...
@overload
def Depends(provider: Callable[..., AbstractContextManager[T]], *, scope: Scope = "task") -> T: ...
@overload
def Depends(provider: Callable[..., AsyncIterator[T]], *, scope: Scope = "task") -> T: ...
@overload
def Depends(provider: Callable[..., Iterator[T]], *, scope: Scope = "task") -> T: ...
@overload
def Depends(provider: Callable[..., Coroutine[Any, Any, T]], *, scope: Scope = "task") -> T: ...
@overload
def Depends(provider: Callable[..., T], *, scope: Scope = "task") -> T: ...
def Depends(provider: Callable[..., Any], *, scope: Scope = "task") -> Any:  # noqa: N802 - reads as the type it marks
    """Mark a parameter of a task that the worker fills with what `provider` gives.

    `db: Annotated[Session, Depends(get_db)]`, or `db: Session = Depends(get_db)`, which type checkers let callers leave
    out of `enqueue`. The parameter is no part of the payload.

    Args:
        provider: a function, async function, generator or async generator that yields once, context manager, or class.
            Its own parameters are marked in the same way, annotated `TaskContext`, or have defaults.
        scope: `task` makes it for each run and closes it after; `worker` makes it once in each worker, when it is first
            needed, and closes it when the worker ends.

    Errors: `ConfigurationError`, at once or when the task is defined.
    """
    if not callable(provider):
        raise ConfigurationError(f"Depends({provider!r}): a provider is something to call")
    if scope not in ("task", "worker"):
        raise ConfigurationError(f"Depends({name_of(provider)}): scope={scope!r} is neither 'task' nor 'worker'")
    return Marker(provider, scope)


def marker_of(hint: Any, default: Any) -> Marker | None:
    """The `Depends` of a parameter, if it has one."""
    if isinstance(default, Marker):
        return default
    if typing.get_origin(hint) is typing.Annotated:
        for extra in hint.__metadata__:
            if isinstance(extra, Marker):
                return extra
    return None


def name_of(provider: Callable[..., Any]) -> str:
    return getattr(provider, "__qualname__", None) or repr(provider)


class Node:
    """One provider in a plan. Two nodes of equal `key` give the same thing."""

    __slots__ = ("children", "contexts", "factory", "in_thread", "key", "kind", "name", "scope")

    def __init__(
        self, provider: Callable[..., Any], scope: Scope, children: Mapping[str, Node], contexts: tuple[str, ...]
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


class Plan:
    """How to make the injected parameters of one task: `nodes`, each after those that it needs."""

    __slots__ = ("has_context", "markers", "nodes", "roots", "task", "threaded")

    def __init__(
        self,
        task: str,
        markers: Mapping[str, Marker],
        roots: dict[str, Node],
        nodes: list[Node],
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


class _Compiler:
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
        self._made: dict[tuple[Any, Scope], Node] = {}
        self._path: list[Callable[..., Any]] = []
        self.nodes: list[Node] = []

    def node(self, marker: Marker, parent_scope: Scope | None = None) -> Node:
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
        node = self._made[provider, scope] = Node(provider, scope, children, contexts)
        self.nodes.append(node)
        return node

    def _parameters(self, provider: Callable[..., Any], scope: Scope) -> tuple[dict[str, Node], tuple[str, ...]]:
        try:
            parameters = inspect.signature(provider).parameters.values()
        except ValueError:
            return {}, ()  # written in C, and says nothing of its parameters: called without any
        target = _function_of(provider)
        hints = self._hints_of(inspect.unwrap(target)) if parameters else {}
        children: dict[str, Node] = {}
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


def plan(
    task: str,
    markers: Mapping[str, Marker],
    hints_of: HintsOf,
    *,
    threaded: bool = False,
    has_context: bool = True,
    overrides: Mapping[Any, Callable[..., Any]] | None = None,
) -> Plan:
    """The plan for a task's marked parameters; `ConfigurationError` names task and provider.

    A plain function runs in a thread, and so do the plain providers that only it needs: what blocks there blocks
    nobody else, and what belongs to one thread stays in it. Everything else is made on the loop before.
    """
    compiler = _Compiler(task, hints_of, overrides or {}, has_context)
    roots = {name: compiler.node(marker) for name, marker in markers.items()}
    if threaded:
        on_loop: set[int] = set()
        for node in reversed(compiler.nodes):  # each before those that it needs
            if node.needs_loop or id(node) in on_loop:
                on_loop.update(id(child) for child in node.children.values())
            else:
                node.in_thread = True
    return Plan(task, markers, roots, compiler.nodes, threaded=threaded, has_context=has_context)


def set_apart(task: str, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]) -> dict[str, Marker]:
    """The marked parameters of a task function; `ConfigurationError` for one that cannot be passed by name."""
    markers: dict[str, Marker] = {}
    for parameter in parameters:
        marker = marker_of(hints.get(parameter.name), parameter.default)
        if marker is not None:
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise ConfigurationError(
                    f"task {task!r}: the injected parameter {parameter.name!r} cannot be passed by name; "
                    "make it an ordinary one"
                )
            markers[parameter.name] = marker
        elif markers and parameter.kind is parameter.VAR_POSITIONAL:
            raise ConfigurationError(
                f"task {task!r}: the injected parameter {next(iter(markers))!r} stands before *{parameter.name}; "
                "put it after"
            )
    return markers


def markers_of_method(method: Callable[..., Any], task: str, hints_of: HintsOf) -> dict[str, Marker]:
    """The marked parameters of a class task's `execute`, which has no others."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    hints = hints_of(method) if parameters else {}
    markers: dict[str, Marker] = {}
    for parameter in parameters:
        marker = marker_of(hints.get(parameter.name), parameter.default)
        if marker is not None:
            markers[parameter.name] = marker
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            raise ConfigurationError(
                f"task {task!r}: nobody gives execute() its parameter {parameter.name!r}; make it a field, or mark it "
                "with Depends"
            )
    return markers


def check_plain_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """A plain call injects nothing: `TypeError` when it leaves out what has only `Depends` for a default."""
    signature = inspect.signature(function)
    given = signature.bind_partial(*args, **kwargs).arguments
    for parameter in signature.parameters.values():
        if isinstance(parameter.default, Marker) and parameter.name not in given:
            raise TypeError(f"{name_of(function)}() needs {parameter.name!r}: a plain call injects nothing, so pass it")


def _function_of(provider: Callable[..., Any]) -> Any:
    """Where the annotations and the kind of a provider are read from."""
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
    # What contextlib's decorators return is a plain function around a generator function.
    inner = inspect.unwrap(target)
    if inspect.isasyncgenfunction(inner):
        return provider, "async context"
    return provider, "context" if inspect.isgeneratorfunction(inner) else "value"


class Overrides:
    """Providers that stand in for others for a while, and the plans that this makes."""

    def __init__(self) -> None:
        self._replacements: dict[Any, Callable[..., Any]] = {}
        self._plans: dict[Plan, Plan] = {}

    def plan_of(self, plan: Plan) -> Plan:
        """`plan`, or what it has become."""
        return self._plans.get(plan, plan)

    @contextmanager
    def replaced(
        self, provider: Callable[..., Any], replacement: Callable[..., Any], plans: Iterable[Plan], hints_of: HintsOf
    ) -> Generator[None]:
        """Use `replacement` for `provider` in `plans`; nested uses add up."""
        before = self._replacements, self._plans
        replacements = self._replacements | {provider: replacement}
        self._plans = {
            old: plan(
                old.task,
                old.markers,
                hints_of,
                threaded=old.threaded,
                has_context=old.has_context,
                overrides=replacements,
            )
            for old in plans
        }
        self._replacements = replacements
        try:
            yield
        finally:
            self._replacements, self._plans = before
