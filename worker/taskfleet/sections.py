"""A section of the settings: values with names, checked when the section is made.

Plain values are read at once. All others are pydantic's to accept or to refuse (`validated_sections`), which takes 9 MB
of memory and is imported only then.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, dataclass_transform

from taskfleet.plain_settings import NotPlainError, SettingField, setting

__all__ = ["SettingsSection", "setting"]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting,))
class SettingsSection:
    """A class with an annotation and a default for each setting.

    Errors: pydantic's `ValidationError`, a `ValueError`, for an unknown name and for a value that a setting does not
    accept.
    """

    model_fields: ClassVar[Mapping[str, SettingField]] = {}
    model_fields_set: frozenset[str]
    """The settings that were given."""

    def __init_subclass__(cls) -> None:
        hints = typing.get_type_hints(cls)
        found: dict[str, SettingField] = {}
        for name in cls.__annotations__:
            made = vars(cls)[name]
            made = made if isinstance(made, SettingField) else SettingField(made)
            found[name] = SettingField(
                made.default, hints[name], made.repr, made.strip, made.limits, made.before, made.after
            )
            setattr(cls, name, made.default)
        cls.model_fields = found

    def __init__(self, /, **given: Any) -> None:
        self._fill(given)

    def _fill(self, data: Mapping[Any, Any]) -> None:
        with contextlib.suppress(NotPlainError):
            self._read(data)
            return
        from taskfleet import validated_sections

        self._take(*validated_sections.values_of(type(self), data))

    def _read(self, data: Mapping[Any, Any]) -> None:
        self._take({name: self._setting(name).read(value) for name, value in data.items()}, frozenset(data))
        try:
            self.check()
        except ValueError:
            raise NotPlainError from None

    @classmethod
    def _setting(cls, name: Any) -> SettingField:
        found = cls.model_fields.get(name)
        if found is None:
            raise NotPlainError
        return found

    def _take(self, values: Mapping[str, Any], given: frozenset[str]) -> None:
        defaults = {name: each.default for name, each in self.model_fields.items()}
        vars(self).update(defaults, **values, model_fields_set=given)

    def check(self) -> None:
        """Raise `ValueError` for values that contradict each other."""

    @classmethod
    def model_validate(cls, data: Mapping[str, Any], *, strict: bool = False) -> Self:
        """The section of these values; with `strict`, a text is no number. Errors: as of the class."""
        made = cls.__new__(cls)
        if strict:
            from taskfleet import validated_sections

            made._take(*validated_sections.values_of(cls, data, strict=True))
        else:
            made._fill(data)
        return made

    @classmethod
    def of_plain(cls, data: Mapping[Any, Any]) -> Self:
        """The section of plain values. Errors: `NotPlainError`."""
        made = cls.__new__(cls)
        made._read(data)
        return made

    @classmethod
    def of_values(cls, values: Mapping[str, Any], given: frozenset[str]) -> Self:
        """The section of values that have been checked. The settings `given` are not left to their defaults."""
        made = cls.__new__(cls)
        made._take(values, given)
        return made

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """A copy with other values, which are not checked."""
        values = {name: getattr(self, name) for name in self.model_fields}
        return self.of_values({**values, **update}, self.model_fields_set | update.keys())

    def model_dump(self) -> dict[str, Any]:
        """The values by name, those of other sections as dicts."""
        return {name: each.model_dump() if isinstance(each, SettingsSection) else each for name, each in self}

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.model_fields)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and list(self) == list(typing.cast("Self", other))

    def __hash__(self) -> int:
        return hash((type(self), *self))

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self if self.model_fields[name].repr)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __setattr__(self, name: str, value: Any) -> None:
        raise self._unchangeable()

    def __delattr__(self, name: str) -> None:
        raise self._unchangeable()

    def _unchangeable(self) -> AttributeError:
        return AttributeError(f"{type(self).__name__} cannot be changed; make another with model_copy(update={{…}})")
