"""The return annotation of a class task's `execute`, even if annotations are text."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, TypeVar

from taskfleet.errors import ConfigurationError


def return_hint(cls: type, execute: Callable[..., Any], name: str, otherwise: Any = Any) -> Any | Later:
    """The annotation, or `Later` when it names a class that is not defined yet. Without one it is `otherwise`."""
    function = inspect.unwrap(execute)
    text = inspect.get_annotations(function).get("return", otherwise)
    later = Later(cls, function, name, text, _local_names(cls.__module__))
    try:
        return later.resolve()
    except ConfigurationError:
        return later


class Later:
    """An annotation that is resolved at its first use."""

    __slots__ = ("_cls", "_function", "_locals", "_name", "_text")

    def __init__(self, cls: type, function: Any, name: str, text: Any, names: Mapping[str, Any]) -> None:
        self._cls = cls
        self._function = function
        self._name = name
        self._text = text
        self._locals = names

    def resolve(self) -> Any:
        """The annotation. Errors: `ConfigurationError` when it still cannot be resolved."""

        def stub() -> None: ...

        stub.__annotations__ = {"return": self._text}
        parameters = [*getattr(self._function, "__type_params__", ())]
        for cls in self._cls.__mro__:  # pydantic makes `Load[int]` a subclass of `Load`
            parameters += vars(cls).get("__type_params__", ())
        names = {each.__name__: each for each in (*parameters, self._cls)}
        try:
            hints = typing.get_type_hints(
                stub, getattr(self._function, "__globals__", {}), {**self._locals, **names}, include_extras=True
            )
        except Exception as error:
            raise ConfigurationError(
                f"task {self._name!r}: what its execute returns, {self._text!r}, cannot be resolved ({error}); "
                "import it outside of TYPE_CHECKING, or define it at the top of its module"
            ) from None
        return _substituted(hints["return"], _arguments_of(self._cls))


def _local_names(module: str) -> dict[str, Any]:
    """The local variables of the functions of `module` that are defining a class now."""
    frame: FrameType | None = sys._getframe(1)
    found: dict[str, Any] = {}
    while frame is not None:
        if frame.f_globals.get("__name__") == module and frame.f_locals is not frame.f_globals:
            found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found


def _arguments_of(cls: type) -> dict[TypeVar, Any]:
    """The arguments for the type variables of the generic models from which `cls` is made."""
    found: dict[TypeVar, Any] = {}
    for base in cls.__mro__:
        about = getattr(base, "__pydantic_generic_metadata__", None) or {}
        if (origin := about.get("origin")) is not None:
            parameters = origin.__pydantic_generic_metadata__["parameters"]
            found |= {each: found.get(given, given) for each, given in zip(parameters, about["args"], strict=False)}
    return found


def _substituted(hint: Any, arguments: Mapping[TypeVar, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return arguments.get(hint, hint)
    if parameters := getattr(hint, "__parameters__", ()):
        return hint[tuple(arguments.get(each, each) for each in parameters)]
    return hint
