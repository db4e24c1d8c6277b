"""When a real browser has painted a page for the first time, and when its figures were there."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence

FIGURES = "main .stats, main .table, main .empty:not(:empty)"
_SIZE = {"width": 1280, "height": 800}
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_WAIT_MS = 60_000


def browser() -> str | None:
    """The Chromium of this machine."""
    return os.environ.get("TASKFLEET_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def first_paints(program: str, address: str, paths: Sequence[str]) -> list[tuple[str, float, float]]:
    """(path, first contentful paint, figures there), in ms since the address was asked for; each with an empty cache.

    The browser is new: the first of them also pays for its start.
    """
    from playwright.sync_api import sync_playwright

    found: list[tuple[str, float, float]] = []
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=program, args=arguments)
        for path in paths:
            context = chromium.new_context(viewport=_SIZE)
            page, began = context.new_page(), time.monotonic()
            page.goto(f"{address}{path}")
            page.wait_for_selector(FIGURES, timeout=_WAIT_MS)
            took = (time.monotonic() - began) * 1000
            found.append((path, float(page.evaluate(_PAINTED)), took))
            context.close()
        chromium.close()
    return found
