"""The options of `taskfleet worker`, read with and without Typer."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskfleet.cli import app, worker_run
from taskfleet.cli.worker_options import WorkerOptions, read

APP = """
import asyncio, os, signal, sys
from taskfleet import Middleware, TaskQueue

def tell():
    print(*sys.modules, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

class Tell(Middleware):
    async def startup(self, worker):
        asyncio.get_running_loop().call_later(0.5, tell)

queue = TaskQueue(os.environ.get("APP_URL", "memory://"), middleware=[Tell()])

@queue.task
async def add(one: int, other: int = 1, note: str | None = None) -> int:
    return one + other
"""


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("shop:queue", {}),
        ("shop:queue --queues high:6,default:3 --concurrency 8", {"queues": "high:6,default:3", "concurrency": 8}),
        ("--burst shop:queue --probe-host=0.0.0.0", {"burst": True, "probe_host": "0.0.0.0"}),
        ("--probe-port=9100 --check shop:queue --reload", {"probe_port": 9100, "check": True, "reload": True}),
        ("shop:queue --redis= --name a=b", {"redis": "", "name": "a=b"}),
    ],
)
def test_a_plain_line_is_read(line: str, options: dict[str, Any]) -> None:
    assert read(line.split()) == WorkerOptions("shop:queue", **options)


@pytest.mark.parametrize(
    "line",
    [
        "", "--help", "shop:queue --help", "shop:queue other:queue", "shop:queue --unknown 1", "shop:queue -x",
        "shop:queue --concurrency", "shop:queue --concurrency x", "shop:queue --concurrency 0", "shop:queue --burst=1",
        "shop:queue --concurrency 10001", "shop:queue --concurrency +1", "shop:queue --probe-port 65536",
        "shop:queue --name a --name b", "shop:queue --name --burst", "shop:queue --concurrency ²", "-- shop:queue",
        "shop:queue --conc 1",
    ],
)  # fmt: skip
def test_any_other_line_is_left_to_typer(line: str) -> None:
    assert read(line.split()) is None


def by_typer(monkeypatch: pytest.MonkeyPatch, line: list[str]) -> WorkerOptions | None:
    """What the command makes of a line; None for an error."""
    found: list[WorkerOptions] = []

    def run(options: WorkerOptions) -> int:
        found.append(options)
        return 0

    monkeypatch.setattr(worker_run, "run", run)
    return found[0] if app.run(["worker", *line]) == 0 else None


def test_both_ways_know_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same defaults and the same bounds."""
    assert by_typer(monkeypatch, ["shop:queue"]) == read(["shop:queue"]) == WorkerOptions("shop:queue")
    for each in dataclasses.fields(WorkerOptions)[1:]:
        option = f"--{each.name.replace('_', '-')}"
        if each.default is False:
            lines = [[option]]
        elif (bounds := each.metadata.get("range")) is None:
            lines = [[option, "text"], [f"{option}=a=b"], [option, ""]]
        else:
            numbers = [bounds[0], bounds[-1]]
            if each.name != "number":  # which only a parent gives
                numbers += [bounds[0] - 1, bounds[-1] + 1]
            lines = [[f"{option}={number}"] for number in numbers]
        for line in lines:
            assert by_typer(monkeypatch, ["shop:queue", *line]) == read(["shop:queue", *line]), line


def modules_of(tmp_path: Path, *options: str) -> set[str]:
    """What `taskfleet worker` has imported when it waits for tasks."""
    (tmp_path / "memory_app.py").write_text(APP)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "worker", "memory_app:queue", *options],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_a_worker_has_imported_nothing_of_the_command_line(tmp_path: Path) -> None:
    """Each would stay in its memory."""
    loaded = modules_of(tmp_path)
    assert "taskfleet.runtime.worker" in loaded
    mine = {each for each in loaded if each.startswith("taskfleet.cli.")}
    assert mine == {
        f"taskfleet.cli.{name}" for name in ("extras", "redirecting", "worker_command", "worker_options", "worker_run")
    }
    others = (
        "pydantic typer click rich yaml prometheus_client fastapi uvicorn "
        "kopf aiohttp taskfleet_operator taskfleet_dashboard"
    )
    assert not loaded & set(others.split())


UNUSED = """
child_process cli.worker_supervising inspection.decoding inspection.listing inspection.reading inspection.retrying
inspection.task_info inspection.waiting process.burst process.families process.figures_pipe process.merged_figures
process.metrics process.probes process.supervisor producer.workflow_sender protocol.broker protocol.dead_letter
protocol.encryption protocol.progress runtime.executors.import_path runtime.executors.process_child
runtime.executors.process_connection runtime.executors.process_executor runtime.executors.process_frames
runtime.running.batch_runs scheduling.record scheduling.timing tasks.batch tasks.class_task tasks.dependency_plan
travel.annotated validated_sections workflows
"""


def test_a_worker_has_imported_no_feature_that_it_does_not_use(tmp_path: Path) -> None:
    assert not modules_of(tmp_path) & {f"taskfleet.{name}" for name in UNUSED.split()}


@pytest.mark.parametrize("name", UNUSED.split())
def test_each_of_these_modules_is_there(name: str) -> None:
    assert importlib.util.find_spec(f"taskfleet.{name}") is not None
