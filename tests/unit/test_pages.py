"""The pages for developers name files that exist, and the map of the code names every module once.

A module table of docs/development/architecture.md has a header whose first cell begins with "module" or "package"; the
backticked names of its first column are modules (`runtime/worker`), folders (`travel/`: all modules below that no row
names itself), or files. A name is relative to the folder that the heading above the table names in backticks
(`worker/taskfleet/runtime`), or to the package of that folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = (
    REPOSITORY / "worker" / "taskfleet",
    REPOSITORY / "operator" / "taskfleet_operator",
    REPOSITORY / "dashboard" / "taskfleet_dashboard",
)
ARCHITECTURE = REPOSITORY / "docs" / "development" / "architecture.md"

_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/?")
_PLACEHOLDER = re.compile(r"(^|/)[A-Z]+(\.|$)")  # such as `children/KIND.py`; README.md and the like exist
_SUFFIXES = (".py", ".lua", ".md", ".toml", ".yaml")


def resolve(name: str, folder: Path) -> Path | None:
    """The file or folder of a name: below `folder`, else below a package or the repository."""
    package = next((package for package in PACKAGES if folder.is_relative_to(package)), None)
    for base in (folder, *([package] if package else []), *PACKAGES, REPOSITORY):
        for path in (base / name, base / f"{name}.py"):
            if path.exists() and path != REPOSITORY:
                return path
    return None


def lines_with_folder(page: Path) -> Iterator[tuple[str, Path]]:
    """(line, folder that the heading above it names) of a page, without its code blocks."""
    folder, code = REPOSITORY, False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            code = not code
        elif not code:
            if line.startswith("#"):
                named = [REPOSITORY / name for name in _CODE.findall(line) if (REPOSITORY / name).is_dir()]
                folder = named[0] if named else REPOSITORY
            yield line, folder


def named_paths(page: Path) -> Iterator[tuple[str, Path]]:
    """(name, folder of its heading) of everything in backticks that is written as a path."""
    for line, folder in lines_with_folder(page):
        for name in _CODE.findall(line):
            if _PATH.fullmatch(name) and ("/" in name or name.endswith(_SUFFIXES)):
                yield name, folder


def module_table_names() -> Iterator[tuple[str, Path]]:
    """(name, folder of its heading) in the first column of the module tables."""
    header, modules = True, False
    for line, folder in lines_with_folder(ARCHITECTURE):
        if not line.startswith("|"):
            header = True
            continue
        first = line.split("|")[1].strip()
        if header:
            header, modules = False, first.lower().startswith(("module", "package"))
        elif modules:
            for name in _CODE.findall(first):
                yield name, folder


def all_modules() -> set[Path]:
    return {
        path
        for package in PACKAGES
        for path in package.rglob("*.py")
        if not path.name.startswith("__") and "__pycache__" not in path.parts
    }


PAGES = [
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "docs" / "development" / "chaos.md",
    *sorted((REPOSITORY / "docs" / "decisions").glob("*.md")),
    *sorted(path for folder in ("tests", "bench", "e2e") for path in (REPOSITORY / folder).rglob("README.md")),
]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(ARCHITECTURE, id="architecture"),
        *(pytest.param(page, id=str(page.relative_to(REPOSITORY))) for page in PAGES),
    ],
)
def test_files_that_a_page_names_exist(page: Path) -> None:
    missing = [name for name, folder in named_paths(page) if resolve(name, folder) is None]
    assert not [n for n in missing if not (page.parent / n).exists() and not _PLACEHOLDER.search(n)]


def test_the_map_of_the_code_names_only_modules_that_exist() -> None:
    names = list(module_table_names())
    assert names
    assert not [name for name, folder in names if resolve(name, folder) is None]


def test_the_map_of_the_code_names_every_module_once() -> None:
    named = Counter(path for name, folder in module_table_names() if (path := resolve(name, folder)) is not None)
    folders = [path for path in named if path.is_dir()]
    modules = all_modules()
    missing = [m for m in modules if not named[m] and not any(m.is_relative_to(folder) for folder in folders)]
    assert not sorted(str(module.relative_to(REPOSITORY)) for module in missing)
    assert not sorted(str(path.relative_to(REPOSITORY)) for path, count in named.items() if count > 1)


EVERY_PAGE = [
    *sorted(REPOSITORY.glob("docs/**/*.md")),
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(REPOSITORY.glob("examples/**/README.md")),
    REPOSITORY / "helm" / "taskfleet" / "README.md",
]
_IN_THE_REPOSITORY = re.compile(r"(?:worker|operator|tests|bench|e2e|examples|helm|crds|docs)/[\w./-]+")


def headings(page: Path) -> set[str]:
    """The anchors of a page as GitHub makes them: lower case, hyphens for blanks, no punctuation."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    names = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in names}


@pytest.mark.parametrize("page", EVERY_PAGE, ids=str)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


@pytest.mark.parametrize("page", EVERY_PAGE, ids=str)
def test_files_of_the_repository_that_a_page_names_exist(page: Path) -> None:
    if page == ARCHITECTURE:
        return  # see test_files_that_a_page_names_exist
    names = [name for line, _ in lines_with_folder(page) for name in _CODE.findall(line)]
    names = [name for name in names if _IN_THE_REPOSITORY.fullmatch(name) and not _PLACEHOLDER.search(name)]
    assert [name for name in names if not (REPOSITORY / name).exists()] == []


def test_every_page_is_in_the_index_of_the_documentation() -> None:
    docs = REPOSITORY / "docs"
    linked = set(re.findall(r"\]\(([^)#\s]+)\)", (docs / "README.md").read_text(encoding="utf-8")))
    pages = {str(page.relative_to(docs)) for page in docs.glob("**/*.md")} - {"README.md"}
    assert {page for page in pages - linked if not page.startswith("decisions/")} == set()


def test_every_decision_is_in_the_index_with_its_date_and_status() -> None:
    folder = REPOSITORY / "docs" / "decisions"
    rows = re.findall(r"^\| \[(\d+)\]\((\S+)\) \| (.+) \| (.+) \| (.+) \|$", (folder / "README.md").read_text(), re.M)
    numbers = [int(number) for number, *_ in rows]
    assert numbers == sorted(set(numbers))
    assert {name for _, name, *_ in rows} == {path.name for path in folder.glob("0*.md")}
    for number, name, title, date, status in rows:
        text = (folder / name).read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. {title}\n\nDate: {date}")
        assert f". Status: {status}" in text.splitlines()[2]
        assert [line for line in text.splitlines() if line.startswith("## ")] == [
            "## Context", "## Decision", "## Consequences",
        ]  # fmt: skip
