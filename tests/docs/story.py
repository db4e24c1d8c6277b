"""Runs the blocks of a page, from the first to the last, in an empty folder beside an empty Redis."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from taskfleet.child_process import ends_with_this_process
from tests.docs import output
from tests.docs.blocks import REPOSITORY, Block, Command, commands_of
from tests.support.ports import free_port

_SERVER = re.compile(
    r"^(?:[A-Z_]+=\S* )*"
    r"(?:taskfleet (?:worker|dev|up|dashboard|operator|keda-scaler)\b(?! crd| chart|.*--burst)"
    r"|uvicorn |django-admin runserver|flask .*\brun\b)"
)
_READING = re.compile(
    r"taskfleet (?:queues|workers|top --once|task (?:list|show|search)|dead (?:list|show)|schedules list)\b"
    r"|curl -s(?! -X)"
)
_NOT_RUN = re.compile(r"^(?:pip|uv pip) install |^python3? -m venv |^(?:\.|source) \S*/activate$")
_SECONDS = 60
_PORTS = ("8000", "8081")  # of pages, where other programs may listen


class Story:
    """One page. Everything that it starts ends with it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.seconds = 30.0  # for lines that somebody prints
        self._home = self._folder = folder
        self._url = url
        self._ports = {port: str(free_port()) for port in _PORTS}
        self._environment = self._first_environment()
        self._interpreter: Interpreter | None = None
        self._servers: list[Server] = []
        self._printed: list[str] = []
        self._ids: dict[str, str] = {}
        self._of_python: str | None = None
        self._files: dict[str, Block] = {}
        self._done: set[str] = set()  # files that ran as a program

    def _first_environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASK", "REDIS", "COLUMNS"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        return kept | {"PATH": path, "REDIS_URL": self._url, "PYTHONDONTWRITEBYTECODE": "1"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.kill()
        if self._interpreter is not None:
            self._interpreter.kill()

    def run(self, blocks: Sequence[Block], files: Sequence[Block] = ()) -> None:
        """Run them all, among these files. `AssertionError` names the line of the page and what was printed."""
        for block in (*files, *reversed(blocks)):  # of two files of one name, the first is there at the beginning
            if block.file is not None:
                self._write(block)
        for block in files:
            self._files.pop(block.file or "", None)  # their own page imports them
        for index, block in enumerate(blocks):
            below = blocks[index + 1] if index + 1 < len(blocks) else None
            if block.runs:
                shown = below if below is not None and below.follows and below.is_output and below.runs else None
                self._run(block, shown)
            elif block.file is not None:
                self._write(block)
        self._use_the_rest()
        self._end()

    def _run(self, block: Block, shown: Block | None) -> None:
        if block.file is not None:
            self._write(block)
            if block.file.endswith(".py") and shown is not None:
                self._program(block, shown)
        elif block.is_python:
            self._snippet(block, shown)
        elif block.is_shell:
            for command in commands_of(block):
                self._command(block, command)
        elif block.is_output and self._of_python != block.where:
            self._output(block)

    # Files and Python

    def _write(self, block: Block) -> None:
        assert block.file is not None
        path = self._home / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        code = self._here(block.code)
        if not path.exists() or path.read_text(encoding="utf-8") != code:  # a reloading server sees each change
            path.write_text(code, encoding="utf-8")
        self._files[block.file] = block

    def _program(self, block: Block, shown: Block) -> None:
        name = block.file or ""
        self._done.add(name)
        printed = self._call(block, [sys.executable, name])
        self._expect(shown, shown.code.splitlines(), printed.splitlines(), exact=True)
        self._of_python = shown.where

    def _call(self, block: Block, command: Sequence[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            preexec_fn=ends_with_this_process(),
        )
        assert done.returncode == 0, f"{block.where}: {done.stdout}{done.stderr}"
        return done.stdout

    def _snippet(self, block: Block, shown: Block | None) -> None:
        if self._interpreter is None:
            self._interpreter = Interpreter(self._folder, self._environment)
        printed, error = self._interpreter.run(block, self._here(block.code))
        assert error is None, f"{block.where}: {printed}{error}"
        if shown is not None:
            self._expect(shown, shown.code.splitlines(), printed.splitlines(), exact=True)
            self._of_python = shown.where
        self._printed += printed.splitlines()

    def _use_the_rest(self) -> None:
        """Tests run; other files that nothing has run must at least be importable."""
        rest = {
            name: block
            for name, block in self._files.items()
            if name.endswith(".py") and name not in self._done and block.runs
        }
        tests = [name for name in rest if Path(name).name.startswith("test_")]
        if tests:
            options = ("-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", str(self._home))
            self._call(rest[tests[0]], [sys.executable, "-m", "pytest", *options, *tests])
        modules = [name.removesuffix(".py").replace("/", ".") for name in rest if name not in tests]
        if modules:
            program = "import importlib, sys; sys.path.insert(0, ''); [*map(importlib.import_module, sys.argv[1:])]"
            self._call(next(iter(rest.values())), [sys.executable, "-c", program, *modules])

    # Commands

    def _command(self, block: Block, command: Command) -> None:
        text = self._here(command.text)
        for name in self._files:
            if re.search(rf"\bpython3? {re.escape(name)}", text):
                self._done.add(name)
        if _NOT_RUN.match(text):
            return
        beside = text.rstrip().endswith("&") and not text.rstrip().endswith("&&")
        if beside or _SERVER.match(text):
            self._beside(block, command, text.rstrip().removesuffix("&").rstrip())
        elif text.strip() == "^C":
            self._interrupt()
        else:
            self._at_once(block, command, text)

    def _at_once(self, block: Block, command: Command, text: str) -> None:
        deadline = time.monotonic() + (30 if _READING.search(text) else 0)
        while True:
            printed, code = self._bash(text)
            ids = output.compare([self._here(line) for line in command.output], printed) if command.output else {}
            if ids is not None or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if not command.output:
            assert code == 0, f"{block.where}: {text}\nexit code {code}\n" + "\n".join(printed)
        assert ids is not None, f"{block.where}: $ {text}\n" + _both(command.output, printed)
        self._ids |= ids
        self._printed += printed

    def _bash(self, text: str) -> tuple[list[str], int]:
        """Run it, and keep its folder and variables for the next one."""
        kept = self._home.parent / "environment"
        script = f"{text}\ncode=$?; env -0 > {kept}; exit $code"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
            preexec_fn=ends_with_this_process(),
        )
        if kept.exists():
            pairs = (entry.partition("=") for entry in kept.read_text(encoding="utf-8").split("\0") if entry)
            self._environment = {name: value for name, _, value in pairs}
            self._folder = Path(self._environment.get("PWD", self._folder))
            kept.unlink()
        return done.stdout.splitlines(), done.returncode

    def _beside(self, block: Block, command: Command, text: str) -> None:
        server = Server(text, self._folder, self._environment, self._home.parent / f"server-{len(self._servers)}")
        self._servers.append(server)
        end = next((n for n, line in enumerate(command.output) if line.startswith("^C")), len(command.output))
        shown = [self._here(line) for line in command.output[:end]]
        found = server.wait(lambda: output.in_order(shown, server.lines()))
        assert found is not None, f"{block.where}: $ {text}\n" + _both(shown, server.lines())
        self._ids |= found
        if port := next((free for free in self._ports.values() if free in text), None):
            assert server.wait(lambda: _answers(int(port))), f"{block.where}: " + "\n".join(server.lines())
        elif text.startswith("taskfleet dev "):
            # Else a command that follows may find no worker on a busy machine, and say so.
            assert server.wait(lambda: any("is ready" in line for line in server.lines())), (
                f"{block.where}: $ {text}: no worker is ready\n" + "\n".join(server.lines())
            )
        elif text.startswith("taskfleet"):
            assert server.wait(server.lines), f"{block.where}: $ {text}: it prints nothing"
        if command.interrupted:
            server.interrupt()
            left = [self._here(line) for line in command.output[end + 1 :]]
            found = output.in_order(left, server.lines())
            assert found is not None, f"{block.where}: " + _both(left, server.lines())

    def _interrupt(self) -> None:
        for server in self._servers:
            server.interrupt()

    def _end(self) -> None:
        if self._interpreter is not None:
            self._interpreter.end()
        for server in self._servers:
            server.interrupt(in_haste=True)

    # Output

    def _output(self, block: Block) -> None:
        """Lines that anything on the page has printed until now, or prints soon."""
        shown = [self._here(line) for line in block.code.splitlines()]
        deadline = time.monotonic() + self.seconds
        while True:
            printed = [self._printed, *(server.lines() for server in self._servers)]
            found = next((ids for lines in printed if (ids := output.in_order(shown, lines)) is not None), None)
            if found is not None or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        assert found is not None, f"{block.where}: nothing on the page prints these lines\n" + _both(
            shown, [line for lines in printed for line in lines]
        )
        self._ids |= found

    def _expect(self, block: Block, shown: Sequence[str], printed: Sequence[str], *, exact: bool) -> None:
        ids = output.compare(shown, printed, exact=exact)
        assert ids is not None, f"{block.where}: " + _both(shown, printed)
        self._ids |= ids

    def _here(self, text: str) -> str:
        """The text with the addresses and ids of this run."""
        text = text.replace("redis://localhost:6379/0", self._url)
        for port, free in self._ports.items():
            text = re.sub(rf"(?<=[ :]){port}\b", free, text)
        return re.sub(r"\b[0-9a-f]{16,17}\b", lambda match: self._ids.get(match[0], match[0]), text)


