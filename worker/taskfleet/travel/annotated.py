"""Values as pydantic sees them: validated by their annotation, and in a form that its promise allows."""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import json
import re
import typing
from collections.abc import Callable, Collection
from typing import Any, cast

import pydantic
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, SchemaValidator

from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.protocol import envelope
from taskfleet.protocol.envelope import CarriedForm, PydanticJson, TypedForm
from taskfleet.travel import carried, fitting, native, promise, typed
from taskfleet.travel.classes import NO_CLASSES, Classes
from taskfleet.travel.json_promise import JSON_CONFIG
from taskfleet.travel.problems import UnfitError, problem_of
from taskfleet.travel.same import same
from taskfleet.travel.schema import SchemaNode

_ARBITRARY: pydantic.ConfigDict = {**JSON_CONFIG, "arbitrary_types_allowed": True}
# Python refuses to read a whole number of more digits from text, and so does pydantic from JSON.
_MOST_DIGITS = 4300
_DIGITS = re.compile(rb"\d{%d}" % _MOST_DIGITS)


class Annotated:
    """Encodes and decodes the values of one annotation. `plain` are the types whose values need neither.

    Errors: `ConfigurationError` for an annotation whose values can never be sent. An annotation that names a class
    which is not defined yet is read at its first use.
    """

    __slots__ = (
        "_adapter",
        "_again",
        "_aliased",
        "_check",
        "_classes",
        "_in_list",
        "_label",
        "_plain",
        "_promise",
        "_subclasses",
    )

    def __init__(self, annotation: Any, label: str, plain: Collection[Any]) -> None:
        self._label = label
        self._plain = plain
        self._in_list = False
        self._promise: promise.Promise | None = None
        self._check: fitting.Check | None = None
        self._again: SchemaValidator | None = None
        self._classes = NO_CLASSES
        self._subclasses: tuple[Callable[[], list[type]], ...] = ()
        self._aliased = False
        self._adapter: TypeAdapter[Any] = self._adapter_of(_read_only_once(annotation))
        if self._adapter.pydantic_complete:
            self._settle(self._adapter)

    def arrives_as(self, value: Any, wanted: Any) -> bool:
        """Whether `value`, when it is sent, arrives as `wanted`: validators of the application may change it."""
        adapter, found = self._settled()
        if found.pure and value is wanted:
            return True
        try:
            return same(self._validated_once(adapter, found, value), wanted)
        except Exception:
            return False

    def _adapter_of(self, annotation: Any) -> TypeAdapter[Any]:
        try:
            try:
                return TypeAdapter(annotation, config=JSON_CONFIG)
            except pydantic.errors.PydanticSchemaGenerationError:
                # A type that pydantic does not know may have a typed form, such as a range; its promise decides.
                return TypeAdapter(annotation, config=_ARBITRARY)
        except pydantic.PydanticUserError as error:
            if error.code != "type-adapter-config-unused":
                raise self._never(str(error).splitlines()[0]) from None
            # A model or dataclass takes no config, but as the item of a list it does: so bytes in a dataclass
            # are base64 wherever it stands. (A model follows its own config.)
            self._in_list = True
            try:
                return TypeAdapter(_list_of(annotation), config=JSON_CONFIG)
            except pydantic.PydanticUserError as problem:
                raise self._never(str(problem).splitlines()[0]) from None
        except Exception as error:
            raise self._never(f"{type(error).__name__}: {error}") from None

    def _never(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self._label}: values of this annotation can never travel: {why}")

    def _settle(self, adapter: TypeAdapter[Any]) -> promise.Promise:
        found = promise.of(self._schema(adapter))
        if found.impossible:
            raise self._never(found.impossible)
        self._classes = Classes(found.classes)
        self._subclasses = tuple(cls.__subclasses__ for cls in found.classes)
        if found.aliased:
            self._aliased = True
        self._promise = found
        return found

    def _schema(self, adapter: TypeAdapter[Any]) -> SchemaNode:
        schema: Any = adapter.core_schema
        if not self._in_list:
            return cast("SchemaNode", schema)
        if schema["type"] == "definitions":
            return {**schema, "schema": schema["schema"]["items_schema"]}
        return cast("SchemaNode", schema["items_schema"])

    def _settled(self) -> tuple[TypeAdapter[Any], promise.Promise]:
        adapter, found = self._adapter, self._promise
        if found is None:
            try:
                adapter.rebuild(raise_errors=True)
                found = self._settle(adapter)
            except (pydantic.PydanticUserError, pydantic.PydanticUndefinedAnnotation) as error:
                raise ConfigurationError(f"{self._label}: {str(error).splitlines()[0]}") from None
        return adapter, found

    def _named(self, error: Exception) -> Exception:
        """The error with the parameter's name. Validators and serializers of an application may raise anything."""
        if isinstance(error, (SerializationError, ConfigurationError)):
            return error
        return SerializationError(f"{self._label}: {problem_of(error, skip=self._in_list)}")

    # Sending.

    def dump(self, value: Any) -> Any:
        """The value for messagepack. Errors: `SerializationError` names the parameter."""
        try:
            adapter, found = self._settled()
            return self._form(adapter, found, self._validated_once(adapter, found, value))
        except Exception as error:
            raise self._named(error) from None

    def _validated_once(self, adapter: TypeAdapter[Any], found: promise.Promise, value: Any) -> Any:
        """The value as it arrives, validated once: validators may have side effects, or use up an iterator."""
        validate = adapter.validator.validate_python
        validated = validate([value])[0] if self._in_list else validate(value)
        if found.ambiguous and not same(value, validated):
            # Pydantic may make a model of a dict even where the union has a dict as well.
            with contextlib.suppress(UnfitError):
                fitting.check_of(self._schema(adapter), certain=True)(value)
                return value
        return validated

    def _form(self, adapter: TypeAdapter[Any], found: promise.Promise, value: Any) -> Any:
        if type(value) in self._plain:
            return value
        if found.json:
            if (text := self._json(adapter, found, value)) is not None:
                return text
        elif found.pure and not found.ambiguous and native.is_native(value):
            return value
        return self._typed(adapter, value)

    def _json(self, adapter: TypeAdapter[Any], found: promise.Promise, value: Any) -> PydanticJson | None:
        """The JSON of a value of an annotation that promises JSON, or `None` if this one would not come back equal."""
        for subclasses in self._subclasses:
            if subclasses():
                self._fits(adapter, value)  # the value may have one of those types
                break
        try:
            if found.hazard is not None and found.hazard(value):
                return None
            text = self._json_of(adapter, value)
        except (PydanticSerializationError, AttributeError, TypeError):
            return None  # it has changed since its validation; the typed form will name the problem
        if (
            found.recursive or (found.whole_numbers and len(text) > _MOST_DIGITS and _DIGITS.search(text))
        ) and not self._loads_equal(adapter, text, value):
            return None
        # Pydantic also dumps a value that breaks a constraint, and `None` where no `None` is allowed.
        if found.objects and (found.constrained or text.find(b"null") >= 0) and not self._still_valid(adapter, value):
            return None
        return text

    def _still_valid(self, adapter: TypeAdapter[Any], value: Any) -> bool:
        """Whether the types and constraints of all objects still hold."""
        if self._again is None:
            self._again = fitting.revalidator(self._schema(adapter))
        try:
            self._again.validate_python(value, strict=True, by_alias=False, by_name=True)
        except pydantic.ValidationError:
            return False
        return True

    def _json_of(self, adapter: TypeAdapter[Any], value: Any) -> PydanticJson:
        # Objects may have changed since their validation. For other values a warning would only cost time.
        warnings: Any = "error" if self._subclasses else False
        dump = adapter.serializer.to_json
        if self._in_list:
            return PydanticJson(dump([value], by_alias=True, round_trip=True, warnings=warnings)[1:-1])
        return PydanticJson(dump(value, by_alias=True, round_trip=True, warnings=warnings))

    def _loads_equal(self, adapter: TypeAdapter[Any], text: PydanticJson, value: Any) -> bool:
        try:
            return same(self._from_json(adapter, text), value)
        except Exception:
            return False

    def _fits(self, adapter: TypeAdapter[Any], value: Any) -> None:
        if self._check is None:
            self._check = fitting.check_of(self._schema(adapter))
        self._check(value)

    def _typed(self, adapter: TypeAdapter[Any], value: Any) -> Any:
        try:
            form = TypedForm(envelope.pack(typed.encode(value, self._classes)))
            self._fits(adapter, value)
        except UnfitError:
            # A class of the application that only pydantic can dump: it travels as JSON if it comes back equal.
            try:
                text = self._json_of(adapter, value)
            except Exception:
                text = None
            if text is None or not self._loads_equal(adapter, text, value):
                raise
            return text
        return form

    def forms_of_result(self, result: Any, *, passed_on: bool) -> list[Any]:
        """As `Value.forms_of_result`."""
        try:
            return self._forms(result, passed_on=passed_on)
        except Exception as error:
            raise self._named(error) from None

    def _forms(self, result: Any, *, passed_on: bool) -> list[Any]:
        adapter, found = self._settled()
        value = self._validated_once(adapter, found, result)
        form = self._form(adapter, found, value)
        if type(form) is int and form not in native.INTEGERS:
            # An argument would be refused, but a result is the outcome of work.
            form = TypedForm(envelope.pack(typed.encode(form, self._classes)))
        if type(form) is TypedForm:
            return [self._legacy(form), form]
        if passed_on and type(form) is PydanticJson:
            with contextlib.suppress(UnfitError):
                return [form, TypedForm(envelope.pack(typed.encode(value, self._classes)))]
        return [form]

    def _legacy(self, form: TypedForm) -> Any:
        """The form that the previous version would have written, if it could."""
        adapter, _ = self._settled()
        try:
            value = self._from_typed(adapter, form)
            text = adapter.dump_json([value] if self._in_list else value, warnings=False)
        except Exception:
            return form
        return PydanticJson(text[1:-1] if self._in_list else text)

    # Receiving.

    def load(self, data: Any) -> Any:
        """The value in its annotated type. Errors: `SerializationError` when `data` does not fit the annotation."""
        try:
            return self._load(data)
        except Exception as error:
            raise self._named(error) from None

    def _load(self, data: Any) -> Any:
        adapter, _ = self._settled()
        if type(data) is PydanticJson:
            return self._from_json(adapter, data)
        if type(data) is TypedForm:
            return self._from_typed(adapter, data)
        if type(data) is CarriedForm:
            if (text := carried.as_json(data)) is not None:
                return self._from_json(adapter, text)
            data = carried.revive(data, self._revived)
        return self._validated(adapter, data)

    def _from_json(self, adapter: TypeAdapter[Any], text: PydanticJson) -> Any:
        validate = adapter.validator.validate_json
        if self._aliased:
            # By name too, since the previous version dumped fields by name.
            validate = functools.partial(validate, by_alias=True, by_name=True)
        return validate(b"[" + text + b"]")[0] if self._in_list else validate(text)

    def _from_typed(self, adapter: TypeAdapter[Any], form: TypedForm) -> Any:
        data = envelope.unpack(form)
        try:
            value = typed.decode(data, self._classes)
            self._fits(adapter, value)
        except UnfitError:
            # From another version of the application: pydantic validates its parts like any other input.
            return self._validated(adapter, typed.decode(data, None))
        return value

    def _validated(self, adapter: TypeAdapter[Any], data: Any) -> Any:
        if self._in_list:
            return adapter.validate_python([data], by_alias=True, by_name=True)[0]
        return adapter.validate_python(data, by_alias=True, by_name=True)

    def _revived(self, data: Any) -> Any:
        if type(data) is TypedForm:
            form = envelope.unpack(data)
            try:
                return typed.decode(form, self._classes)
            except UnfitError:
                return typed.decode(form, None)
        return json.loads(data) if type(data) is PydanticJson else data


def _list_of(item: Any) -> Any:
    return list[item]


def _read_only_once(annotation: Any) -> Any:
    """An annotation for `Iterable` that keeps a collection; pydantic would return an iterator, to be read only once."""
    if annotation in (typing.Iterable, collections.abc.Iterable, typing.Collection, collections.abc.Collection):
        annotation = typing.Iterable[Any]
    if typing.get_origin(annotation) in (collections.abc.Iterable, collections.abc.Collection):
        (item,) = typing.get_args(annotation)
        return _any_collection_of(item)
    return annotation


def _any_collection_of(item: Any) -> Any:
    return list[item] | tuple[item, ...] | set[item] | frozenset[item]
