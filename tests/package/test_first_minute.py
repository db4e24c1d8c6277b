"""The README's first minute on every Python, from the wheel, where each warning is an error."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskfleet.child_process import ends_with_this_process
from tests.package import pythons, readme
from tests.package.conftest import MakeEnvironment
from tests.package.environments import Environment, environment_variables
from tests.support.ports import free_port

READY_SECONDS = 90  # beside busy processes
IMPORT_ALL = """
import importlib, pkgutil, sys
names = []
for top in sys.argv[1:]:
    package = importlib.import_module(top)
    names += [each.name for each in pkgutil.walk_packages(package.__path__, top + ".")]
for name in names:
    if not name.endswith(".__main__"):
        importlib.import_module(name)
print(len(names))
"""
# What a program that only sends tasks may not need anything for.
IMPORT_PUBLIC = """
import taskfleet, taskfleet.testing
for name in taskfleet.__all__:
    getattr(taskfleet, name)
import asyncio
from taskfleet.testing import InMemoryBroker

queue = taskfleet.TaskQueue(broker=InMemoryBroker())

@queue.task
async def double(number: int) -> int:
    return 2 * number

async def main():
    async with queue:
        handle = await double.enqueue(21)
        await queue.start_workers(1)
        print(await handle.result(timeout=30))
        await queue.stop_workers()

asyncio.run(main())
"""


@contextmanager
def dev(environment: Environment, command: list[str], folder: Path, port: int, **variables: str) -> Iterator[Path]:
    """`taskfleet dev` with its Valkey on this port, ready; Ctrl-C ends it with 0. Gives its output, a file."""
    output = folder / "dev.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [environment.command, *command[1:], "--port", str(port)],
            cwd=folder,
            env=environment_variables(**variables),
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=ends_with_this_process(),
        )
        try:
            until = time.monotonic() + READY_SECONDS
            while " is ready" not in output.read_text(encoding="utf-8"):
                assert process.poll() is None, output.read_text(encoding="utf-8")
                assert time.monotonic() < until, output.read_text(encoding="utf-8")
                time.sleep(0.05)
            yield output
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def run_first_minute(environment: Environment, folder: Path, **variables: str) -> None:
    """The file and the commands of the README give its result, without a warning and without a traceback."""
    wanted = readme.first_minute()
    (folder / wanted.file).write_text(wanted.code, encoding="utf-8")
    port = free_port()
    with dev(environment, wanted.dev, folder, port, **variables) as output:
        url = f"redis://localhost:{port}/0"
        sent = environment.run(*wanted.enqueue[1:], folder=folder, REDIS_URL=url, **variables)
        assert (sent.returncode, sent.stderr) == (0, "")
        task_id, result = sent.stdout.splitlines()
        assert re.fullmatch(r"[0-9a-f]{17}", task_id)
        assert result == wanted.result
    log = output.read_text(encoding="utf-8")
    assert f"{task_id} done in" in log
    assert "ended; no task is left" in log
    assert "Traceback" not in log
    assert "Warning" not in log


@pytest.mark.parametrize("version", pythons.VERSIONS)
def test_the_first_minute_of_the_readme_gives_its_result(
    version: str, make_environment: MakeEnvironment, folder: Path
) -> None:
    install = readme.first_minute().install
    assert install[:2] == ["pip", "install"]
    extras = re.fullmatch(r"taskfleet\[([\w,-]+)\]", install[2])
    assert extras, install
    run_first_minute(make_environment(version, extras[1]), folder, PYTHONWARNINGS="error")


@pytest.mark.parametrize("version", pythons.VERSIONS)
def test_every_module_is_imported_without_a_warning(
    version: str, make_environment: MakeEnvironment, folder: Path
) -> None:
    environment = make_environment(version, "all", "pytest")
    done = environment.run("-W", "error", "-c", IMPORT_ALL, "taskfleet", "taskfleet_operator", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 300


@pytest.mark.parametrize("version", pythons.VERSIONS)
def test_without_extras_the_library_works_and_the_command_says_what_to_install(
    version: str, make_environment: MakeEnvironment, folder: Path
) -> None:
    environment = make_environment(version)
    done = environment.run("-W", "error", "-c", IMPORT_PUBLIC, folder=folder)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "42\n")
    for arguments in ((), ("--version",), ("queues",), ("-m", "taskfleet", "queues")):
        done = environment.run(*arguments, folder=folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "taskfleet: typer is missing; install it with: pip install 'taskfleet[cli]'\n"
