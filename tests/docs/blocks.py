"""The code blocks of a page, and the comments that say more about them.

A comment on the lines above a block belongs to it: `<!-- needs: cluster -->`. A block inside a comment is not seen by
readers: `<!-- hidden: python`, its lines, `-->`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

PAGES = [
    REPOSITORY / "README.md",
    *sorted(path for path in (REPOSITORY / "docs").rglob("*.md") if path.parent.name != "decisions"),
    *sorted(REPOSITORY.glob("examples/*/README.md")),
]

KEYS = {"needs", "tested", "illustration", "fresh"}
_FILES_OF = re.compile(r"^<!-- files: (\S+) -->$", re.MULTILINE)
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*)$")
_HIDDEN = re.compile(r"^<!-- hidden: (\w+)$")
_MARK = re.compile(r"^ *<!-- (\w+)(?:: (.+))? -->$")
_FILE = re.compile(r"^(?:#|//) ([\w./-]*\w\.\w+|[\w/]*Dockerfile)(?::.*)?$")


@dataclass(frozen=True)
class Block:
    page: Path
    number: int
    """Of its first line of code, from 1."""
    language: str
    code: str
    hidden: bool = False
    marks: dict[str, str] = field(default_factory=dict)
    follows: bool = False
    """Whether only blank lines and comments are between the block before and this one."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.number}"

    @property
    def file(self) -> str | None:
        """The name in the comment of its first line."""
        match = _FILE.match(self.code.partition("\n")[0])
        return match[1] if match else None

    @property
    def is_python(self) -> bool:
        return self.language == "python"

    @property
    def is_shell(self) -> bool:
        return self.language in {"console", "sh", "bash"}

    @property
    def is_output(self) -> bool:
        return self.language in {"text", ""} and self.file is None

    @property
    def runs(self) -> bool:
        return not {"needs", "tested", "illustration"} & self.marks.keys()


def blocks_of(page: Path) -> list[Block]:
    return parse(page, page.read_text(encoding="utf-8"))


def parse(page: Path, text: str) -> list[Block]:
    return list(_blocks(page, text.splitlines()))


def borrowed(page: Path) -> list[Block]:
    """The files of other pages among which a page runs: `<!-- files: transactions.md -->`."""
    names = _FILES_OF.findall(page.read_text(encoding="utf-8"))
    own = {block.file for block in blocks_of(page)}
    found = [block for name in names for block in blocks_of(page.parent / name) if block.file and block.is_python]
    return [block for block in found if block.file not in own]


def _blocks(page: Path, lines: Sequence[str]) -> Iterator[Block]:
    marks: dict[str, str] = {}
    follows = False
    index = 0
    while index < len(lines):
        line = lines[index]
        if fence := _FENCE.match(line):
            end = next((n for n in range(index + 1, len(lines)) if lines[n].strip() == fence[2]), None)
            assert end is not None, f"{page}:{index + 1}: the block does not end"
            language = fence[3].split()[0] if fence[3].split() else ""
            code = textwrap.dedent("\n".join(lines[index + 1 : end])) + "\n"
            yield Block(page, index + 2, language, code, marks=marks, follows=follows)
            marks, follows, index = {}, True, end
        elif hidden := _HIDDEN.match(line):
            end = lines.index("-->", index)
            code = "\n".join(lines[index + 1 : end]) + "\n"
            yield Block(page, index + 2, hidden[1], code, hidden=True, marks=marks, follows=follows)
            marks, follows, index = {}, True, end
        elif mark := _MARK.match(line):
            if mark[1] in KEYS:
                marks[mark[1]] = mark[2] or ""
        elif line.strip():
            assert not marks, f"{page}:{index + 1}: a block must come next, since {sorted(marks)} is above"
            follows = False
        index += 1
    assert not marks, f"{page}: no block comes after {sorted(marks)}"


@dataclass(frozen=True)
class Command:
    """One command of a block, and the lines that are shown below it."""

    text: str
    output: list[str]

    @property
    def interrupted(self) -> bool:
        return any(line.startswith("^C") for line in self.output)


def commands_of(block: Block) -> list[Command]:
    """The commands of a `console` block have `$ ` before them; in `sh` every line is one. A `\\` goes on below."""
    console = block.language == "console"
    lines = block.code.splitlines()
    found: list[Command] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if console and not line.startswith("$ "):
            assert found, f"{block.where}: a console block begins with `$ ` and a command"
            found[-1].output.append(line)
            continue
        text = line.removeprefix("$ ") if console else line
        while index < len(lines) and _goes_on(text, console=console):
            text += "\n" + lines[index]
            index += 1
        if text.strip() == "^C" and found:
            found[-1].output.append("^C")
        elif text.strip() and not text.lstrip().startswith("#"):
            found.append(Command(text, []))
    return found


def _goes_on(text: str, *, console: bool) -> bool:
    if text.endswith("\\"):
        return True
    heredoc = re.search(r"<<-? *['\"]?(\w+)", text)
    if heredoc:
        return not re.search(rf"^{heredoc[1]}$", text, re.MULTILINE)
    return text.count("'") % 2 == 1 and not console
