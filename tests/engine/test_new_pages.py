"""Blocks of pages that need more than a folder and a Redis: the tutorial's fleet, and workers without Kubernetes."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskfleet import __version__
from tests.engine.conftest import MakeQueue, until
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"


def has_compose() -> bool:
    """Whether there is the plug-in; it checks a file without an engine."""
    docker = shutil.which("docker")
    return docker is not None and not subprocess.run([docker, "compose", "version"], capture_output=True).returncode


def write_files(page: Path, folder: Path) -> None:
    """The files of a page as they are at its end: blocks whose first line is a comment with the file's name."""
    for name, source in re.findall(r"```\w+\n# ([\w/.@-]+)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASK", "REDIS"))}
    return kept | {"PYTHONUNBUFFERED": "1"} | variables


async def line_with(output: asyncio.StreamReader, pattern: str) -> re.Match[str]:
    """The first line that matches."""
    printed: list[str] = []
    while line := (await asyncio.wait_for(output.readline(), 60)).decode():
        printed.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"no line matches {pattern!r}:\n{''.join(printed)}")


async def test_the_fleet_of_the_tutorial_comes_and_goes(tmp_path: Path) -> None:
    page = DOCS / "tutorial.md"
    write_files(page, tmp_path)
    manifest = tmp_path / "taskqueue.yaml"
    manifest.write_text(manifest.read_text("utf-8").replace("cooldownSeconds: 15", "cooldownSeconds: 1"), "utf-8")
    fleet = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskfleet", "up", "taskqueue.yaml"),
        cwd=tmp_path,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert fleet.stdout is not None
    try:
        url = (await line_with(fleet.stdout, r"producers: export REDIS_URL=(\S+)"))[1]
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "order.py"),
            cwd=tmp_path,
            env=environment(REDIS_URL=url),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(program.communicate(), 60)
        assert program.returncode == 0
        assert f"```text\n{out.decode()}```" in page.read_text(encoding="utf-8")
        await line_with(fleet.stdout, r"workers 0 → 1  BacklogPerReplica")
        await line_with(fleet.stdout, r"shop-worker-\w+-1 is ready")
        await line_with(fleet.stdout, r"workers 1 → 0  Idle")
    finally:
        fleet.send_signal(signal.SIGINT)
        rest, _ = await asyncio.wait_for(fleet.communicate(), 60)
    assert fleet.returncode == 0, rest


async def test_a_worker_tells_of_its_class_tasks(make_queue: MakeQueue, tmp_path: Path) -> None:
    """docs/how-to/class-tasks.md: its tasks and their queue are the application's like those of functions."""
    write_files(DOCS / "how-to" / "class-tasks.md", tmp_path)
    queue = make_queue()
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskfleet", "worker", "refunds:queue", "--queues", "payment", "--burst"),
        cwd=tmp_path,
        env=environment(REDIS_URL=queue.url, TASKFLEET_REDIS__KEY_PREFIX=queue.broker.prefix),
        stderr=asyncio.subprocess.PIPE,
    )
    printed = (await asyncio.wait_for(worker.communicate(), 60))[1].decode()
    assert "no task of the application goes to queue 'payment' (did you mean 'payments'?)" in printed
    assert "queues payment:1, 2 tasks" in printed


