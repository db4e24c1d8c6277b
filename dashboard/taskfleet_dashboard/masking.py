"""Masks: the values of fields with certain names are not shown, wherever they occur in what a task holds.

A name matches whatever its case. Masked are: arguments of that name, also by position where the
dashboard knows the application; the values of such keys at any depth of arguments and results;
the same inside a text that is itself JSON; and in the lines of errors and tracebacks what follows the name as a field
(`fields_in_text`). The last is a matter of patterns: an error that repeats a secret without its name shows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from taskfleet.errors import ConfigurationError
from taskfleet.inspection.task_info import AttemptError, TaskInfo
from taskfleet_dashboard.fields_in_text import FieldsInText

MASK = "•••"
_MOST_DEPTH = 50
_MOST_JSON = 65_536  # characters of a text that is looked into


class Masks:
    """The names of masked fields. Errors: `ConfigurationError` for a name that is none."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        for name in (found := list(dict.fromkeys(names))):
            # A caller without a type checker may pass any value.
            if not isinstance(name, str) or not re.fullmatch(r"[\w.\-]{1,100}", name):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(f"mask {name!r:.120} is no name of a field; name one, such as password")
        self.names = tuple(found)
        self._folded = frozenset(name.casefold() for name in found)
        self._in_text = FieldsInText(found) if found else None

    def __bool__(self) -> bool:
        return bool(self.names)

    def of_task(
        self, info: TaskInfo, parameters: Sequence[str] = (), *, rest: str = "", others: Mapping[str, str] | None = None
    ) -> tuple[TaskInfo, list[str]]:
        """The task without the values of masked fields, and the names that were found in it.

        `parameters` are the names of its arguments by position, as far as they are known, and `rest` is that of all
        that follow (`*rest`). `others` has for named arguments the name of the parameter that takes them (`**others`).
        """
        if not self:
            return info, []
        found: set[str] = set()
        args = info.args
        if args is not None:
            names = [*parameters, *([rest] * (len(args) - len(parameters)))]
            args = tuple(self._field(name, value, found) for name, value in zip(names, args, strict=False))
        kwargs = info.kwargs
        if kwargs is not None:
            taken_by = others or {}
            kwargs = {
                key: self._field(taken_by.get(key, ""), self._field(key, value, found), found)
                for key, value in kwargs.items()
            }
        masked = replace(
            info,
            args=args,
            kwargs=kwargs,
            result=self._value(info.result, found, 0),
            error=self._text(info.error, found),
            traceback=self._text(info.traceback, found),
            problem=self._text(info.problem, found),
            errors=tuple(self._error(each, found) for each in info.errors),
            progress=None if info.progress is None else replace(info.progress, note=self.text(info.progress.note)),
        )
        return masked, [name for name in self.names if name.casefold() in found]

    def text(self, text: str) -> str:
        """An error, a traceback or a note without the values of masked fields."""
        return self._text(text, set()) or ""

    def _error(self, error: AttemptError, found: set[str]) -> AttemptError:
        return replace(error, error=self._text(error.error, found), traceback=self._text(error.traceback, found))

    def _text(self, text: str | None, found: set[str]) -> Any:
        if not text or self._in_text is None:
            return text
        return self._in_text.hidden(text, MASK, lambda name: found.add(name.casefold()))

    def _field(self, name: object, value: Any, found: set[str]) -> Any:
        return MASK if self._is_masked(name, found) else self._value(value, found, 0)

    def _is_masked(self, name: object, found: set[str], *, strip: str = "") -> bool:
        if isinstance(name, bytes):
            name = name.decode("utf-8", "replace")
        folded = name.strip().lstrip(strip).casefold() if isinstance(name, str) else ""
        if folded not in self._folded:
            return False
        found.add(folded)
        return True

    def _value(self, value: Any, found: set[str], depth: int) -> Any:
        if depth > _MOST_DEPTH:
            return MASK  # nobody has looked what is in there
        if isinstance(value, Mapping):
            kept: dict[Any, Any] = {}
            for key, each in value.items():
                if self._is_masked(key, found):
                    kept[key] = MASK
                else:
                    kept[key] = self._value(each, found, depth + 1)
            return kept
        if isinstance(value, (list, tuple)):
            return self._several(value, found, depth)
        if isinstance(value, (set, frozenset)):
            return [self._value(each, found, depth + 1) for each in value]
        if isinstance(value, str):
            return self._inside(value, found, depth)
        if isinstance(value, (bytes, bytearray)):
            text = value.decode("utf-8", "replace")
            hidden = self._inside(text, found, depth)
            return value if hidden == text else hidden
        return value

    def _several(self, values: Sequence[Any], found: set[str], depth: int) -> list[Any]:
        """A list, whose items may be a field and its value: `["password", …]`, or `["login", "--password", …]`."""
        kept: list[Any] = []
        for at, each in enumerate(values):
            before = values[at - 1] if at else None
            is_pair = len(values) == 2 and at == 1
            is_option = isinstance(before, str) and before.startswith("-")
            if (is_pair or is_option) and self._is_masked(before, found, strip="-"):
                kept.append(MASK)
            else:
                kept.append(self._value(each, found, depth + 1))
        return kept

    def _inside(self, text: str, found: set[str], depth: int) -> str:
        """A text that is JSON is masked as what it says, any other as an error."""
        if text.lstrip()[:1] in ("{", "[") and len(text) <= _MOST_JSON:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                pass
            else:
                hidden = self._value(value, found, depth + 1)
                if hidden != value:
                    return json.dumps(hidden, ensure_ascii=False)
                # A key may be there twice, of which reading keeps one.
        return str(self._text(text, found))
