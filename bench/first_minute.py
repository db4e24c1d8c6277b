"""The README's first minute, measured: a clean environment, its three commands, and the seconds of each.

`python -m bench.first_minute dist/taskfleet-….whl [PYTHON]`. The wheel takes the place of the index for Taskfleet
itself; its dependencies come from the configured index, first without pip's cache and then from it. The Valkey gets a
free port in place of 6379, since another program may have that one. Beside the seconds stand the seconds of the
processor, which a busy machine changes less; those of `dev` are known when it has ended.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.package import readme
from tests.support.ports import free_port

TARGET_SECONDS = 30.0


def processor_seconds() -> float:
    """What all ended children have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(what: str, step: Callable[[], None]) -> float:
    """Run a step and print how long it took."""
    began, used = time.monotonic(), processor_seconds()
    step()
    seconds = time.monotonic() - began
    spent = processor_seconds() - used
    print(f"{what:<36} {seconds:6.1f} s{f'   processor {spent:5.1f} s' if spent > 0.05 else ''}", flush=True)
    return seconds


def run(*command: str | Path, folder: Path, environment: dict[str, str]) -> str:
    """Run a command to its end; its output."""
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}")
    return done.stdout


def first_minute(wheel: Path, python: str, folder: Path, cache: Path) -> float:
    """The three commands in a new environment; the seconds from the first to the result."""
    wanted = readme.first_minute()
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TASKFLEET_", "REDIS_"))
    } | {"PIP_CACHE_DIR": str(cache), "REDIS_URL": f"redis://localhost:{port}/0"}
    run(python, "-m", "venv", "environment", folder=folder, environment=environment)
    (folder / wanted.file).write_text(wanted.code, encoding="utf-8")
    there = folder / "environment" / "bin"
    extras = wanted.install[2].removeprefix("taskfleet")
    install = (there / "pip", "install", "--quiet", f"taskfleet{extras} @ {wheel.absolute().as_uri()}")
    total = timed("pip install", lambda: run(*install, folder=folder, environment=environment) and None)

    log = folder / "dev.log"
    with log.open("wb") as output:
        command = [there / "taskfleet", *wanted.dev[1:], "--port", str(port)]
        dev = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:

        def ready() -> None:
            while " is ready" not in log.read_text(encoding="utf-8"):
                if dev.poll() is not None:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.01)

        total += timed("taskfleet dev, until it is ready", ready)
        printed: list[str] = []
        enqueue = (there / "taskfleet", *wanted.enqueue[1:])
        total += timed(
            "taskfleet enqueue --wait",
            lambda: printed.extend(run(*enqueue, folder=folder, environment=environment).splitlines()),
        )
        if printed[-1] != wanted.result:
            raise SystemExit(f"expected {wanted.result}, got {printed[-1]}")
    finally:
        used = processor_seconds()
        dev.send_signal(signal.SIGINT)
        dev.wait()
    spent = processor_seconds() - used
    print(f"{'from the first command to the result':<36} {total:6.1f} s   processor of dev {spent:5.1f} s", flush=True)
    return total


def main() -> None:
    """Measure twice; exit code 1 when it takes longer than the target."""
    wheel, python = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else sys.executable
    slowest = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        for what in ("nothing in pip's cache", "all in pip's cache"):
            print(f"{what}:")
            folder = Path(temporary) / what.replace(" ", "-")
            folder.mkdir()
            slowest = max(slowest, first_minute(wheel, python, folder, Path(temporary) / "cache"))
    raise SystemExit(slowest > TARGET_SECONDS)


if __name__ == "__main__":
    main()
