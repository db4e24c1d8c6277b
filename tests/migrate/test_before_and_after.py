"""The application of each guide of docs/migrate gives the same results before and after the move, on a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.errors import PeerUnavailable
from bench.peer import Peer, Program
from bench.peers.arq import ARQ
from bench.peers.bullmq import BullMQ
from bench.peers.celery import CELERY
from bench.peers.dramatiq import DRAMATIQ
from bench.peers.rq import RQ

from tests.migrate.names_of_ours import codes, tables
from tests.support import requirements
from tests.support.redis_server import RedisServer

REPOSITORY = Path(__file__).parents[2]
HERE = Path(__file__).parent
PEERS: dict[str, Peer] = {"celery": CELERY, "rq": RQ, "arq": ARQ, "dramatiq": DRAMATIQ, "bullmq": BullMQ()}

WORKERS = {
    "celery": "celery -A before worker --queues celery,mail --pool threads --concurrency 4",
    "rq": "rq worker default mail --with-scheduler",
    "arq": "arq before.WorkerSettings",
    "dramatiq": "dramatiq before --processes 1 --threads 4",
    "bullmq": "node before.js worker",
}

HELP = {"celery": "celery worker", "rq": "rq.cli worker", "arq": "arq", "dramatiq": "dramatiq"}


def worker_of_ours(name: str) -> str:
    queues = " --queues default,mail" if name in {"celery", "rq", "dramatiq"} else ""
    return f"taskfleet worker after:queue{queues}"


def guide(name: str) -> str:
    return (REPOSITORY / "docs" / "migrate" / f"{name}.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Side:
    """One of the two applications."""

    worker: Sequence[str]
    program: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    log: Path

    def variables(self, url: str) -> dict[str, str]:
        return {**os.environ, **self.environment, "REDIS_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, url: str) -> str:
        """What the program prints, beside its worker."""
        done = subprocess.run(
            self.program,
            cwd=self.folder,
            env=self.variables(url),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr + self.log.read_text()
        return done.stdout


@contextmanager
def running(side: Side, url: str) -> Iterator[None]:
    """A worker beside the body, which is killed when it does not end after it."""
    with side.log.open("wb") as output:
        process = subprocess.Popen(
            side.worker, cwd=side.folder, env=side.variables(url), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield
        assert process.poll() is None, side.log.read_text()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def prepared(name: str, config: pytest.Config) -> Program:
    try:
        return PEERS[name].prepare()
    except PeerUnavailable as error:
        requirements.cannot_run(config, "migration", str(error))


@pytest.mark.timeout(300)  # the first run installs the other library
@pytest.mark.parametrize("name", WORKERS)
def test_both_applications_of_a_guide_give_the_results_that_it_shows(
    name: str, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    folder, peer = HERE / name, prepared(name, pytestconfig)
    script, *arguments = WORKERS[name].split()
    interpreter = peer.command[0]
    if name == "bullmq":
        before = Side([interpreter, *arguments], [interpreter, "before.js"], folder, peer.environment, tmp_path / "old")
    else:
        worker = [interpreter, "-m", {"rq": "rq.cli"}.get(script, script), *arguments]
        before = Side(worker, [interpreter, "before.py"], folder, {"PYTHONPATH": ""}, tmp_path / "old")
    worker = [sys.executable, "-m", *worker_of_ours(name).split()]
    after = Side(worker, [sys.executable, "after.py"], folder, {}, tmp_path / "new")

    # As during a move: both workers run, on one server.
    with RedisServer() as server, running(before, server.url), running(after, server.url):
        old, new = before.run(server.url), after.run(server.url)

    assert new == old
    assert f"```text\n{new}```" in guide(name)


@pytest.mark.parametrize("name", WORKERS)
def test_a_guide_shows_the_applications_and_their_workers(name: str) -> None:
    page, folder = guide(name), HERE / name
    for file in [*sorted(folder.glob("before.*")), folder / "after.py"]:
        language = {".py": "python", ".js": "javascript"}[file.suffix]
        assert f"```{language}\n{file.read_text(encoding='utf-8')}```" in page
    assert f"$ {WORKERS[name]}\n" in page
    assert f"$ {worker_of_ours(name)}\n" in page


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", HELP)
def test_a_guide_has_every_flag_of_the_other_worker(name: str, pytestconfig: pytest.Config) -> None:
    interpreter = prepared(name, pytestconfig).command[0]
    done = subprocess.run(
        [interpreter, "-m", *HELP[name].split(), "--help"], capture_output=True, text=True, check=True
    )
    shown = re.findall(r"^ +(?:-\w+,? +(?:[A-Z_]+, )?)?(--[a-z][a-z_-]*)", done.stdout, re.MULTILINE)
    flags = {flag for flag in shown if flag not in {"--help", "--version"}}
    assert len(flags) >= 4
    told = {re.sub(r"^(--\S+).*", r"\1", code) for first, _ in tables(guide(name)) for code in codes(first)}
    assert flags - told == set()


@pytest.mark.parametrize("name", WORKERS)
def test_a_guide_names_the_version_that_was_run(name: str) -> None:
    version = ".".join(PEERS[name].version.split(".")[:2])
    assert f" {version} and on Taskfleet" in guide(name)
    assert f" {version} | [" in guide("README")
