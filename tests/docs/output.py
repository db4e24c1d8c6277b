"""Whether a program printed what a page shows: word for word, but for what differs from run to run."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ID = r"\b[0-9a-f]{16,17}\b"
_HOST = r"\b[A-Za-z][\w.]*-\d+-[0-9a-f]{6,12}(?:-[\w-]+)?"
# What may differ: how it is written on the page, and what it may be instead.
_LOOSE: list[tuple[str, str]] = [
    (r"…|\.\.\.", r".*"),
    (
        r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?",
        r"\d{4}-\d\d-\d\d(?:[T ][\d:.,+Z-]+)?",
    ),
    (r"\b\d\d:\d\d:\d\d(?:\.\d+)?", r"\d\d:\d\d:\d\d(?:\.\d+)?"),
    (r'File "[^"]*/(?P<file>[\w.]+)"', r'File "(?:[^"]*/)?{file}"'),
    (_HOST, r"[\w.-]+-\d+-[0-9a-f]+[\w-]*"),
    (r"redis://[\w.]+:\d+/\d+", r"\S+:\d+/\d+"),
    (r"\bkey [0-9a-f]{8}\b", r"key [0-9a-f]{8}"),
    (r"\bvm:\d+\b", r"[\w.-]+:\d+"),
    (r"\bvm\b", r"[\w.-]+"),
    (r"\b\d+(?:\.\d+)+(?:s\b|\b)", r"\d+(?:\.\d+)*s?"),
    (r"\b\d+(?:s|ms)\b", r"\d+(?:\.\d+)*(?:s|ms)"),
    (r"\b\d+ (?:s|ms|us|MB)\b", r"[\d.]+ \w+"),
    (r"\s+", r"\s+"),
]
_SPLIT = re.compile("|".join([f"(?P<id>{_ID})", *(f"(?P<p{n}>{page})" for n, (page, _) in enumerate(_LOOSE))]))
_EXACT = re.compile(rf"(?P<id>{_ID})|(?P<p0>…)")

_ANY_LINES = {"…", "..."}


def line_pattern(line: str, *, exact: bool = False) -> tuple[str, list[str]]:
    """A regular expression for a shown line, and the ids in it, which are its groups."""
    ids: list[str] = []
    pattern, begin = "", 0
    line = line.rstrip()
    for match in (_EXACT if exact else _SPLIT).finditer(line):
        pattern += re.escape(line[begin : match.start()])
        begin = match.end()
        if match["id"]:
            ids.append(match["id"])
            pattern += r"([0-9a-f]{16,17})"
        else:
            number = next(n for n in range(len(_LOOSE)) if match[f"p{n}"] is not None)
            pattern += _LOOSE[number][1].replace("{file}", match["file"] if not exact and match["file"] else "")
    return pattern + re.escape(line[begin:]), ids


def compare(shown: Sequence[str], printed: Sequence[str], *, exact: bool = False) -> dict[str, str] | None:
    """The ids of the page and those that were printed in their place; `None` when the lines are not these."""
    shown, printed = _trimmed(shown), _trimmed(printed)
    if not shown:
        return None if printed else {}
    if shown[0].strip() in _ANY_LINES:
        rest = shown[1:]
        return (
            next(
                (ids for n in range(len(printed) + 1) if (ids := compare(rest, printed[n:], exact=exact)) is not None),
                None,
            )
            if rest
            else {}
        )
    if not printed or (first := _ids(shown[0], printed[0], exact=exact)) is None:
        return None
    if len(shown) == 1:
        return first if len(printed) == 1 else None
    others = compare(shown[1:], printed[1:], exact=exact)
    return None if others is None else first | others


def in_order(shown: Sequence[str], printed: Sequence[str]) -> dict[str, str] | None:
    """As `compare`, for lines between which there may be others."""
    found: dict[str, str] = {}
    lines = iter(printed)
    for line in shown:
        if line.strip() in {*_ANY_LINES, ""}:
            continue
        for other in lines:
            if (ids := _ids(line, other)) is not None:
                found |= ids
                break
        else:
            return None
    return found


def _ids(shown: str, printed: str, *, exact: bool = False) -> dict[str, str] | None:
    pattern, ids = line_pattern(shown, exact=exact)
    match = re.fullmatch(pattern, printed.rstrip())
    return dict(zip(ids, match.groups(), strict=True)) if match else None


def _trimmed(lines: Sequence[str]) -> Sequence[str]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end]
