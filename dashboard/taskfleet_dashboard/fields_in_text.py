"""Where a field is named in a text, and where its value ends: errors, tracebacks, logs and notes are no data format.

A value may be quoted, also inside a text that is quoted itself, in brackets, the representation of an object, or a bare
word. What is cut off in the middle goes to the end of the text. In doubt the value is the longer one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_PREFIX = re.compile(r"[bBrRuUfF]{1,2}(?=\\*[\"'])")
_CALLED = re.compile(r"[A-Za-z_][\w.]*(?=[(\[{])")
_SCHEME = re.compile(r"(?:Bearer|Basic|Digest|Negotiate|Token|ApiKey)[ \t]+(?=\S)", re.IGNORECASE)
_SPACE = re.compile(r"[ \t]*")
_OPENED = re.compile(r"(\\*)([\"'])")
_STOP = re.compile(r"\s|$|[,;&](?=\s|$|[\"']|[\w.%\-]{1,100}[\"']?\s?[=:])")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_BEHIND = ")}],;.\"'"


class FieldsInText:
    """Fields with these names, whatever their case."""

    def __init__(self, names: Sequence[str]) -> None:
        any_of = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))

        def name(group: str) -> str:
            return rf"(?<!\w)(?P<{group}>{any_of})"

        self._named = re.compile(
            # "name": …  name=…  name => …  ("name", …)  <name>…
            rf"""{name("name")}(?:\\*["']\s*(?:=>|->|:=|=|:|,)|\s*(?:=>|->|:=|==|=|:)|>)"""
            # --name …
            rf"""|(?<=--){name("option")}[ \t]+"""
            # What pydantic says about a field: its name, and below that its value.
            rf"""|{name("checked")}(?:\s|\\n)+[^\[\]\n]{{0,500}}\[type=[^\]\n=]{{1,100}}, input_value=""",
            re.IGNORECASE,
        )

    def hidden(self, text: str, mask: str, found: Callable[[str], object]) -> str:
        """The text with `mask` in place of the values. `found` is told the names."""
        parts: list[str] = []
        done = 0
        while match := self._named.search(text, done):
            begin = match.end()
            if match["checked"]:
                end = text.find(", input_type=", begin)
                end = len(text) if end < 0 else end
            elif match[0].endswith(">") and text[match.start() - 1 : match.start()] == "<":
                end = text.find("<", begin)
                end = len(text) if end < 0 else end
            elif match[0].endswith(">") and not match[0].endswith(("=>", "->")):
                end = begin  # a comparison
            else:
                begin = _SPACE.match(text, begin).end()  # type: ignore[union-attr]  # it may be empty
                end = end_of_value(text, begin)
            if end > begin:
                found(match["name"] or match["option"] or match["checked"])
                parts += [text[done:begin], mask]
                done = end
            else:
                parts.append(text[done : match.end()])
                done = match.end()
        parts.append(text[done:])
        return "".join(parts)


def end_of_value(text: str, at: int) -> int:
    """Where the value ends that begins at `at`."""
    if scheme := _SCHEME.match(text, at):
        at = scheme.end()
    if prefix := _PREFIX.match(text, at):
        at = prefix.end()
    if opened := _OPENED.match(text, at):
        return _end_of_quoted(text, opened)
    if called := _CALLED.match(text, at):
        at = called.end()
    if text[at : at + 1] in _BRACKETS and at < len(text):
        return _end_of_brackets(text, at)
    if text.startswith("<", at):
        end = text.find(">", at)
        return len(text) if end < 0 else end + 1
    stop = _STOP.search(text, at)
    end = stop.start() if stop is not None else len(text)
    while end > at and text[end - 1] in _BEHIND:
        end -= 1
    return end


def _end_of_quoted(text: str, opened: re.Match[str]) -> int:
    """A quotation mark is the end if as many backslashes are before it as before the first. `'a' 'b'` is one value."""
    while True:
        depth, mark, at = len(opened[1]), opened[2], opened.end()
        while True:
            at = text.find(mark, at) + 1
            if not at:
                return len(text)
            slashes = _slashes_before(text, at - 1, opened.end())
            if slashes == depth if depth else slashes % 2 == 0:
                break
        another = _OPENED.match(text, at)
        if another is None or len(another[1]) != depth or another[2] != mark:
            return at
        opened = another


def _slashes_before(text: str, at: int, first: int) -> int:
    count = 0
    while at - count > first and text[at - count - 1] == "\\":
        count += 1
    return count


def _end_of_brackets(text: str, at: int) -> int:
    open_ones: list[str] = []
    while at < len(text):
        char = text[at]
        if char in _BRACKETS:
            open_ones.append(_BRACKETS[char])
        elif open_ones and char == open_ones[-1]:
            open_ones.pop()
            if not open_ones:
                return at + 1
        elif char in "\"'" and not text[at - 1].isalnum():
            opened = _OPENED.match(text, at - _slashes_before(text, at, 0))
            assert opened is not None
            at = _end_of_quoted(text, opened)
            continue
        at += 1
    return len(text)