async def test_two_versions_of_the_library_share_a_queue(make_queue: MakeQueue, tmp_path: Path) -> None:
    """docs/how-to/upgrading.md: both are listed and run tasks, and the doctor names the one of another version."""
    write_files(DOCS / "how-to" / "upgrading.md", tmp_path)
    package = REPOSITORY / "worker" / "taskfleet"
    shutil.copytree(package, tmp_path / "later" / "taskfleet", ignore=shutil.ignore_patterns("__pycache__"))
    version = tmp_path / "later" / "taskfleet" / "version.py"
    version.write_text(version.read_text("utf-8").replace(f'"{__version__}"', '"99.0"'), encoding="utf-8")
    queue = make_queue()
    old = environment(REDIS_URL=queue.url, TASKFLEET_REDIS__KEY_PREFIX=queue.broker.prefix)
    new = old | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "later"), old.get("PYTHONPATH", "")])}

    async def command(*arguments: str) -> str:
        """The output of a command of the later version."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taskfleet", *arguments),
            cwd=tmp_path,
            env=new,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return (await asyncio.wait_for(process.communicate(), 90))[0].decode()

    async def worker(name: str, variables: dict[str, str]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taskfleet", "worker", "old_shop:queue", "--name", name, "--concurrency", "1"),
            cwd=tmp_path,
            env=variables,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        await line_with(process.stderr, "1 slots")
        return process

    async def registered() -> bool:
        return {info.name for info in await queue.broker.workers()} == {"old", "new"}

    workers = [await worker("old", old), await worker("new", new)]
    try:
        await until(registered, "both have sent a heartbeat, which comes after the line of the start", seconds=60)
        listed = {line.split()[0]: line for line in (await command("workers")).splitlines()}
        assert "99.0" in listed["new/0"]
        assert __version__ in listed["old/0"]
        assert (
            f"warning: worker-version old/0: it runs version {__version__}, and this program is 99.0\n"
            "    do: restart it with the version of the others\n"
        ) in await command("doctor")
        sent = [await command("enqueue", "send_email", "--app", "old_shop:queue", "--args", '["a"]', "--wait", "60")]
        workers[1].terminate()
        await asyncio.wait_for(workers[1].communicate(), 60)
        sent += [await command("enqueue", "send_email", "--app", "old_shop:queue", "--args", '["b"]', "--wait", "60")]
        assert [each.splitlines()[1:] for each in sent] == [['"sent to a"'], ['"sent to b"']]
    finally:
        for process in workers:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.communicate(), 60)
    assert [process.returncode for process in workers] == [0, 0]


WITHOUT_KUBERNETES = DOCS / "how-to" / "without-kubernetes.md"


def unit_of(folder: Path) -> tuple[Path, dict[str, str], dict[str, str]]:
    """The unit of the page with the application in `folder`, the settings of its section [Service], the environment."""
    unit = folder / "taskfleet-worker@.service"
    text = unit.read_text(encoding="utf-8").replace("/srv/shop", str(folder))
    unit.write_text(text.replace("User=shop", f"User={getpass.getuser()}"), encoding="utf-8")
    service = text.partition("[Service]\n")[2].partition("\n[Install]")[0]
    settings = [line.split("=", 1) for line in service.splitlines() if line]
    return unit, dict(settings), dict(value.split("=", 1) for name, value in settings if name == "Environment")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The files of the page, and a command `taskfleet` where its virtual environment has it."""
    write_files(WITHOUT_KUBERNETES, tmp_path)
    command = tmp_path / ".venv" / "bin" / "taskfleet"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m taskfleet "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return tmp_path


async def run_and_stop(command: list[str], folder: Path, variables: dict[str, str], grace: str) -> None:
    """Run a worker, let it run a task, and stop it as a supervisor does. It ends within `grace` seconds with 0."""
    worker = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment(**variables), stderr=asyncio.subprocess.PIPE
    )
    assert worker.stderr is not None
    try:
        await line_with(worker.stderr, r"16 slots, queues default:1, 1 tasks")
        sender = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taskfleet", "enqueue", "send_email", "--app", "shop.tasks:queue"),
            *("--args", '["ada@example.com"]', "--wait", "60"),
            cwd=folder,
            env=environment(**variables),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(sender.communicate(), 90)
        assert out.decode().splitlines()[1:] == ['"sent to ada@example.com"']
    finally:
        worker.terminate()
        rest = (await asyncio.wait_for(worker.communicate(), float(grace)))[1].decode()
    assert worker.returncode == 0, rest
    assert "ended, nothing held" in rest


