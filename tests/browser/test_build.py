"""The committed pages are what the sources make, byte for byte."""

from __future__ import annotations

import filecmp
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.browser.conftest import FRONT, TIER
from tests.browser.fixture_server import STATIC
from tests.support import requirements


def run(request: pytest.FixtureRequest, *arguments: str) -> str:
    if shutil.which("npm") is None or not (FRONT / "node_modules" / "esbuild").exists():
        requirements.cannot_run(
            request.config, TIER, "there is no npm, or its packages are not installed: tests/browser/install.sh"
        )
    done = subprocess.run(arguments, cwd=FRONT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_built_pages_are_not_stale(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run(request, "node", "build.mjs", "--out", str(tmp_path / "static"))
    fresh = sorted(path.relative_to(tmp_path / "static") for path in (tmp_path / "static").rglob("*") if path.is_file())
    kept = sorted(path.relative_to(STATIC) for path in STATIC.rglob("*") if path.is_file())
    assert fresh == kept, "run `make dashboard`"
    same, different, broken = filecmp.cmpfiles(STATIC, tmp_path / "static", [str(path) for path in kept], shallow=False)
    assert (different, broken) == ([], []), "run `make dashboard`"
    assert len(same) == len(kept)


def test_the_types_of_the_api_are_not_stale(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run(request, "node_modules/.bin/openapi-typescript", "openapi.json", "--output", str(tmp_path / "schema.ts"))
    assert (tmp_path / "schema.ts").read_text() == (FRONT / "src" / "api" / "schema.ts").read_text(), (
        "run `make dashboard`"
    )


def test_the_sources_pass_the_type_checker(request: pytest.FixtureRequest) -> None:
    run(request, "node_modules/.bin/tsc", "--noEmit")


def test_the_page_names_its_files_by_their_content_and_has_nothing_inline() -> None:
    page = (STATIC / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert re.fullmatch(r"assets/[\w.]+-[A-Za-z0-9]{8}\.(js|css|svg)", name), name
        assert (STATIC / name).is_file()
    assert not re.search(r"<style|style=|<script[^>]*>[^<]|\son\w+=", page)


def test_no_file_of_the_pages_leads_to_another_origin() -> None:
    for path in [*STATIC.rglob("*.js"), *STATIC.rglob("*.css"), STATIC / "index.html"]:
        addresses = set(re.findall(r"https?://[\w.-]+", path.read_text()))
        # Names of XML dialects, and no places; Preact gives them to the browser for SVG and MathML.
        assert addresses <= {"http://www.w3.org"}, path.name


def test_no_lock_file_names_a_registry() -> None:
    lock = (FRONT / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity"' in lock
