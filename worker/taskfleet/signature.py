"""Arguments and results of a task, checked and encoded by its annotations.

A value whose exact type is a plain one, annotated as such, goes into messagepack as it is. Everything else goes through
pydantic: validated when it is enqueued, dumped to JSON text, and validated back to the annotated type where it runs.
Without an annotation only what messagepack itself knows is accepted.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pydantic
from pydantic import TypeAdapter

from taskfleet import dependencies
from taskfleet.engine import envelope
from taskfleet.engine.envelope import PydanticJson
from taskfleet.errors import ConfigurationError, SerializationError

_PLAIN: tuple[Any, ...] = (str, int, float, bool, bytes, type(None))
_LATER: Any = object()  # the place of an argument that is not known yet
_CONFIG = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")


def _list_of(annotation: Any) -> Any:
    return list[annotation]


class Value:
    """How one parameter or result travels."""

    __slots__ = ("_adapter", "_any", "_in_list", "_label", "_plain")

    def __init__(self, annotation: Any, label: str) -> None:
        self._label = label
        if annotation is None:
            annotation = type(None)
        self._any = annotation is inspect.Parameter.empty or annotation is Any or annotation is object
        self._plain = annotation if annotation in _PLAIN else None
        self._adapter: TypeAdapter[Any] | None = None
        self._in_list = False
        if not self._any:
            try:
                self._adapter = TypeAdapter(annotation, config=_CONFIG)
            except pydantic.PydanticUserError:
                # A model or dataclass takes no config, but as the item of a list it does: so bytes in a dataclass
                # are base64 wherever it stands. (A model follows its own config.)
                self._adapter = TypeAdapter(_list_of(annotation), config=_CONFIG)
                self._in_list = True

    def dump(self, value: Any) -> Any:
        """`value` as messagepack takes it; raises `SerializationError` that names the parameter."""
        if self._any or type(value) is self._plain:
            return value
        adapter = self._adapter
        assert adapter is not None
        try:
            if self._in_list:
                return PydanticJson(adapter.dump_json(adapter.validate_python([value]))[1:-1])
            value = adapter.validate_python(value)
            if type(value) is self._plain:
                return value
            return PydanticJson(adapter.dump_json(value))
        except pydantic.ValidationError as error:
            raise SerializationError(f"{self._label}: {first_problem(error, skip=self._in_list)}") from None
        except (pydantic.PydanticUserError, ValueError, TypeError) as error:
            raise SerializationError(f"{self._label}: {error}") from None

    def load(self, data: Any) -> Any:
        """The annotated type again; raises `SerializationError` when `data` does not fit it any more."""
        if type(data) is self._plain:
            return data
        if self._any:
            # The result of a typed task, passed on to one that takes anything.
            return json.loads(data) if type(data) is PydanticJson else data
        adapter = self._adapter
        assert adapter is not None
        try:
            if self._in_list:
                if isinstance(data, PydanticJson):
                    return adapter.validate_json(b"[" + data + b"]")[0]
                return adapter.validate_python([data])[0]
            return adapter.validate_json(data) if isinstance(data, PydanticJson) else adapter.validate_python(data)
        except pydantic.ValidationError as error:
            raise SerializationError(f"{self._label}: {first_problem(error, skip=self._in_list)}") from None


def first_problem(error: pydantic.ValidationError, *, skip: int = 0) -> str:
    """One line of a validation error; the first `skip` parts of its place are ours."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"][skip:])
    return f"{where}: {problem['msg']}" if where else problem["msg"]


