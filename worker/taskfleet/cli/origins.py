"""Where each setting comes from, and its value without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskfleet.settings import Settings

DEFAULT = "default"
MASK = "***"

_PASSWORD = re.compile(r"(?P<before>[a-z0-9+]+://[^:@/?#\s]*:)[^@/]*(?=@)", re.IGNORECASE)
_PARAMETER = re.compile(r"(?P<before>[?&](?:[a-z_]*password|[a-z_]*secret|token)=)[^&#\s]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `redis.url`, its value without secrets, and the variable, file with line, or `default`."""

    name: str
    value: Any
    origin: str
    secret: bool


def settings_of(settings: Settings, origins: dict[tuple[str, str], str]) -> Iterator[Setting]:
    """All settings in the order of the sections."""
    lines: dict[str, list[str]] = {}
    for section, model in settings:
        for key, field in type(model).model_fields.items():
            value, secret = getattr(model, key), not field.repr
            origin = origins.get((section, key), DEFAULT)
            if origin != DEFAULT and origin.endswith((".toml", ".yaml", ".yml")):
                if origin not in lines:
                    lines[origin] = Path(origin).read_text(encoding="utf-8").splitlines()
                origin = _with_line(origin, lines[origin], section, key)
            yield Setting(f"{section}.{key}", MASK if secret and value else masked(value), origin, secret)


def masked(value: Any) -> Any:
    """The value without the passwords of URLs."""
    if isinstance(value, str):
        return _PARAMETER.sub(rf"\g<before>{MASK}", _PASSWORD.sub(rf"\g<before>{MASK}", value))
    if isinstance(value, (tuple, list)):
        return [masked(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _with_line(file: str, lines: list[str], section: str, key: str) -> str:
    """`file:line` of a key as it is usually written; the file alone where it is written in another way."""
    inside = False
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        if re.match(rf"\[\s*{section}\s*\]|{section}\s*:\s*(#.*)?$", bare):
            inside = True
        elif inside and re.match(r"\[|[A-Za-z_]+\s*:\s*(#.*)?$", bare) and not line.startswith((" ", "\t")):
            inside = False
        elif inside and re.match(rf"[\"']?{key}[\"']?\s*[=:]", bare):
            return f"{file}:{number}"
    return file
