"""The Python of every page passes mypy as strictly as the library: all pages in one run.

A page becomes a folder with its files, and its snippets a module in which they keep their line numbers. Imports of the
page's own modules get the name of the folder before them, since many pages have a `tasks.py`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, REPOSITORY, Block, blocks_of, borrowed
from tests.docs.markers import OTHERS, UNTYPED

_RELAXED = '# mypy: disable-error-code="import-untyped,misc,untyped-decorator"'
_IMPORT = re.compile(r"^(\s*)(from|import) ([A-Za-z_]\w*)((?:\.\w+)*)(.*)$", re.MULTILINE)


def slug(page: Path) -> str:
    return re.sub(r"\W", "_", str(page.relative_to(REPOSITORY)).removesuffix(".md"))


def own_modules(blocks: list[Block], page: Path) -> set[str]:
    files = {block.file.partition("/")[0].removesuffix(".py") for block in blocks if block.file and block.is_python}
    if page.parent.parent == REPOSITORY / "examples":
        files |= {path.relative_to(page.parent).parts[0].removesuffix(".py") for path in page.parent.rglob("*.py")}
    return files


def renamed(source: str, own: set[str], folder: str) -> str:
    """The source with `from shop.tasks import …` as `from FOLDER.shop.tasks import …`."""

    def replace(match: re.Match[str]) -> str:
        indent, verb, first, rest, end = match.groups()
        if first not in own:
            return match[0]
        alias = f" as {first}" if verb == "import" and not rest and " as " not in end else ""
        return f"{indent}{verb} {folder}.{first}{rest}{alias}{end}"

    return _IMPORT.sub(replace, source)


def undone(source: str) -> str:
    """A doctest without its prompts and its output, line by line."""
    return "".join(line[4:] if line.startswith((">>> ", "... ")) else "\n" for line in source.splitlines(keepends=True))


def write(page: Path, folder: Path) -> None:
    blocks = [block for block in (*borrowed(page), *blocks_of(page)) if block.is_python]
    own = own_modules(blocks, page)
    name = slug(page)
    if page.parent.parent == REPOSITORY / "examples":
        for path in page.parent.rglob("*.py"):
            target = folder / name / path.relative_to(page.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            source = renamed(path.read_text(encoding="utf-8"), own, name)
            target.write_text(f"# mypy: ignore-errors\n{source}", encoding="utf-8")  # tests/examples reads them
    snippets: list[list[str]] = [[]]
    for block in blocks:
        imported = set(re.findall(r"^\s*(?:from|import) (\w+)", block.code, re.MULTILINE))
        if imported & set(OTHERS):
            continue
        source = renamed(undone(block.code) if block.code.startswith(">>>") else block.code, own, name)
        if block.file:
            target = folder / name / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            first = _RELAXED if imported & set(UNTYPED) else f"# {page.relative_to(REPOSITORY)}:{block.number}"
            target.write_text("\n".join([first, *source.splitlines()[1:]]) + "\n", encoding="utf-8")
            continue
        if "fresh" in block.marks:
            snippets.append([])
        lines = snippets[-1]
        lines += [""] * (block.number - 1 - len(lines)) + source.splitlines()
    for number, lines in enumerate(snippets):
        if any(lines):
            lines[0] = '# mypy: disable-error-code="top-level-await"'  # a page begins with its title
            target = folder / name / f"snippets_{number}.py"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.timeout(300)
def test_the_python_of_all_pages_passes_mypy(tmp_path: Path) -> None:
    for page in PAGES:
        write(page, tmp_path)
    assert len(list(tmp_path.rglob("*.py"))) > 50
    options = ("--strict", "--explicit-package-bases", "--namespace-packages", "--config-file", "pyproject.toml")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(tmp_path)],
        cwd=REPOSITORY,
        env={"MYPYPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.replace(f"{tmp_path}/", "") + done.stderr
