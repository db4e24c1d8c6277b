"""Writes what docs/reference has of the code: `make reference`. tests/docs/test_reference.py fails when it is stale.

A part is between `<!-- generated: NAME -->` and `<!-- end -->`; the rest of a page is written by people.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from docs.tooling import api_page, command_page, metrics_tables, settings_page

FOLDER = Path(__file__).parents[1] / "reference"

PARTS: dict[str, Callable[[], str]] = {
    "api": api_page.render,
    "settings": settings_page.render,
    "commands": command_page.render,
    "commands of kubectl": command_page.render_kubectl,
    "metrics of a worker": metrics_tables.of_the_worker,
    "metrics of the operator": metrics_tables.of_the_operator,
    "metrics of the dashboard": metrics_tables.of_the_dashboard,
    "metrics of the queues": metrics_tables.of_the_queues,
}
_PART = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    return [path for path in sorted(FOLDER.glob("*.md")) if _PART.search(path.read_text(encoding="utf-8"))]


def render(page: str) -> str:
    """The page with its generated parts as the code is now."""
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]().strip()}\n\n{found[3]}", page)


async def write() -> None:
    for path in pages():
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    import asyncio

    asyncio.run(write())  # a worker, whose metrics are listed, needs a loop
