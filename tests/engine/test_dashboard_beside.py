"""The dashboard that `taskfleet dev` and `taskfleet up` serve: there while they run, and never longer."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskfleet.errors import ConfigurationError
from taskfleet.process import dashboard_process
from tests.engine import test_up
from tests.engine.test_dev import Dev, Start, called, folder, port, result, runs, send, start, wait
from tests.engine.test_up import read_until, schedules, up
from tests.support.redis_server import RedisServer

__all__ = ["folder", "port", "schedules", "start", "up"]

ADDRESS = r"dashboard: (http://127\.0\.0\.1:\d+)$"


def address(text: str) -> str:
    found = re.search(ADDRESS, text, re.MULTILINE)
    assert found is not None, text
    return found[1]


def serves(dev: Dev) -> str:
    """The address that it says, once it is there."""
    wait(lambda: re.search(ADDRESS, dev.output, re.MULTILINE), lambda: f"an address in:\n{dev.output}")
    return address(dev.output)


def get(url: str, path: str) -> Any:
    response = httpx.get(f"{url}/api/{path}", timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def dashboards(pid: int) -> list[int]:
    return test_up.children(pid, "dashboard")


@pytest.fixture
def dev(start: Start, port: int) -> Dev:
    return start("dev", "shop.tasks:queue", "--port", str(port), "--dashboard-port", "0")


def test_dev_says_where_its_dashboard_is_and_ctrl_c_ends_both(folder: Path, dev: Dev, port: int) -> None:
    url = serves(dev)
    assert result(folder, port, "version") == "1"
    assert send(folder, port, "version", "--delay", "600").returncode == 0
    session = get(url, "session")
    assert (session["may_change"], session["redis"]) == (True, f"localhost:{port}")
    [row] = get(url, "overview")["queues"]["items"]
    assert (row["name"], row["delayed"]) == ("default", 1)
    wait(lambda: get(url, "queues/default/history")["points"], lambda: "figures over time are recorded")
    (pid,) = dashboards(dev.process.pid)
    assert dev.ends() == 0
    assert dev.output.splitlines()[-1].endswith("ended; left in Redis, for the next worker: 1 delayed in default")
    assert not runs(pid)
    assert "Traceback" not in dev.output


def test_what_the_application_prints_is_taken_for_no_address(folder: Path, start: Start, port: int) -> None:
    code = folder / "shop" / "tasks.py"
    code.write_text(code.read_text() + '\nprint("dashboard: none of ours", flush=True)\n')
    dev = start("dev", "shop.tasks:queue", "--port", str(port), "--dashboard-port", "0")
    url = serves(dev)
    assert "dashboard | dashboard: none of ours" in dev.output
    assert get(url, "session")["may_change"]
    assert dev.ends() == 0
    assert "Traceback" not in dev.output


def test_an_open_page_does_not_hold_up_the_end(dev: Dev) -> None:
    url = serves(dev)
    dev.says("is ready")
    with httpx.stream("GET", f"{url}/api/events", params={"topics": "overview"}, timeout=30) as response:
        assert next(line for line in response.iter_lines() if line.startswith("event: ")) == "event: overview"
        (pid,) = dashboards(dev.process.pid)
        assert dev.ends() == 0
        assert not runs(pid)


def test_killing_dev_ends_the_dashboard(dev: Dev) -> None:
    serves(dev)
    (pid,) = dashboards(dev.process.pid)
    dev.process.kill()
    dev.process.wait()
    wait(lambda: not runs(pid), lambda: "the dashboard ends")


def test_a_dashboard_that_died_is_started_again_at_its_address(dev: Dev) -> None:
    url = serves(dev)
    (pid,) = dashboards(dev.process.pid)
    os.kill(pid, signal.SIGKILL)
    dev.says("the dashboard ended with -9; it is started again in 1.0 s")

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    wait(answers, lambda: f"it serves again: {dev.output}")
    assert dev.output.count("dashboard: http") == 1
    assert dev.ends() == 0


def test_a_port_that_another_program_has_is_told_before_anything_starts(folder: Path, start: Start, port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        dev = start("dev", "shop.tasks:queue", "--port", str(port), "--dashboard-port", str(number))
        assert dev.process.wait(60) == 2
    assert dev.output.splitlines()[-1] == (
        f"taskfleet: --dashboard-port {number}: another program has it; choose another port"
    )
    assert "is ready" not in dev.output
    both = called(folder, "dev", "shop.tasks:queue", "--no-dashboard", "--dashboard-port", "1")
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)
    assert "--no-dashboard" in both.stderr


def test_without_a_dashboard_there_is_none(start: Start, port: int) -> None:
    dev = start("dev", "shop.tasks:queue", "--port", str(port), "--no-dashboard")
    dev.says("is ready")
    assert dashboards(dev.process.pid) == []
    assert dev.ends() == 0
    assert "dashboard" not in dev.output


def test_the_usual_port_is_no_reason_not_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(dashboard_process, "DEFAULT_PORT", taken.getsockname()[1])
        with dashboard_process.beside("a:b", None, lambda _text: None) as process:
            assert process is not None
            assert process._port == 0


def test_a_package_that_is_missing_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_process, "_PARTS", ("no_such_package",))
    said: list[str] = []
    with dashboard_process.beside("a:b", None, said.append) as process:
        assert process is None
    assert said == ["no dashboard; for one: pip install 'taskfleet[web]'"]
    with pytest.raises(ConfigurationError, match="--dashboard-port: the dashboard needs"):
        with dashboard_process.beside("a:b", 8123, said.append):
            pass


def test_a_dashboard_that_cannot_start_says_why_and_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_process, "_WORKERS_FIRST_SECONDS", 0.0)
    said: list[str] = []
    with dashboard_process.beside("no_such_module:queue", 0, said.append) as process:
        assert process is not None

        def given_up() -> bool:
            process.tend()
            return process._start_at == float("inf")

        wait(given_up, lambda: f"it gives up: {said}")
        assert (process.url, process._child) == ("", None)
    assert len(said) == 1
    assert said[0].startswith("dashboard | taskfleet: ")
    assert "no_such_module" in said[0]


def test_up_serves_the_dashboard_of_its_fleet_until_it_ends(up: subprocess.Popen[str], server: RedisServer) -> None:
    said = read_until(up, "dashboard: http")
    url = address(said[-1].strip())
    assert get(url, "session")["redis"].endswith(f":{server.port}")

    def decided() -> bool:
        response = httpx.get(f"{url}/api/explain/local/naps", timeout=60)
        return response.status_code == 200 and response.json()["replicas"] == 2

    wait(decided, lambda: "it explains the fleet")
    (pid,) = dashboards(up.pid)
    up.send_signal(signal.SIGINT)
    rest, _ = up.communicate(timeout=60)
    assert up.returncode == 0, rest
    assert "Traceback" not in rest
    assert not runs(pid)


def test_killing_up_ends_the_dashboard(up: subprocess.Popen[str]) -> None:
    read_until(up, "dashboard: http")
    (pid,) = dashboards(up.pid)
    up.kill()
    test_up.wait_until_gone([pid])
