"""`taskfleet validate`: the verdict on every TaskQueue in some files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from taskfleet.errors import ConfigurationError

from .manifest import accept, read


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """The verdict on one TaskQueue. `problem` begins with the file; it is empty for a valid one."""

    file: str
    name: str
    problem: str = ""

    @property
    def valid(self) -> bool:
        return not self.problem


def validate(files: Iterable[Path]) -> Iterator[FileVerdict]:
    """One verdict for each TaskQueue, and one for a file that has none or cannot be read."""
    for file in files:
        try:
            found = read(file)
        except ConfigurationError as error:
            yield FileVerdict(str(file), "", str(error))
            continue
        if not found:
            yield FileVerdict(str(file), "", f"{file}: there is no document with kind: TaskQueue in it")
        for number, document in enumerate(found, 1):
            metadata = document.get("metadata")
            name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
            source = str(file) if len(found) == 1 else f"{file}: TaskQueue {name or number}"
            try:
                accept(document, source)
            except ConfigurationError as error:
                yield FileVerdict(str(file), name, str(error))
            else:
                yield FileVerdict(str(file), name)
