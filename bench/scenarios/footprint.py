"""What our own processes hold in memory when they have nothing to do, started by the commands that users start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError
from tests.support.ports import free_port

from bench import environments
from bench.errors import BenchError
from bench.peer import CHECKOUT
from bench.scenarios.stage import START_SECONDS, Stage, pause
from taskfleet import __version__
from taskfleet.child_process import ends_with_this_process

UNITS = {"worker_mb": "MB", "workers_mb": "MB", "operator_mb": "MB"}
"""Resident memory of `taskfleet worker`, of a worker with four processes together, in which a page that they share
counts once, and of `taskfleet operator`. All with the packages of their images."""

_SETTLE_SECONDS = 3.0
_APPLICATION = """
import os
from taskfleet import TaskQueue
queue = TaskQueue(os.environ["REDIS_URL"])

@queue.task
async def noop(at: float) -> None: ...
"""


def footprint(stage: Stage) -> dict[str, float]:
    """The commands, one after the other. Without the API server's binaries, and Go to build them, no operator."""
    with tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder:
        (Path(folder) / "application.py").write_text(_APPLICATION, encoding="utf-8")
        figures = {
            "worker_mb": _workers(stage, folder, 1),
            "workers_mb": _workers(stage, folder, stage.load.processes),
        }
    try:
        with ControlPlane() as plane, tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder:
            figures["operator_mb"] = _operator(plane, folder)
    except ClusterError as missing:
        print(f"bench: no figure of the operator: {missing}", file=sys.stderr)
    return figures


def _workers(stage: Stage, folder: str, count: int) -> float:
    python = environments.python_environment("taskfleet", __version__, CHECKOUT / "requirements" / "worker.txt")
    command = [str(python), "-m", "taskfleet", "worker", "application:queue", "--processes", str(count)]
    path = os.pathsep.join((folder, str(CHECKOUT / "worker")))
    settings = {"REDIS_URL": stage.server.url, "PYTHONPATH": path}
    with _running(command, settings, lambda: stage.server.blocked() >= count) as pid:  # each waits for tasks
        if count == 1:
            return _resident_mb(pid)
        return sum(_resident_mb(member, field="Pss") for member in _family(pid))


def _operator(plane: ControlPlane, folder: str) -> float:
    _register(Path(folder))
    python = environments.python_environment("operator", __version__, CHECKOUT / "requirements" / "operator.txt")
    plane.kubectl()("apply", "--server-side", "-f", str(CHECKOUT / "crds" / "taskqueue.yaml"))
    port = free_port()
    command = [str(python), "-m", "taskfleet", "operator", "-n", "default", "--probe-port", str(port)]
    path = os.pathsep.join((folder, str(CHECKOUT / "worker"), str(CHECKOUT / "operator")))
    settings = {"KUBECONFIG": str(plane.kubeconfig), "PYTHONPATH": path}
    with _running(command, settings, lambda: _is_ready(port)) as pid:
        return _resident_mb(pid)


def _register(folder: Path) -> None:
    """Write what an installed package has beside its code, from which `taskfleet` knows the command of the operator."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = folder / f"taskfleet-{__version__}.dist-info"
    about.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: taskfleet\nVersion: {__version__}\n"
    (about / "METADATA").write_text(metadata, encoding="utf-8")
    command = project["entry-points"]["taskfleet.commands"]["operator"]
    (about / "entry_points.txt").write_text(f"[taskfleet.commands]\noperator = {command}\n", encoding="utf-8")


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def _running(command: list[str], settings: Mapping[str, str], is_there: Callable[[], bool]) -> Generator[int]:
    """The process, once `is_there`. Its standard error is kept, and its last line is told when it is not."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            preexec_fn=ends_with_this_process(),
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not is_there():
                if process.poll() is not None or time.monotonic() > deadline:
                    errors.seek(0)
                    last = (errors.read().splitlines() or ["it said nothing"])[-1]
                    raise BenchError(f"`{' '.join(command[2:])}` is not ready: {last}")
                pause(0.1)
            pause(_SETTLE_SECONDS)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _resident_mb(pid: int, field: str = "Rss") -> float:
    """Resident memory. With `Pss` a page that n processes share counts for an nth in each of them."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = re.search(rf"^{field}: +(\d+) kB$", rollup, re.MULTILINE)
    if found is None:
        raise BenchError(f"the kernel does not tell the {field} of a process")
    return int(found[1]) * 1024 / 1e6
