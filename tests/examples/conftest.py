"""The examples, started as their READMEs say: copies of their folders, real processes, and a Valkey for each test."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskfleet.child_process import ends_with_this_process
from tests.support import orphans
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
_PORTS = re.compile(r"\b(8000|8001|54320)\b")
_SECONDS = 60.0


class Program:
    """A running command of an example, with what it has printed."""

    def __init__(self, command: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self.command, self.process, self._file = command, process, output

    @property
    def output(self) -> str:
        return self._file.read_text(encoding="utf-8")

    def says(self, text: str) -> str:
        """Wait until it has printed `text`."""
        try:
            wait_until(lambda: text in self.output or self.process.poll() is not None, text, seconds=_SECONDS)
        except RuntimeError as error:
            raise AssertionError(f"{self.command}: {error}\n{self.output}") from None
        assert text in self.output, f"{self.command} ended with {self.process.returncode}:\n{self.output}"
        return self.output

    def ends(self, number: signal.Signals | None = None) -> int:
        """Wait for its end, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(_SECONDS)


class Example:
    """A copy of an example's folder; every command that a test gives must be in the README, as it is."""

    def __init__(self, name: str, folder: Path, redis_url: str) -> None:
        self.readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        self.folder = folder / name
        shutil.copytree(EXAMPLES / name, self.folder, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.db"))
        self._given = self.files()
        self._temporary = folder / "tmp"
        self._temporary.mkdir(mode=0o755)
        self._logs = folder / "logs"
        self._logs.mkdir()
        self._mark = f"TASKFLEET_EXAMPLE={secrets.token_hex(8)}"
        self._ports: dict[str, str] = {}
        self._started: list[Program] = []
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("REDIS_", "TASK", "PYTEST_"))
        } | {
            "REDIS_URL": redis_url,
            "TMPDIR": str(self._temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
            **dict([self._mark.split("=")]),
        }

    def port(self, shown: int) -> str:
        """The free port that a test has in place of one that the README shows."""
        return self._ports.setdefault(str(shown), str(free_port()))

    def start(self, command: str) -> Program:
        """Start a command of the README beside the test. It ends with the test, by Ctrl-C."""
        assert command in self._commands(), f"the README has no line {command!r}"
        words = shlex.split(self._with_ports(command))
        environment = dict(self.environment)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        program, *arguments = words
        as_module = [] if program == "python" else ["-m", program]
        output = self._logs / str(len(self._started))
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, *as_module, *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=ends_with_this_process(signal.SIGTERM),
            )
        self._started.append(Program(command, process, output))
        return self._started[-1]

    def run(self, command: str) -> str:
        """What a command of the README prints, which must end well."""
        program = self.start(command)
        code = program.ends()
        assert code == 0, f"{command} ended with {code}:\n{program.output}\n{self._last_words()}"
        return program.output

    def curl(self, command: str, task_id: str = "") -> tuple[str, dict[str, Any]]:
        """The URL and the arguments for httpx of a `curl` in the README."""
        assert command in self._commands(), f"the README has no line {command!r}"
        words = shlex.split(self._with_ports(command).replace("ID", task_id) if task_id else self._with_ports(command))
        url = next(word for word in words[1:] if word.startswith("localhost"))
        given = [(option, value) for option, value in itertools.pairwise(words) if option in {"-H", "-d"}]
        headers = dict(re.split(": *", value, maxsplit=1) for option, value in given if option == "-H")
        data = next((value for option, value in given if option == "-d"), None)
        method = "GET" if data is None else "POST"
        return f"http://127.0.0.1{url.removeprefix('localhost')}", {
            "method": method, "headers": headers, "content": data, "timeout": _SECONDS,
        }  # fmt: skip

    def asks(self, command: str, task_id: str = "") -> Any:
        """The JSON that a `curl` of the README gets."""
        url, arguments = self.curl(command, task_id)
        answer = httpx.request(url=url, **arguments)
        assert answer.is_success, f"{command}: {answer.status_code} {answer.text}\n{self._last_words()}"
        return answer.json()

    def shows(self, output: str) -> None:
        """The lines are in the README, with other numbers and ids."""
        shown = {_without_numbers(line) for line in self.readme.splitlines()}
        assert [line for line in output.splitlines() if _without_numbers(line) not in shown] == []

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}

    def end(self) -> None:
        """End all programs by Ctrl-C."""
        for program in reversed(self._started):
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGINT)
        late = [program for program in reversed(self._started) if not _ends(program.process)]
        for program in late:
            program.process.kill()
            program.process.wait()
        assert not late, self._last_words()

    def assert_nothing_remains(self, *kept: str) -> None:
        """No process, no temporary file, and no file in the folder but those `kept`, of which the README tells."""
        assert all(f"`{name}`" in self.readme for name in kept)
        wait_until(lambda: not self._processes(), f"no process of the example is left: {self._processes()}")
        assert [path.name for path in self._temporary.iterdir() if not path.name.startswith("pytest-of-")] == []
        assert {name for name in self.files() - self._given if not name.startswith(kept)} == set()

    def _processes(self) -> list[str]:
        """The processes in the folder of the example, or with its mark (Linux only)."""
        found: list[str] = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                marked = self._mark.encode() in (path / "environ").read_bytes()
                if marked or (path / "cwd").readlink().is_relative_to(self.folder):
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has ended, or is another user's
        return found

    def _with_ports(self, command: str) -> str:
        return _PORTS.sub(lambda shown: self.port(int(shown[0])), command)

    def _commands(self) -> set[str]:
        blocks = re.findall(r"^```sh\n(.*?)^```", self.readme, re.MULTILINE | re.DOTALL)
        lines = "".join(blocks).replace("\\\n", "").splitlines()
        return {re.sub(r"\s+", " ", line).removesuffix(" &").strip() for line in lines}

    def _last_words(self) -> str:
        return "\n".join(f"== {program.command}\n{program.output[-3000:]}" for program in self._started)


def _ends(process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process.returncode is not None


def _without_numbers(line: str) -> str:
    return re.sub(r"\b[0-9a-f]{17,}\b|\d+(\.\d+)?", "#", " ".join(line.split()))


MakeExample = Callable[..., Example]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def example(server: RedisServer) -> Iterator[MakeExample]:
    """`example("shop", kept=["shop.db"])`: it is ended after the test, and nothing may remain but what is `kept`."""
    # Not pytest's own folder, which only this user may enter: PostgreSQL runs as another one where this is root.
    folder = Path(tempfile.mkdtemp(prefix="taskfleet-example-"))
    folder.chmod(0o755)
    made: list[tuple[Example, tuple[str, ...]]] = []

    def make(name: str, *, kept: tuple[str, ...] = ()) -> Example:
        made.append((Example(name, folder, server.url), kept))
        return made[-1][0]

    watch = orphans.Watch()
    try:
        yield make
        for one, kept in made:
            one.end()
            one.assert_nothing_remains(*kept)
        assert watch.orphans([server]) == [], "nothing would ever remove these"
    finally:
        for one, _ in made:
            one.end()
        watch.clear([server])
        watch.close()
        shutil.rmtree(folder)