class Signature:
    """The parameters and the result of one task function.

    `injected` are the parameters that the worker fills (`Depends`): they are no part of a call.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._name = name
        self._signature = inspect.signature(function)
        hints = hints_of(function)
        self.injected: dict[str, dependencies.Marker] = {}
        self._by_position = 0
        self._by_name: list[str] = []  # parameters of the call that stand behind an injected one
        self._set_injected_apart(hints)
        self._values: dict[str, Value] = {}
        self._positional: list[Value] = []
        self._rest: Value | None = None
        self._rest_named: Value | None = None
        required = 0
        for parameter in self._signature.parameters.values():
            annotation = hints.get(parameter.name, parameter.annotation)
            value = Value(annotation, f"task {name!r}, parameter {parameter.name!r}")
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = value
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._rest_named = value
            else:
                self._values[parameter.name] = value
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self._positional.append(value)
                if parameter.default is parameter.empty:
                    required += 1
        # A call with just the positional parameters needs no binding.
        self._exact = len(self._positional) if required == len(self._positional) == len(self._values) else -1
        self._plain = tuple(value._plain for value in self._positional) if self._exact >= 0 else None
        first = next(iter(self._signature.parameters.values()), None)
        self.takes_first = first is not None and first.kind not in (first.KEYWORD_ONLY, first.VAR_KEYWORD)
        self.result = Value(hints.get("return", Any), f"task {name!r}, result")

    def _set_injected_apart(self, hints: Mapping[str, Any]) -> None:
        parameters = list(self._signature.parameters.values())
        self.injected = dependencies.set_apart(self._name, parameters, hints)
        if not self.injected:
            return
        kept = [parameter for parameter in parameters if parameter.name not in self.injected]
        first = next(i for i, parameter in enumerate(parameters) if parameter.name in self.injected)
        self._by_position = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters[:first])
        self._by_name = [p.name for p in kept[first:] if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._signature = self._signature.replace(parameters=kept)

    def place(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Loaded arguments in such a way that those behind an injected parameter do not land in it."""
        if not self._by_name:
            return args, kwargs
        named = dict(zip(self._by_name, args[self._by_position :], strict=False))
        return args[: self._by_position], named | kwargs

    def dump(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, behind_result: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as messagepack takes them; `SerializationError` names the parameter that does not fit.

        `behind_result`: a first argument comes before them when the task runs.
        """
        if behind_result:
            dumped, named = self._dump((_LATER, *args), kwargs)
            return dumped[1:], named
        if self._passes(args, kwargs):
            return list(args), {}
        return self._dump(args, kwargs, checked=True)

    def _dump(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, checked: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        if not checked:
            self._check_call(args, kwargs)
        dumped = [arg if arg is _LATER else value.dump(arg) for value, arg in zip(self._positional, args, strict=False)]
        if len(args) > len(dumped):
            assert self._rest is not None
            dumped += [arg if arg is _LATER else self._rest.dump(arg) for arg in args[len(dumped) :]]
        named = {key: self._named(key).dump(value) for key, value in kwargs.items()} if kwargs else {}
        return dumped, named

    def load(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as the function takes them; `SerializationError` when they do not fit it."""
        if self._passes(args, kwargs):
            return args, kwargs
        loaded = [value.load(arg) for value, arg in zip(self._positional, args, strict=False)]
        if len(args) > len(loaded):
            assert self._rest is not None
            loaded += [self._rest.load(arg) for arg in args[len(loaded) :]]
        named = {key: self._named(key).load(value) for key, value in kwargs.items()} if kwargs else {}
        return loaded, named

    def _passes(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether all arguments can go as they are; `SerializationError` when the function cannot be called so."""
        if not kwargs and len(args) == self._exact:
            return tuple(map(type, args)) == self._plain
        self._check_call(args, kwargs)
        return False

    def _check_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if self.injected and (given := self.injected.keys() & kwargs):
            raise SerializationError(
                f"task {self._name!r}: parameter {min(given)!r} is injected where it runs; leave it out"
            )
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise SerializationError(f"task {self._name!r}: {error}") from None

    def blame(self, args: list[Any], kwargs: dict[str, Any], error: Exception) -> SerializationError:
        """Which dumped argument messagepack refuses."""
        names = list(self._signature.parameters)
        labelled: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        for position, value in labelled:
            try:
                envelope.pack(value)
            except (TypeError, ValueError, OverflowError) as problem:
                label = position if isinstance(position, str) else names[min(position, len(names) - 1)]
                return SerializationError(
                    f"task {self._name!r}, parameter {label!r}: {_packing_problem(problem)}; "
                    "annotate it with a type that pydantic can dump"
                )
        return SerializationError(f"task {self._name!r}: {error}")

    def _named(self, name: str) -> Value:
        value = self._values.get(name) or self._rest_named
        assert value is not None
        return value


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The resolved annotations of a function; `ConfigurationError` names the one that cannot be."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"function {function.__qualname__!r}: annotation {error.name!r} cannot be resolved; "
            "import it outside of TYPE_CHECKING, or define it at the top of its module"
        ) from None


def _packing_problem(error: Exception) -> str:
    text = str(error)
    return text.replace("can not serialize", "messagepack cannot encode") if text else type(error).__name__


def pack_result(value: Value, result: Any) -> bytes:
    """The packed result; raises `SerializationError`."""
    dumped = value.dump(result)
    try:
        return envelope.pack(dumped)
    except (TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"{value._label}: {_packing_problem(error)}") from None
