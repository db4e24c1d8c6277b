"""Wrong calls fail type checking, and right ones pass: both checkers read the other files of this folder.

A line with `# error: CODE` must have that error of mypy's, and any of basedpyright's. All other lines must have none.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = sorted(path.name for path in HERE.glob("*.py") if not path.name.startswith(("test_", "__")))
_MARK = re.compile(r"# error: ([\w-]+)")
_ERROR = re.compile(r"^(?:.*[/\\])?(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", re.MULTILINE)

_OF_STYLE = ("reportUnusedVariable", "reportUnusedImport", "reportDeprecated")

Errors = dict[str, set[tuple[int, str]]]


def checked_by(*command: str) -> str:
    """The output of a checker for all files at once: each start takes seconds."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1, done.stdout + done.stderr  # it has found errors, and did not fail itself
    return done.stdout


@pytest.fixture(scope="session")
def of_mypy() -> Errors:
    paths = [str(HERE / name) for name in FILES]
    output = checked_by("mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), *paths)
    found: Errors = {name: set() for name in FILES}
    for name, line, code in _ERROR.findall(output):
        found[name].add((int(line), code))
    return found


@pytest.fixture(scope="session")
def of_basedpyright() -> Errors:
    output = checked_by("basedpyright", "--outputjson", *[str(HERE / name) for name in FILES])
    found: Errors = {name: set() for name in FILES}
    for each in json.loads(output)["generalDiagnostics"]:
        if each["severity"] == "error" and each["rule"] not in _OF_STYLE:
            found[Path(each["file"]).name].add((each["range"]["start"]["line"] + 1, each["rule"]))
    return found


def marked(name: str) -> set[tuple[int, str]]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return {(number, match[1]) for number, line in enumerate(lines, 1) if (match := _MARK.search(line))}


@pytest.mark.parametrize("name", FILES)
def test_mypy_finds_the_marked_errors(name: str, of_mypy: Errors) -> None:
    assert of_mypy[name] == marked(name)


@pytest.mark.parametrize("name", FILES)
def test_basedpyright_finds_errors_in_the_same_lines(name: str, of_basedpyright: Errors) -> None:
    assert {line for line, _ in of_basedpyright[name]} == {line for line, _ in marked(name)}, of_basedpyright[name]


def test_each_file_has_wrong_calls() -> None:
    assert len(FILES) >= 6
    assert all(marked(name) for name in FILES)
