"""Wrong calls fail type checking, and right ones pass: both checkers read the other files of this folder.

They also read the scripts of guides. A line with `# error: CODE` must have that error of mypy's, and any error of
basedpyright's. All other lines must have none.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = sorted(path.name for path in HERE.glob("*.py") if not path.name.startswith(("test_", "__")))
SCRIPTS = {
    ROOT / "docs" / "how-to" / "workflows.md": ["points.py", "checked.py", "imports.py"],
    ROOT / "docs" / "how-to" / "batches.md": ["rows.py", "typed_rows.py"],
}
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
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of this folder, and the scripts of the guides."""
    folder = tmp_path_factory.mktemp("guides")
    for page, scripts in SCRIPTS.items():
        found = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        assert [name for name, _ in found] == scripts, f"{page} has other scripts, or one without a name"
        for name, source in found:
            (folder / name).write_text(source, encoding="utf-8")
    return [*[str(HERE / name) for name in FILES], *map(str, folder.glob("*.py"))]


@pytest.fixture(scope="session")
def of_mypy(paths: list[str]) -> Errors:
    output = checked_by("mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), *paths)
    found: Errors = {Path(path).name: set() for path in paths}
    for name, line, code in _ERROR.findall(output):
        found[name].add((int(line), code))
    return found


@pytest.fixture(scope="session")
def of_basedpyright(paths: list[str]) -> Errors:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["basedpyright"]
    scripts = Path(paths[-1]).parent
    settings["include"] = paths
    settings["extraPaths"] = [
        *(str(ROOT / each) for each in settings["extraPaths"]),
        str(scripts),
    ]  # one imports another
    config = scripts / "pyrightconfig.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    output = checked_by("basedpyright", "--project", str(config), "--outputjson")
    found: Errors = {Path(path).name: set() for path in paths}
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


def test_the_scripts_of_the_guides_have_no_errors(of_mypy: Errors, of_basedpyright: Errors) -> None:
    scripts = [name for names in SCRIPTS.values() for name in names]
    assert {name: (of_mypy[name], of_basedpyright[name]) for name in scripts} == dict.fromkeys(scripts, (set(), set()))


def test_each_file_has_wrong_calls() -> None:
    assert len(FILES) >= 6
    assert all(marked(name) for name in FILES)
