"""What the site is built from: `python -m docs.tooling.site` writes build/site, and zensical makes site/ of it.

The pages keep their places, so that a link is right on the forge and on the site: the start is README.md, and pages
beside docs/ that a page links to come along, as do other files. The navigation is that of docs/README.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "build" / "site"
SETTINGS = Path(__file__).parent / "zensical.toml"

_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_CODE = re.compile(r"^( *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_HIDDEN = re.compile(r"^<!-- (?:hidden|needs|tested|illustration|files|fresh)\b.*?-->\n+", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)\)")

Nav = list[dict[str, "str | Nav"]]


def links_of(page: Path) -> Iterator[Path]:
    """The files of the repository that a page links to."""
    for link, _ in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if "://" not in link:
            yield Path(os.path.normpath(page.parent / link))


def collect() -> set[Path]:
    """All pages of docs/, the first page, and what they link to, directly or not."""
    waiting = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path.is_dir():
            path /= "README.md"
        if path in found or not path.is_file():
            continue
        found.add(path)
        if path.suffix == ".md":
            waiting += links_of(path)
    return found


def for_the_site(page: Path) -> str:
    """The text of a page without what only the tests read, and with links to the pages of folders."""

    def replace(match: re.Match[str]) -> str:
        link = match[1]
        folder = "://" not in link and (page.parent / link).is_dir()
        return (f"{link.rstrip('/')}/README.md" if folder else link) + (match[2] or "")

    parts = _CODE.split(_HIDDEN.sub("", page.read_text(encoding="utf-8")))
    return "".join(part if number % 2 else _LINK.sub(replace, part) for number, part in enumerate(parts))


def navigation() -> Nav:
    """The sections and tables of docs/README.md; the decisions have an index of their own."""
    index = REPOSITORY / "docs" / "README.md"
    nav: Nav = [{"Taskfleet": "README.md"}]
    section: Nav = []
    for line in index.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = [{"All pages": "docs/README.md"}] if len(nav) == 1 else []
            nav.append({line[3:]: section})
            group = section
        elif line.startswith("For ") and line.endswith(":"):
            title = _ENTRY.sub(r"\1", line[:-1])
            group = [{"Overview": os.path.normpath(f"docs/{link}")} for _, link in _ENTRY.findall(line)]
            section.append({title: group})
        elif line.startswith("| [") and len(nav) > 1:
            for title, link in _ENTRY.findall(line.split("|")[1]):
                path = os.path.normpath(f"docs/{link}")
                group.append({title: _decisions() if path == "docs/decisions/README.md" else path})
    return nav


def _decisions() -> Nav:
    text = (REPOSITORY / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d+)\]\((\S+)\) \| (.+?) \|", text, re.MULTILINE)
    entries: Nav = [{f"{number}. {title}": f"docs/decisions/{name}"} for number, name, title in rows]
    return [{"All decisions": "docs/decisions/README.md"}, *entries]


def stage(folder: Path = SOURCE) -> None:
    """Write the pages and the configuration of the site builder."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in collect():
        target = folder / "pages" / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(for_the_site(path), encoding="utf-8")
        else:
            shutil.copyfile(path, target)
    settings = SETTINGS.read_text(encoding="utf-8")
    # JSON of lists and texts is TOML too; of an object it is not, so each gets the form of an inline table.
    (folder / "zensical.toml").write_text(
        settings.replace("nav = []", f"nav = {_toml(navigation())}"), encoding="utf-8"
    )


def _toml(value: str | Nav) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    entries = [f"{{ {_toml(title)} = {_toml(entry)} }}" for each in value for title, entry in each.items()]
    return f"[{', '.join(entries)}]"


if __name__ == "__main__":
    stage()
