"""docs/reference/settings.md: every setting, from the models that read it."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docs.tooling.attributes import texts_of

from taskfleet import config
from taskfleet.plain_settings import SettingField
from taskfleet.settings import Settings

_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
_VARIABLES = {setting: variable for variable, setting in config.NAMED.items()}


def render() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for section, field in Settings.model_fields.items():
        model: Any = field.annotation
        yield f"## `[{section}]`\n"
        yield f"{' '.join(str(model.__doc__).split())}\n"
        yield "| setting | type | default | meaning |"
        yield "| --- | --- | --- | --- |"
        texts = texts_of(model)
        for name, setting in model.model_fields.items():
            variable = _VARIABLES.get((section, name), f"TASKFLEET_{section.upper()}__{name.upper()}")
            text = texts[name].replace(f" The variable is `{variable}`.", "").replace("|", r"\|")
            yield f"| `{name}`<br>`{variable}` | {_type(setting)} | {_default(setting)} | {text} |"
        yield ""


def _type(field: SettingField) -> str:
    return f"{_kind(field.annotation)}{_bounds(field)}"


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(each) for each in arguments if each is not type(None))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}s".replace("texts", "text")
    return _PLAIN[annotation]


def _bounds(field: SettingField) -> str:
    limits = field.limits
    above = "gt" in limits
    least, most = limits.get("gt", limits.get("ge")), limits.get("le")
    if least is None:
        return ""
    if most is None:
        return f", {'above' if above else 'at least'} {least:,}"
    return f", {'above ' if above else ''}{least:,} to {most:,}"


def _default(field: SettingField) -> str:
    value = field.default
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
