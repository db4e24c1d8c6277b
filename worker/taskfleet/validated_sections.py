"""Sections of the settings as pydantic checks them: what `sections` itself cannot tell, and all errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from taskfleet.plain_settings import SettingField, is_section

_CONFIG = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def values_of(cls: Any, data: Mapping[str, Any], *, strict: bool = False) -> tuple[dict[str, Any], frozenset[str]]:
    """The values of a section, and the names of those that `data` has. Errors: `pydantic.ValidationError`."""
    return _taken(cls, _model_of(cls).model_validate(data, strict=strict))


def _taken(cls: Any, model: BaseModel) -> tuple[dict[str, Any], frozenset[str]]:
    values = {name: _value_of(each, getattr(model, name)) for name, each in cls.model_fields.items()}
    return values, frozenset(model.model_fields_set)


def _value_of(each: SettingField, value: Any) -> Any:
    return each.annotation.of_values(*_taken(each.annotation, value)) if isinstance(value, BaseModel) else value


@functools.cache
def _model_of(cls: Any) -> type[BaseModel]:
    def means_something(value: Any, info: pydantic.ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError(f"expected a number, not {value}")
        if annotation in (Path, Path | None) and isinstance(value, str) and not value.strip():
            raise ValueError("it is set and empty; name a file, or leave it out")
        return value

    def check(self: BaseModel) -> BaseModel:
        cls.check(cast("Any", self))  # it has the same attributes
        return self

    fields: dict[str, Any] = {name: (_annotation(each), _default(each)) for name, each in cls.model_fields.items()}
    return pydantic.create_model(
        cls.__name__,
        __config__=_CONFIG,
        __validators__={
            "means_something": cast("Any", pydantic.field_validator("*", mode="before")(means_something)),
            "check": cast("Any", pydantic.model_validator(mode="after")(check)),
        },
        **fields,
    )


def _default(each: SettingField) -> Any:
    if is_section(each.annotation):
        return Field(default_factory=_model_of(each.annotation))
    return Field(default=each.default, **each.limits)


def _annotation(each: SettingField) -> Any:
    annotation: Any = each.annotation
    if is_section(annotation):
        return Annotated[cast("Any", _model_of(annotation)), BeforeValidator(_given_to(annotation))]
    if each.strip:
        annotation = Annotated[annotation, StringConstraints(strip_whitespace=True)]
    if each.before is not None:
        annotation = Annotated[annotation, BeforeValidator(each.before)]
    return annotation if each.after is None else Annotated[annotation, AfterValidator(each.after)]


def _given_to(cls: Any) -> Callable[[Any], Any]:
    """What a section of this class was made of; any other value, sections of other classes included."""

    def given(value: Any) -> Any:
        return {name: getattr(value, name) for name in value.model_fields_set} if isinstance(value, cls) else value

    return given
