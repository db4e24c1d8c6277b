"""Every code block of every page runs, or says what runs it instead. How: CONTRIBUTING.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import formats
from tests.docs.blocks import PAGES, REPOSITORY, Block, blocks_of, borrowed
from tests.docs.markers import CHORES_ONLY, NEEDS
from tests.docs.story import Story, copy_example

BLOCKS = {str(page.relative_to(REPOSITORY)): blocks for page in PAGES if (blocks := blocks_of(page))}


def to_run(name: str) -> list[Block]:
    """The blocks of a page in a folder of chores are read, and not run."""
    return [] if name.startswith(CHORES_ONLY) else BLOCKS[name]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BLOCKS)
def test_the_blocks_of_a_page_run(name: str, tmp_path: Path, empty_redis: str) -> None:
    for block in BLOCKS[name]:
        formats.check(block, tmp_path)
    folder = tmp_path / "page"
    folder.mkdir()
    copy_example(REPOSITORY / name, folder)
    with Story(folder, empty_redis) as story:
        story.run(to_run(name), borrowed(REPOSITORY / name))


def test_what_is_not_run_says_why() -> None:
    used = {block.marks["needs"] for blocks in BLOCKS.values() for block in blocks if "needs" in block.marks}
    assert used == NEEDS.keys()


@pytest.mark.parametrize("name", BLOCKS)
def test_the_markers_of_a_page_are_right(name: str) -> None:
    for block in BLOCKS[name]:
        if "tested" in block.marks:
            assert (REPOSITORY / block.marks["tested"]).is_file(), block.where
        if "illustration" in block.marks:
            assert block.is_output, f"{block.where}: only text illustrates"
            assert block.marks["illustration"], f"{block.where}: of what?"
        assert block.language not in {"javascript", "dockerfile"} or not block.runs, f"{block.where}: nothing runs it"
