"""Encodes and decodes the values of one parameter or result.

Values of plain types need no encoding. All others are the business of `annotated`, which is imported for the first of
them: pydantic takes 7 MB of memory, which a worker of plain tasks saves.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from taskfleet.errors import SerializationError
from taskfleet.protocol import envelope
from taskfleet.protocol.envelope import CarriedForm, PydanticJson, TypedForm
from taskfleet.travel import carried, native
from taskfleet.travel.hints import Later
from taskfleet.travel.problems import problem_of

if TYPE_CHECKING:
    from taskfleet.travel.annotated import Annotated


class Value:
    """One parameter or result, with the encoding of its values according to the promise of its annotation.

    Errors: `ConfigurationError` for an annotation whose values can never be sent. An annotation that names a class
    which is not defined yet is read at its first use.
    """

    __slots__ = ("_annotated", "_annotation", "_any", "_later", "_scalars", "label", "plain")

    def __init__(self, annotation: Any, label: str) -> None:
        self.label = label
        self._later = annotation if type(annotation) is Later else None
        if annotation is None:
            annotation = type(None)
        self._annotation = annotation
        self._any = annotation is inspect.Parameter.empty or annotation is Any or annotation is object
        self.plain = annotation if annotation in native.PLAIN else None
        self._scalars = native.scalars_of(annotation)
        self._annotated: Annotated | None = None
        if not (self._any or self._later or self.plain or self._scalars):
            self._read()

    def resolve(self) -> None:
        """Resolve an annotation that could not be resolved when the task was defined. Errors: `ConfigurationError`."""
        if self._later is not None:
            Value.__init__(self, self._later.resolve(), self.label)

    def _read(self) -> Annotated:
        if self._annotated is None:
            from taskfleet.travel.annotated import Annotated

            self._annotated = Annotated(self._annotation, self.label, self._scalars | {self.plain})
        return self._annotated

    @property
    def may_be_typed(self) -> bool:
        """Whether `dump` may return a typed form."""
        return not self._any and self._later is None and self.plain is None

    def arrives_as(self, value: Any, wanted: Any) -> bool:
        """Whether `value`, when it is sent, arrives as `wanted`: validators of the application may change it."""
        if self._any or self._later is not None:
            return value is wanted
        return self._read().arrives_as(value, wanted)

    # Sending.

    def dump(self, value: Any) -> Any:
        """The value for messagepack. Errors: `SerializationError` names the parameter."""
        kind = type(value)
        if kind is self.plain or kind in self._scalars:
            return value
        self.resolve()
        return self._without_annotation(value) if self._any else self._read().dump(value)

    def _without_annotation(self, value: Any) -> Any:
        try:
            stranger = "" if type(value) in native.PLAIN else native.stranger(value)
        except Exception as error:
            raise SerializationError(f"{self.label}: {problem_of(error)}") from None
        if stranger:
            problem = f"messagepack would make something else of a {stranger}; annotate it with its type"
            raise SerializationError(f"{self.label}: {problem}")
        return value

    def forms_of_result(self, result: Any, *, passed_on: bool) -> list[Any]:
        """The forms of a result in its record: one, and its typed form where that holds more.

        The previous version reads the first. A result that other tasks of a workflow take (`passed_on`) has its typed
        form too, since these tasks have other annotations.
        """
        kind: Any = type(result)
        if (kind is self.plain or kind in self._scalars) and (kind is not int or result in native.INTEGERS):
            return [result]
        self.resolve()
        if self._any:
            return [self.dump(result)]
        return self._read().forms_of_result(result, passed_on=passed_on)

    # Receiving.

    def load(self, data: Any) -> Any:
        """The value in its annotated type. Errors: `SerializationError` when `data` does not fit the annotation."""
        kind = type(data)
        if kind is self.plain or kind in self._scalars:
            return data
        self.resolve()
        if not self._any:
            return self._read().load(data)
        try:
            return revived(data)
        except Exception as error:
            raise SerializationError(f"{self.label}: {problem_of(error)}") from None


def revived(data: Any) -> Any:
    """The value for a parameter without annotation. Objects become data, since only the sender has their classes."""
    if type(data) is CarriedForm:
        return carried.revive(data, revived)
    if type(data) is TypedForm:
        from taskfleet.travel import typed  # it knows the types of pydantic

        return typed.decode(envelope.unpack(data), None)
    return json.loads(data) if type(data) is PydanticJson else data


def plain(value: Any) -> Any:
    """An argument or a result without its annotation: objects are data, at any depth."""
    if isinstance(value, (CarriedForm, PydanticJson, TypedForm)):
        return revived(value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value
