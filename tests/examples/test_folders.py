"""What all examples have in common."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.examples.conftest import EXAMPLES

NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name[0] not in "._")
CONFIGURATION = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_index_names_each_example() -> None:
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\S+)/README\.md\)", index)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_names_each_file_and_has_a_test(name: str) -> None:
    readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    paths = [path.relative_to(EXAMPLES / name) for path in (EXAMPLES / name).rglob("*") if path.is_file()]
    files = {path.name for path in paths if not any(part[0] == "." or part == "__pycache__" for part in path.parts)}
    named = {code.rsplit("/", 1)[-1] for code in re.findall(r"`([^`\n]+)`", readme)}
    assert files - named - {"README.md", "__init__.py", "photos.py"} == set()
    assert (EXAMPLES.parent / "tests" / "examples" / f"test_{name.replace('-', '_')}.py").exists()


@pytest.mark.parametrize("name", NAMES)
def test_both_checkers_read_each_module(name: str) -> None:
    assert "examples" in CONFIGURATION["tool"]["basedpyright"]["include"]
    checked = CONFIGURATION["tool"]["mypy"]
    assert f"examples/{name}" in checked["mypy_path"]
    assert {path.stem for path in (EXAMPLES / name).glob("*.py")} <= set(checked["modules"])
    assert {path.parent.name for path in (EXAMPLES / name).glob("*/__init__.py")} <= set(checked["packages"])
