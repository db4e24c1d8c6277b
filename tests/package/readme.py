"""The first minute of the README, as a reader copies it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
_HEADING = "## The first minute"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class FirstMinute:
    """The file that a reader saves, the three commands as lists of words, and the result that the last one prints."""

    file: str
    code: str
    install: list[str]
    dev: list[str]
    enqueue: list[str]
    result: str


def first_minute() -> FirstMinute:
    """Read it; an assertion fails when it is not three commands any more."""
    section = README.read_text(encoding="utf-8").partition(f"{_HEADING}\n")[2].partition("\n## ")[0]
    blocks = _BLOCK.findall(section)
    (code,) = (text for language, text in blocks if language == "python")
    name = re.match(r"# (\S+)\n", code)
    assert name, "the first line of the program names its file"
    install, dev = next(text for language, text in blocks if language == "sh").splitlines()
    shown = next(text for language, text in blocks if language == "console").splitlines()
    assert shown[0].startswith("$ taskfleet enqueue "), shown
    return FirstMinute(
        name[1], code, shlex.split(install), shlex.split(dev), shlex.split(shown[0].removeprefix("$ ")), shown[-1]
    )
