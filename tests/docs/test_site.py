"""The site has every page, in the navigation of docs/README.md. Its links are checked by `make docs`, strictly."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from docs.tooling import site

from tests.docs.blocks import REPOSITORY, blocks_of


def pages_in(nav: site.Nav) -> Iterator[str]:
    for each in nav:
        for entry in each.values():
            if isinstance(entry, str):
                yield entry
            else:
                yield from pages_in(entry)


def test_every_page_of_the_documentation_is_in_the_navigation_once() -> None:
    listed = [name for name in pages_in(site.navigation()) if name.startswith("docs/")]
    pages = sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*.md"))
    assert sorted(listed) == pages


def test_the_navigation_has_the_four_kinds() -> None:
    sections = [title for each in site.navigation() for title in each]
    assert sections == ["Taskfleet", "Start", "How-to guides", "Reference", "Explanation", "Contributing"]


def test_the_source_of_the_site_has_what_pages_link_to_and_nothing_hidden(tmp_path: Path) -> None:
    site.stage(tmp_path)
    settings = tomllib.loads((tmp_path / "zensical.toml").read_text(encoding="utf-8"))
    pages = tmp_path / "pages"
    for name in pages_in(settings["project"]["nav"]):
        text = (pages / name).read_text(encoding="utf-8")
        assert "\n<!-- hidden" not in text
        shown = [block.code for block in blocks_of(REPOSITORY / name) if not block.hidden]
        assert [block.code for block in blocks_of(pages / name)] == shown
    assert (pages / "docs" / "images" / "architecture.svg").is_file()
    assert (pages / "CONTRIBUTING.md").is_file()
