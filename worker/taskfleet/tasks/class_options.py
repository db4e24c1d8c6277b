"""The options of a class task: attributes of the class without annotation, and keywords of the class."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from pydantic import BaseModel

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.tasks.options import OF_CLASS, OF_DECORATOR

_KEYWORDS = "__task_options__"
_KEYS = frozenset({"unique_key", "limit_key", "fair_key"})  # these may be functions
_BY_NAME = {name: (name, rules) for name, rules in OF_DECORATOR.items()} | OF_CLASS
_NO_OPTION: Any = object()
_DESCRIPTORS = (property, classmethod, staticmethod)


def options_of(cls: type[BaseModel], root: type[BaseModel], keywords: dict[str, Any], where: str) -> dict[str, Any]:
    """The checked options of `cls`, with those that it inherits. `where` begins the errors (`ConfigurationError`)."""
    _check_annotations(cls, where)
    checks.known_names(f"{where}option {{}} is not known", keywords, ["name", *OF_DECORATOR])
    own = {name: OF_DECORATOR[name].check(where + name, value) for name, value in keywords.items()}
    setattr(cls, _KEYWORDS, own)
    found: dict[str, Any] = {}
    for each in reversed(cls.__mro__):
        if each is not root and issubclass(root, each):
            continue
        for name in _BY_NAME.keys() & vars(each).keys() - cls.model_fields.keys():
            value = _value_of(name, vars(each)[name])
            if value is not _NO_OPTION:
                option, rules = _BY_NAME[name]
                found[option] = rules.check(where + name, value)
        found |= vars(each).get(_KEYWORDS, {})
    return found


def _value_of(name: str, attribute: Any) -> Any:
    """The value of an option, or `_NO_OPTION` for a method or property that only has its name.

    A key may be a method or a property: either is a function of the task.
    """
    if name in _KEYS and isinstance(attribute, property):
        return attribute.fget
    if name in _KEYS and isinstance(attribute, staticmethod):
        return attribute.__func__
    if isinstance(attribute, _DESCRIPTORS) or (name not in _KEYS and isinstance(attribute, FunctionType)):
        return _NO_OPTION
    return attribute


def _check_annotations(cls: type[BaseModel], where: str) -> None:
    for option in OF_CLASS:
        field_of = cls.model_fields.get(option)
        if field_of is not None and not field_of.is_required():
            raise ConfigurationError(
                f"{where}{option} has an annotation, which makes it a field of the task's data; "
                f"write {option} = {checks.shown(field_of.default)}, or give the field another name"
            )
