"""A real Chromium, and a server with a world that the test sets.

A page that breaks its content security policy, throws, or asks another origin for anything fails its test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.fixture_server import FixtureServer
from tests.browser.world import World
from tests.support import requirements

FRONT = Path(__file__).parents[2] / "dashboard" / "front"
TIER = "browser"
WAIT_MS = 60_000

Look = Callable[..., Any]

_WATCH = """
document.addEventListener("securitypolicyviolation", (e) =>
  console.error("CSP-VIOLATION " + e.violatedDirective + " " + e.blockedURI));
window.hacked = 0;
"""


def _chromium(config: pytest.Config) -> str:
    found = os.environ.get("TASKFLEET_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        requirements.cannot_run(config, TIER, "there is no Chromium; tests/browser/install.sh installs it on Debian")
    return found


@pytest.fixture(scope="package")
def chromium(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One browser for all tests of this folder."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)

    path = _chromium(request.config)
    # Chromium refuses its sandbox to root, and a container has little shared memory.
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def fixture_server() -> Iterator[FixtureServer]:
    with FixtureServer().running() as server:
        yield server


@pytest.fixture
def world(fixture_server: FixtureServer) -> World:
    """The fleet that the server shows: a new one for each test."""
    fixture_server.world = World()
    return fixture_server.world


@pytest.fixture
def look(chromium: Any, fixture_server: FixtureServer, world: World) -> Iterator[Look]:
    """Open a page: `look("/dead", width=360, scheme="dark")`. At the end, nothing may have gone wrong in any."""
    contexts: list[Any] = []
    problems: list[str] = []

    def open_page(
        path: str = "/", *, width: int = 1280, height: int = 800, scheme: str = "light", live: bool = True
    ) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            timezone_id="Europe/Berlin",
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(_WATCH)
        page = context.new_page()
        origin = fixture_server.url("")

        def asked(request: Any) -> None:
            if not request.url.startswith((origin + "/", "data:")):
                problems.append(f"{path} asked {request.url}")

        def said(message: Any) -> None:
            if message.type == "error" and (
                "CSP-VIOLATION" in message.text or "Content Security Policy" in message.text
            ):
                problems.append(f"{path}: {message.text}")

        page.on("request", asked)
        page.on("console", said)
        page.on("pageerror", lambda error: problems.append(f"{path} threw {error}"))
        page.goto(fixture_server.url(path))
        if live:
            page.wait_for_selector("[data-link=live]")
            page.wait_for_selector("main h1")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            if page.evaluate("window.hacked"):
                problems.append(f"{page.url} ran code that came from a task")
        context.close()
    assert not problems, "\n".join(problems)
