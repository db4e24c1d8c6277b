"""The pictures of the documentation: `pytest tests/browser/test_screenshots.py --screenshots` writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Look
from tests.browser.paths import PAGES

IMAGES = Path(__file__).parents[2] / "docs" / "images"
LARGEST_BYTES = 200_000

PICTURES = {
    "overview": ("overview", 1200, 820, "light"),
    "queue": ("queue", 1200, 820, "light"),
    "task": ("task", 1200, 1000, "light"),
    "dead": ("dead", 1200, 640, "light"),
    "autoscaler": ("autoscaler", 1200, 1060, "light"),
    "overview-dark": ("overview", 1200, 820, "dark"),
    "narrow": ("overview", 360, 820, "light"),
}


@pytest.mark.parametrize("picture", list(PICTURES))
def test_a_picture_of_the_docs_can_be_taken(
    look: Look, picture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Without `--screenshots` it is taken into a temporary folder, so that the picture stays possible."""
    name, width, height, scheme = PICTURES[picture]
    page = look(PAGES[name][0], width=width, height=height, scheme=scheme)
    page.wait_for_selector("main .stats, main .table, main .life")
    expect(page.locator("main").get_by_text("Loading …")).to_have_count(0)
    if name in {"queue", "autoscaler"}:
        expect(page.locator(".plot .line").first).to_be_visible()
    folder = IMAGES if request.config.getoption("screenshots") else tmp_path
    path = folder / f"dashboard-{picture}.png"
    page.screenshot(path=path)
    assert 5_000 < path.stat().st_size < LARGEST_BYTES
