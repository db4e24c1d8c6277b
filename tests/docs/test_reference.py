"""The generated parts of docs/reference are those of the code, and have every public name, setting and command."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs.tooling import api_page, reference

import taskfleet


@pytest.mark.parametrize("page", reference.pages(), ids=lambda page: str(page.stem))
async def test_the_generated_parts_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert reference.render(text) == text, "run `make reference`"


def test_every_part_is_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in reference.pages())
    assert [part for part in reference.PARTS if f"<!-- generated: {part} -->" not in text] == []


def test_every_public_name_is_on_the_page_of_the_library_once() -> None:
    names = " ".join(api_page.TOPICS.values()).split()
    assert sorted(names) == sorted(taskfleet.__all__)