async def test_the_command_of_the_systemd_unit_runs_and_stops(make_queue: MakeQueue, shop: Path) -> None:
    _, service, variables = unit_of(shop)
    command = service["ExecStart"].replace("808%i", str(free_port())).replace("%H", "host").replace("%i", "1")
    queue = make_queue()
    variables |= {"REDIS_URL": queue.url, "TASKFLEET_REDIS__KEY_PREFIX": queue.broker.prefix}
    await run_and_stop(shlex.split(command), Path(service["WorkingDirectory"]), variables, service["TimeoutStopSec"])
    assert float(service["TimeoutStopSec"]) >= float(variables["TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD"]) + 10


async def test_the_systemd_unit_restarts_a_worker_but_not_a_mistake(make_queue: MakeQueue, shop: Path) -> None:
    _, service, _ = unit_of(shop)
    worker = await asyncio.create_subprocess_exec(
        *(str(shop / ".venv" / "bin" / "taskfleet"), "worker", "shop.tasks:queu"),
        cwd=shop,
        env=environment(REDIS_URL=make_queue().url),
        stderr=asyncio.subprocess.PIPE,
    )
    assert "did you mean" in (await asyncio.wait_for(worker.communicate(), 60))[1].decode()
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", str(worker.returncode))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(shop: Path) -> None:
    unit, _, _ = unit_of(shop)
    instance = unit.rename(unit.with_name("taskfleet-worker@1.service"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(instance)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "taskfleet" in line]
    assert (ours, done.returncode) == ([], 0)


def services_of(shop: Path) -> dict[str, Any]:
    return yaml.safe_load((shop / "compose.yaml").read_text(encoding="utf-8"))["services"]


async def test_the_command_of_the_compose_file_runs_and_stops(make_queue: MakeQueue, shop: Path) -> None:
    worker = services_of(shop)["worker"]
    port = str(free_port())
    arguments = [port if argument == "8080" else argument for argument in worker["command"]]
    queue = make_queue()
    variables = worker["environment"] | {"REDIS_URL": queue.url, "TASKFLEET_REDIS__KEY_PREFIX": queue.broker.prefix}
    entry = re.search(r'^ENTRYPOINT \["(\w+)"\]$', (REPOSITORY / "Dockerfile.worker").read_text("utf-8"), re.MULTILINE)
    assert entry is not None
    assert entry[1] == "taskfleet"
    command = [str(shop / ".venv" / "bin" / entry[1]), *arguments]
    await run_and_stop(command, shop, variables, worker["stop_grace_period"].removesuffix("s"))


async def test_the_health_check_of_the_compose_file_asks_the_worker(make_queue: MakeQueue, shop: Path) -> None:
    worker = services_of(shop)["worker"]
    _, _, program = worker["healthcheck"]["test"][1:]
    port = str(free_port())
    running = await asyncio.create_subprocess_exec(
        *(str(shop / ".venv" / "bin" / "taskfleet"), *[port if a == "8080" else a for a in worker["command"]]),
        cwd=shop,
        env=environment(REDIS_URL=make_queue().url),
        stderr=asyncio.subprocess.PIPE,
    )
    assert running.stderr is not None
    check = [sys.executable, "-c", program.replace("8080", port)]
    try:
        await line_with(running.stderr, r"16 slots")
        alive = await asyncio.create_subprocess_exec(*check)
        assert await asyncio.wait_for(alive.wait(), 60) == 0
    finally:
        running.terminate()
        await asyncio.wait_for(running.communicate(), 60)
    gone = await asyncio.create_subprocess_exec(*check, stderr=asyncio.subprocess.DEVNULL)
    assert await asyncio.wait_for(gone.wait(), 60) == 1


def test_the_redis_of_the_compose_file_keeps_tasks(shop: Path) -> None:
    program, *options = services_of(shop)["redis"]["command"]
    assert program == "valkey-server"
    with RedisServer(*options) as server:
        assert server.call("CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]
        assert server.call("CONFIG", "GET", "appendonly") == [b"appendonly", b"yes"]


@pytest.mark.skipif(not has_compose(), reason="needs docker compose")
def test_compose_accepts_the_file(shop: Path) -> None:
    done = subprocess.run(
        ["docker", "compose", "--file", "compose.yaml", "config", "--quiet"],
        cwd=shop, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
