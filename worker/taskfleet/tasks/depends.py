"""`Depends` marks parameters of tasks: the worker supplies their values, and callers omit them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from taskfleet.errors import ConfigurationError

T = TypeVar("T")
Scope = Literal["task", "worker"]
HintsOf = Callable[[Callable[..., Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Marker:
    """The mark that `Depends` leaves in a signature."""

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
    """Mark a parameter of a task, which the worker fills with the value of `provider`.

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


def set_apart(task: str, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]) -> dict[str, Marker]:
    """The marked parameters of a task function.

    Errors: `ConfigurationError` for a parameter that needs its position.
    """
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
    """The marked parameters of a class task's `execute`, which may have no others."""
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
    """Raise `TypeError` for a plain call without a marked parameter, since a plain call injects no values."""
    signature = inspect.signature(function)
    given = signature.bind_partial(*args, **kwargs).arguments
    for parameter in signature.parameters.values():
        if isinstance(parameter.default, Marker) and parameter.name not in given:
            raise TypeError(f"{name_of(function)}() needs {parameter.name!r}: a plain call injects nothing, so pass it")
