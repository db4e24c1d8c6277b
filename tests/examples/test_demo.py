"""`make demo`: what a newcomer asks, the dashboard beside it answers."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskfleet.child_process import ends_with_this_process
from tests.examples.conftest import EXAMPLES
from tests.support import requirements
from tests.support.ports import free_port
from tests.support.redis_server import wait_until

ADDRESS = r"dashboard: (http://127\.0\.0\.1:\d+)$"


@pytest.fixture
def demo(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """The demo, with its output so far."""
    try:
        importlib.metadata.files("scikit-image")
    except importlib.metadata.PackageNotFoundError as error:
        requirements.cannot_run(
            pytestconfig, "example", f"{error}; install examples/thumbnails/*.txt with pip --no-deps"
        )
    output = tmp_path / "output"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("REDIS_", "TASK"))}
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [
                sys.executable, str(EXAMPLES / "thumbnails" / "demo.py"), "--tasks", "1500",
                "--dashboard-port", str(free_port()),
            ],
            env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
            preexec_fn=ends_with_this_process(signal.SIGTERM),
        )  # fmt: skip
    yield process, lambda: output.read_text(encoding="utf-8")
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.timeout(240)
def test_the_dashboard_of_the_demo_answers_a_newcomer(
    demo: tuple[subprocess.Popen[bytes], Callable[[], str]],
) -> None:
    process, output = demo
    found = wait_until(lambda: re.search(ADDRESS, output(), re.MULTILINE), "an address", seconds=90)
    with httpx.Client(base_url=f"{found[1]}/api/", timeout=30) as client:

        def get(path: str) -> Any:
            response = client.get(path)
            return response.json() if response.status_code == 200 else None

        def while_it_runs(condition: Callable[[], Any], what: str) -> Any:
            return wait_until(lambda: condition() or process.poll() is not None, what, seconds=120)

        # What runs tonight?
        [nightly] = while_it_runs(lambda: (get("schedules") or {}).get("items"), "the schedule")
        assert (nightly["name"], nightly["task"]) == ("nightly", "thumbnail")
        assert len(nightly["next"]) == 3
        # What failed last, and why?
        [failure] = while_it_runs(lambda: (get("overview") or {}).get("failures"), "the failure")
        assert "no photograph is called 'unicorn.png'" in failure["error"]
        # Why are there so many workers?
        explained = while_it_runs(
            lambda: (got := get("explain/local/thumbnails")) and got["desired"] > 1 and got, "a decision"
        )
        assert explained["why"]
        assert explained["lines"]
        # When will the backlog be gone?
        assert while_it_runs(
            lambda: (get("overview") or {"totals": {}})["totals"].get("drains_in_seconds"), "an estimate"
        )
        # What would happen if the target were halved?
        session = client.get("session").json()
        answer = client.post(
            "scalers/local/thumbnails/what-if",
            json={"target": {"drainSeconds": 5, "backlogPerReplica": 50}},
            headers={"X-CSRF-Token": session["csrf"]},
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["points"]
    assert process.wait(150) == 0, output()
    assert re.fullmatch(r"demo: 1500 tasks done, 0 lost, workers 0 → \d → 0, \d+ s", output().splitlines()[-1]), (
        output()
    )
