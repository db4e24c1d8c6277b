"""Clean virtual environments with the built wheel, made by uv from its cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# What a developer's environment may have set, and what would reach into the one under test.
_FOREIGN = ("PYTHON", "TASKFLEET_", "TASK_QUEUE_", "REDIS_", "VIRTUAL_ENV", "COLUMNS", "NO_COLOR", "FORCE_COLOR")


def uv(*arguments: str) -> str:
    """Run uv and return its output. It takes no Python that is not given."""
    beside = Path(sys.executable).with_name("uv")
    command = str(beside) if beside.exists() else shutil.which("uv")
    assert command, "uv is in requirements/dev.txt"
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"uv {' '.join(arguments)}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment in `folder`."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def command(self) -> str:
        return str(self.folder / "bin" / "taskfleet")

    def run(
        self, *arguments: str, folder: Path, given: str | None = None, timeout: float = 90, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `taskfleet` with these arguments, or a Python program when `arguments` begins with -c or -W."""
        first = self.python if arguments and arguments[0] in {"-c", "-W", "-m"} else self.command
        return subprocess.run(
            [first, *arguments],
            cwd=folder,
            env=environment_variables(**variables),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def without(self, package: str) -> None:
        """Take a package away, and leave what depends on it."""
        uv("pip", "uninstall", "--quiet", "--python", self.python, package)


def environment_variables(**variables: str) -> dict[str, str]:
    """The variables of this process that mean nothing to Python or Taskfleet, and these."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)} | variables


def make(
    folder: Path, python: Path, wheel: Path, extras: str = "", *more: str, constraints: Path | None = None
) -> Environment:
    """A new environment with `taskfleet[extras]` from the wheel and `more`, of the versions that are locked."""
    made = Environment(folder)
    uv("venv", "--quiet", "--no-python-downloads", "--python", str(python), str(folder))
    wanted = f"taskfleet[{extras}]" if extras else "taskfleet"
    uv(
        "pip", "install", "--quiet", "--python", made.python,
        "--constraints", str(constraints or REPOSITORY / "requirements" / "dev.txt"),
        f"{wanted} @ {wheel.as_uri()}", *more,
    )  # fmt: skip
    return made
