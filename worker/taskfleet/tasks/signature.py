"""The parameters and the result of a task: they are checked and encoded by its annotations, as `travel` says."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.protocol import envelope, result_record
from taskfleet.protocol.envelope import TypedForm
from taskfleet.tasks import depends
from taskfleet.travel.value import Value

_LATER: Any = object()  # stands for an argument that arrives later


class Signature:
    """The parameters and the result of one task function.

    `injected` are the parameters that the worker fills (`Depends`): they are no part of a call. `result` stands for the
    function's own return annotation, and `hints` for all its annotations.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        result: Any = _LATER,
        hints: Mapping[str, Any] | None = None,
    ) -> None:
        self._name = name
        self._signature = inspect.signature(function)
        if hints is None:
            hints = hints_of(function)
        self.injected: dict[str, depends.Marker] = {}
        self._by_position = 0
        self._by_name: list[str] = []  # parameters of the call that follow an injected one
        self._set_injected_apart(hints)
        self._hints = hints
        self._values: dict[str, Value] = {}
        self._positional: list[Value] = []
        self._rest: Value | None = None
        self._rest_named: Value | None = None
        self._required_options: frozenset[str] | None = None  # of `**options: Unpack[…]`
        required = 0
        for parameter in self._signature.parameters.values():
            annotation = hints.get(parameter.name, parameter.annotation)
            if parameter.kind is parameter.VAR_KEYWORD and (options := _typed_dict_of(annotation)) is not None:
                required += self._take_options(options)
                continue
            unpacked = _is_unpacked(annotation)
            value = Value(Any if unpacked else annotation, f"task {name!r}, parameter {parameter.name!r}")
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
        self._plain = tuple(value.plain for value in self._positional) if self._exact >= 0 else None
        self._plain_behind_result = self._plain[1:] if self._plain else None
        # The types of all arguments, when none of them needs encoding and a call has to give them all.
        self.plain = None if self._plain is None or None in self._plain else cast("tuple[type, ...]", self._plain)
        values = [*self._values.values(), self._rest, self._rest_named]
        self.may_be_typed = any(value is not None and value.may_be_typed for value in values)
        first = next(iter(self._signature.parameters.values()), None)
        self.takes_first = first is not None and first.kind not in (first.KEYWORD_ONLY, first.VAR_KEYWORD)
        self.result = Value(hints.get("return", Any) if result is _LATER else result, f"task {name!r}, result")

    def _set_injected_apart(self, hints: Mapping[str, Any]) -> None:
        parameters = list(self._signature.parameters.values())
        self.injected = depends.set_apart(self._name, parameters, hints)
        if not self.injected:
            return
        kept = [parameter for parameter in parameters if parameter.name not in self.injected]
        first = next(i for i, parameter in enumerate(parameters) if parameter.name in self.injected)
        self._by_position = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters[:first])
        self._by_name = [p.name for p in kept[first:] if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._signature = self._signature.replace(parameters=kept)

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """The parameters of a call, without the injected ones, each with its resolved annotation."""
        given = self._signature.parameters.values()
        return [each.replace(annotation=self._hints.get(each.name, each.annotation)) for each in given]

    def value_of(self, name: str) -> Value:
        """The encoding of one parameter, or of each item of `*name`."""
        rest = next((each for each in self.parameters if each.kind is each.VAR_POSITIONAL), None)
        if rest is not None and rest.name == name:
            assert self._rest is not None
            return self._rest
        return self._named(name)

    def arranged(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Loaded arguments for the function: those that follow an injected parameter are passed by name."""
        if not self._by_name:
            return args, kwargs
        named = dict(zip(self._by_name, args[self._by_position :], strict=False))
        return args[: self._by_position], named | kwargs

    def dump(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, behind_result: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments for messagepack. Errors: `SerializationError` names the parameter that does not fit.

        `behind_result`: the result of another task becomes the first argument when the task runs.
        """
        if behind_result:
            if not kwargs and len(args) + 1 == self._exact and tuple(map(type, args)) == self._plain_behind_result:
                return list(args), {}
            try:
                self._check_call((_LATER, *args), kwargs)
            except SerializationError as error:
                raise SerializationError(
                    f"{error} (the task before it gives the first argument: leave that out, as in "
                    f"{self._name}.partial(…))"
                ) from None
            dumped, named = self._dump((_LATER, *args), kwargs, checked=True)
            return dumped[1:], named
        if kwargs or len(args) != self._exact:
            self._check_call(args, kwargs)
        elif tuple(map(type, args)) == self._plain:
            return list(args), {}
        return self._dump(args, kwargs, checked=True)

    def _dump(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, checked: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        if not checked:
            self._check_call(args, kwargs)
        self.result.resolve()  # a wrong annotation fails here, and not after the task has run
        dumped = [arg if arg is _LATER else value.dump(arg) for value, arg in zip(self._positional, args, strict=False)]
        if len(args) > len(dumped):
            assert self._rest is not None
            dumped += [arg if arg is _LATER else self._rest.dump(arg) for arg in args[len(dumped) :]]
        named = {key: self._named(key).dump(value) for key, value in kwargs.items()} if kwargs else {}
        return dumped, named

    def load(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments for the function. Errors: `SerializationError` when they do not fit it."""
        if kwargs or len(args) != self._exact:
            self._check_call(args, kwargs)
        elif tuple(map(type, args)) == self._plain:
            return args, kwargs
        loaded = [value.load(arg) for value, arg in zip(self._positional, args, strict=False)]
        if len(args) > len(loaded):
            assert self._rest is not None
            loaded += [self._rest.load(arg) for arg in args[len(loaded) :]]
        named = {key: self._named(key).load(value) for key, value in kwargs.items()} if kwargs else {}
        return loaded, named

    def _check_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if self.injected and (given := self.injected.keys() & kwargs):
            raise SerializationError(
                f"task {self._name!r}: parameter {min(given)!r} is injected where it runs; leave it out"
            )
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise SerializationError(f"task {self._name!r}: {error}") from None
        if self._required_options is not None:
            if missing := self._required_options - kwargs.keys():
                raise SerializationError(f"task {self._name!r}: missing a required argument: {min(missing)!r}")
            if unknown := kwargs.keys() - self._values.keys():
                raise SerializationError(f"task {self._name!r}: got an unexpected keyword argument {min(unknown)!r}")

    def version_for(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """The envelope version that dumped arguments need."""
        if TypedForm in map(type, args) or TypedForm in map(type, kwargs.values()):
            return envelope.TYPED
        return envelope.VERSION

    def blame(
        self, args: list[Any], kwargs: dict[str, Any], error: Exception, *, behind_result: bool = False
    ) -> SerializationError:
        """The error that names the encoded argument that messagepack refuses."""
        names = list(self._signature.parameters)
        labelled: list[tuple[int | str, Any]] = [*enumerate(args, int(behind_result)), *kwargs.items()]
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

    def _take_options(self, options: Any) -> int:
        """Take the names of `**options: Unpack[Options]` as parameters; returns how many must be given."""
        required: set[str] = set(options.__required_keys__)
        for name, hint in typing.get_type_hints(options, include_extras=True).items():
            marker: Any = typing.get_origin(hint)
            # Where annotations are text, the class itself does not know of the marker.
            if marker in (typing.Required, typing.NotRequired):
                (required.add if marker is typing.Required else required.discard)(name)
                hint = typing.get_args(hint)[0]
            self._values[name] = Value(hint, f"task {self._name!r}, parameter {name!r}")
        self._required_options = frozenset(required)
        return len(required)

    def _named(self, name: str) -> Value:
        value = self._values.get(name) or self._rest_named
        assert value is not None
        return value


def _typed_dict_of(annotation: Any) -> Any:
    """The typed dict of `**options: Unpack[Options]`, or `None`."""
    return typing.get_args(annotation)[0] if _is_unpacked(annotation) else None


def _is_unpacked(annotation: Any) -> bool:
    origin: Any = typing.get_origin(annotation)
    if type(origin).__module__ != "typing_extensions":
        return origin is typing.Unpack
    # Before Python 3.12 it has an `Unpack` of its own. Imported only here: few tasks use it.
    from typing_extensions import Unpack

    return origin is Unpack


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The resolved annotations of a function. Errors: `ConfigurationError` names the one that cannot be resolved."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"function {function.__qualname__!r}: annotation {error.name!r} cannot be resolved; "
            "import it outside of TYPE_CHECKING, or define it at the top of its module"
        ) from None
    except Exception as error:
        raise ConfigurationError(
            f"function {function.__qualname__!r}: its annotations cannot be read: {type(error).__name__}: {error}"
        ) from None


def _packing_problem(error: Exception) -> str:
    text = str(error)
    return text.replace("can not serialize", "messagepack cannot encode") if text else type(error).__name__


def pack_result(value: Value, result: Any, *, passed_on: bool = False) -> bytes:
    """The result record. `passed_on`: another task of the workflow takes the result. Errors: `SerializationError`."""
    if type(result) is value.plain:
        try:  # not contextlib.suppress, which takes as long as all of this
            return result_record.pack_success(envelope.pack(result))
        except (TypeError, ValueError, OverflowError):
            pass  # too large a number, half a surrogate pair
    forms = value.forms_of_result(result, passed_on=passed_on)
    try:
        return result_record.pack_success(*map(envelope.pack, forms))
    except (TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"{value.label}: {_packing_problem(error)}") from None
