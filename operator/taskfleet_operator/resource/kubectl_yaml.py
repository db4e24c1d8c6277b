"""YAML as kubectl reads it: YAML 1.1 of Go, which differs from PyYAML's in what a plain word is.

`y` and `n` are booleans, a date is text, and so is `1:10`; `1e1` and `0o10` are numbers, `1.0` is
sent as 1, and the keys of a map are strings.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Any

import yaml

_BOOL = {
    **dict.fromkeys(("y", "yes", "true", "on"), True),
    **dict.fromkeys(("n", "no", "false", "off"), False),
}
_SENT_AS_INTEGER = 1e21  # a larger float has an exponent in Go's JSON
_PREFIX = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Its own list of resolvers: those of the parent stay as they are."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own form


def _resolver(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(_PREFIX + kind, re.compile(f"^(?:{pattern})$"), list(first))


_WORDS = [form for word in _BOOL for form in {word, word.capitalize(), word.upper()}]
_resolver("bool", "|".join(_WORDS), "yYnNtTfFoO")
_resolver("null", "~|null|Null|NULL|", "~nN\0")
_Loader.add_implicit_resolver(_PREFIX + "null", re.compile("^$"), [""])
_resolver("int", r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", "-+0123456789")
_resolver(
    "float",
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "-+.0123456789",
)
_resolver("merge", "<<", "<")


def _bool(_: _Loader, node: yaml.ScalarNode) -> bool:
    return _BOOL[node.value.lower()]


def _int(_: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "").lower()
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    if re.fullmatch("0[0-7]+", digits):
        digits = f"0o{digits[1:]}"
    return sign * int(digits, 0)


def _float(_: _Loader, node: yaml.ScalarNode) -> float | int:
    text = node.value.lower()
    if text.endswith(("inf", "nan")):
        raise yaml.constructor.ConstructorError(None, None, f"{node.value} is no number of JSON", node.start_mark)
    found = float(text)
    return int(found) if found.is_integer() and abs(found) < _SENT_AS_INTEGER else found


def _map(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    _check_once(loader, node)
    loader.flatten_mapping(node)
    found: dict[Hashable, Any] = loader.construct_mapping(node, deep=True)
    return {str(key).lower() if isinstance(key, bool) else str(key): value for key, value in found.items()}


def _check_once(loader: _Loader, node: yaml.MappingNode) -> None:
    """A key that is there twice is an error: one of its values would be dropped, as when `---` is forgotten."""
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != f"{_PREFIX}merge":
            name = str(loader.construct_object(key))
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {name!r} is there twice in one map; is --- missing?", key.start_mark
                )
            seen.add(name)


_Loader.add_constructor(_PREFIX + "bool", _bool)
_Loader.add_constructor(_PREFIX + "int", _int)
_Loader.add_constructor(_PREFIX + "float", _float)
_Loader.add_constructor(_PREFIX + "map", _map)


def documents(text: str) -> Iterator[Any]:
    """The documents of a file that are not empty. Errors: `yaml.YAMLError`."""
    for document in yaml.load_all(text, Loader=_Loader):
        if document is not None:
            yield document