def _in_front(then: Callable[[], None]) -> None:
    """Take Ctrl-C, also when the tests themselves run in the background, where a shell makes its commands ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    then()


class Server:
    """A command that runs beside the rest of the page."""

    def __init__(self, text: str, folder: Path, environment: dict[str, str], log: Path) -> None:
        self._text, self._log = text, log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                ["bash", "-c", text],  # of one command, bash becomes that command
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=functools.partial(_in_front, ends_with_this_process()),
            )

    def lines(self) -> list[str]:
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    def wait(self, condition: Callable[[], Any]) -> Any:
        """What the condition gives, once that is something, or the process or the time is over."""
        deadline = time.monotonic() + _SECONDS
        while (found := condition()) in (None, False, []) and time.monotonic() < deadline:
            if self._process.poll() is not None:
                return condition()
            time.sleep(0.05)
        return found

    def interrupt(self, *, in_haste: bool = False) -> None:
        """Ctrl-C; `in_haste` again soon, where a task would take the whole grace period."""
        codes = {0, 130, -signal.SIGINT}
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(3 if in_haste else _SECONDS)
            except subprocess.TimeoutExpired:
                assert in_haste, f"$ {self._text}: it does not end\n" + "\n".join(self.lines())
                self._process.send_signal(signal.SIGINT)
                self._process.wait(_SECONDS)
                codes |= {1, 143, -signal.SIGTERM}
        code = self._process.returncode
        assert code in codes, f"$ {self._text}: exit code {code}\n" + "\n".join(self.lines())

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)


class Interpreter:
    """The process of interpreter.py."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "tests" / "docs" / "interpreter.py")],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=ends_with_this_process(),
        )

    def run(self, block: Block, source: str) -> tuple[str, str | None]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"source": source, "file": str(block.page), "line": block.number, "fresh": "fresh" in block.marks}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["output"], answer["error"]

    def end(self) -> None:
        self._process.communicate(timeout=_SECONDS)
        assert self._process.returncode == 0

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(10)


def copy_example(page: Path, folder: Path) -> None:
    """The page of an example runs among the files of the example."""
    if page.parent.parent == REPOSITORY / "examples":
        shutil.copytree(page.parent, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".venv"))


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _both(shown: Sequence[str], printed: Sequence[str]) -> str:
    return "\n".join(["shown:", *shown, "printed:", *printed])
