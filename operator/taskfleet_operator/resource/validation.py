"""`taskfleet validate`: the verdict on every TaskQueue in some files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from taskfleet.errors import ConfigurationError

from .admission import Problem
from .manifest import all_problems, read


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """The verdict on one TaskQueue. `source` names the file, and the TaskQueue where a file has several.

    `problems` are (path of the field, what is wrong), with an empty path for a file that cannot be read.
    """

    file: str
    name: str
    source: str
    problems: tuple[Problem, ...] = ()

    @property
    def valid(self) -> bool:
        return not self.problems

    def lines(self) -> Iterator[str]:
        """A line for each problem."""
        for path, message in self.problems:
            yield f"{self.source}: {path}: {message}" if path else f"{self.source}: {message}"


def validate(files: Iterable[Path]) -> Iterator[FileVerdict]:
    """One verdict for each TaskQueue, and one for a file that has none or cannot be read."""
    for file in files:
        source = "standard input" if str(file) == "-" else str(file)
        try:
            found = read(file)
        except ConfigurationError as error:
            yield FileVerdict(str(file), "", source, (("", str(error).removeprefix(f"{source}: ")),))
            continue
        if not found:
            yield FileVerdict(str(file), "", source, (("", "there is no document with kind: TaskQueue in it"),))
        for number, document in enumerate(found, 1):
            metadata = document.get("metadata")
            name = str(metadata.get("name") or "") if isinstance(metadata, dict) else ""
            which = source if len(found) == 1 else f"{source}: TaskQueue {name or number}"
            yield FileVerdict(str(file), name, which, tuple(all_problems(document)))
