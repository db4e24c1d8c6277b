"""The arguments of a task as the JSON body of a request: their schema, and the way from the text to a message.

The text is validated as JSON, once, by the annotations of the task: a `tuple` is an array, `bytes` are base64, and
strict models take what JSON has. FastAPI itself would validate what `json.loads` made of it.
"""

from __future__ import annotations

import functools
import json
import operator
import re
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, cast

import pydantic
import typing_extensions
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema, to_jsonable_python

from taskfleet import describing
from taskfleet.errors import ConfigurationError
from taskfleet.tasks.class_task import Task
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.message import Message
from taskfleet.tasks.namespace import CLASS_TASKS
from taskfleet.tasks.options import TaskOptions
from taskfleet.travel.json_promise import JSON_CONFIG

_CONFIG: Final[ConfigDict] = {**JSON_CONFIG, "extra": "forbid"}
_WORD = re.compile(r"[^0-9A-Za-z]+")

MakeMessage = Callable[[TaskOptions], Message[Any]]


class JsonText(bytes):
    """The body of a request that says that it is JSON."""


class TaskArguments:
    """The JSON form of the calls of one task.

    Errors: `ConfigurationError` for a task whose arguments JSON does not have.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.title = _title_of(definition.name)
        self._is_class = CLASS_TASKS.find(definition.name) is definition
        self._adapter: TypeAdapter[Any]
        try:
            if self._is_class:
                cls = definition.signature.parameters[0].annotation
                if cls.execute is Task.execute:
                    raise ConfigurationError("it has no execute method, so it is a base of other tasks")
                self._adapter = TypeAdapter(cls)
            else:
                self._adapter = TypeAdapter(_typed_dict(self.title, definition))
            self.schema = self._adapter.json_schema()
        except Exception as error:  # classes of the application may raise anything where their schema is made
            why = describing.text_of(error).partition("\n")[0]
            raise ConfigurationError(f"task {definition.name!r} cannot be enqueued over HTTP: {why}") from None
        self.is_required = bool(self.schema.get("required"))

    def body_type(self) -> Any:
        """The type of FastAPI's body parameter: its values are functions that make the message."""
        adapter, read = self._adapter, self._read

        class TaskBody:
            """A stand-in whose JSON schema is that of the arguments."""

            @classmethod
            def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
                return core_schema.no_info_plain_validator_function(read)

            @classmethod
            def __get_pydantic_json_schema__(cls, _schema: Any, handler: pydantic.GetJsonSchemaHandler) -> Any:
                return handler(adapter.core_schema)

        return TaskBody

    def without_body(self) -> MakeMessage:
        """The call without any argument. Errors: pydantic's, as of a body of `{}`."""
        return self._read(JsonText(b"{}"))

    def _read(self, body: object) -> MakeMessage:
        if not isinstance(body, JsonText):
            raise _refused(
                self.title, "not_json", "send the arguments as a JSON object, with Content-Type: application/json"
            )
        try:
            value = self._adapter.validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            if first["type"] == "json_invalid":
                # Its input is the whole body, which may be no text at all, and which the answer would repeat.
                raise _refused(self.title, "json_invalid", first["msg"]) from None
            raise
        if self._is_class:
            task = cast("Task", value)
            return lambda options: Message(self.definition, (task,), {}, options)
        args, kwargs = self._arranged(value, body)
        return lambda options: Message(self.definition, args, kwargs, options)

    def _arranged(self, value: dict[str, Any], body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function takes them: by position as far as possible, as in a call in Python."""
        signature = self.definition.signature
        sent: Any = None

        def form(name: str, given: Any, *path: str | int) -> Any:
            """What to send for a validated argument: itself, or what was received if it would be changed once more."""
            nonlocal sent
            encoding = signature.value_of(name)
            if encoding.arrives_as(given, given):
                return given
            sent = json.loads(body) if sent is None else sent
            received = functools.reduce(operator.getitem, path or (name,), sent)
            if encoding.arrives_as(received, given):
                return received
            raise _refused(self.title, "not_sendable", f"the validators of {name!r} change it whenever they see it")

        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        omitted: list[Any] = []  # defaults of parameters that come before a given one
        behind = any(each.kind is each.VAR_POSITIONAL and value.get(each.name) for each in signature.parameters)
        for parameter in signature.parameters:
            name = parameter.name
            if parameter.kind is parameter.VAR_KEYWORD:
                if _is_unpacked(parameter.annotation):
                    kwargs |= {key: form(key, given) for key, given in value.items()}
                else:
                    kwargs |= {key: form(key, given, name, key) for key, given in value.get(name, {}).items()}
            elif name not in value:
                if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                    omitted.append(parameter.default)
            elif parameter.kind is parameter.VAR_POSITIONAL:
                if rest := [form(name, given, name, at) for at, given in enumerate(value.pop(name))]:
                    args += [*omitted, *rest]
            elif parameter.kind is parameter.KEYWORD_ONLY or (
                omitted and not behind and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            ):
                kwargs[name] = form(name, value.pop(name))
            else:
                args += [*omitted, form(name, value.pop(name))]
                omitted = []
        return tuple(args), kwargs


def _typed_dict(title: str, definition: Definition) -> Any:
    """A typed dict of the parameters. Its keys may have any name, where the fields of a model may not."""
    items: dict[str, Any] = {}
    for parameter in definition.signature.parameters:
        hint: Any = Any if parameter.annotation is parameter.empty else parameter.annotation
        if parameter.kind is parameter.VAR_KEYWORD and _is_unpacked(hint):
            items |= _options_of(typing.get_args(hint)[0])
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            items_hint = list.__class_getitem__(Any if _is_unpacked(hint) else hint)
            hint = typing.NotRequired[Annotated[items_hint, Field(json_schema_extra={"default": []})]]
        elif parameter.kind is parameter.VAR_KEYWORD:
            items_hint = dict.__class_getitem__((str, hint))
            hint = typing.NotRequired[Annotated[items_hint, Field(json_schema_extra={"default": {}})]]
        elif parameter.default is not parameter.empty:
            hint = typing.NotRequired[Annotated[hint, _default(parameter.default)]]
        items[parameter.name] = hint
    # Any: checkers do not know the functional form with items that are only known here.
    typed_dict: Any = typing_extensions.TypedDict
    made = typed_dict(title, items)
    made.__pydantic_config__ = _CONFIG
    return made


def _options_of(options: Any) -> dict[str, Any]:
    """The keys of `**options: Unpack[Options]`, each with its marker."""
    items: dict[str, Any] = {}
    for name, hint in typing_extensions.get_type_hints(options, include_extras=True).items():
        marker: Any = typing.get_origin(hint)
        if marker is None or marker not in (typing.Required, typing.NotRequired):
            hint = typing.Required[hint] if name in options.__required_keys__ else typing.NotRequired[hint]
        items[name] = hint
    return items


def _default(value: object) -> Any:
    try:
        return Field(json_schema_extra={"default": to_jsonable_python(value, bytes_mode="base64")})
    except (pydantic.ValidationError, ValueError, TypeError):
        return Field()  # a default that JSON does not have; the schema only says that the argument may be left out


def _is_unpacked(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Unpack, typing_extensions.Unpack)


def _title_of(name: str) -> str:
    words = [word for word in _WORD.split(name) if word]
    return "".join(word[0].upper() + word[1:] for word in words) + "Arguments"


def _refused(title: str, kind: Any, message: str) -> ValidationError:
    problem = PydanticCustomError(kind, "{message}", {"message": message})
    return ValidationError.from_exception_data(title, [InitErrorDetails(type=problem, input=None)])
