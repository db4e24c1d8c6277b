"""Where peers are built: outside the checkout, once per version, kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import PeerUnavailable


def cache_folder() -> Path:
    """`$TASKFLEET_CACHE/bench`, else `taskfleet/bench` in the XDG cache folder."""
    if chosen := os.environ.get("TASKFLEET_CACHE"):
        return Path(chosen) / "bench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskfleet" / "bench"


def built(name: str, version: str, inputs: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """The folder in which `build` has made `name` of these `inputs`; it is built when it is not there.

    Its name holds version and a digest of the inputs, so that another lock file is another environment. It appears
    by a rename, so that a build that was cut off leaves nothing that looks finished.
    """
    digest = hashlib.sha256()
    for path in inputs:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = cache_folder() / f"{name}-{version}-{digest.hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        for path in inputs:
            shutil.copy(path, scratch)
        build(scratch)
        scratch.rename(folder)
    except FileExistsError:
        pass  # another bench was faster
    except OSError as error:
        if not folder.is_dir():
            raise PeerUnavailable(f"{name} cannot be built in {folder.parent}: {error.strerror}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def python_environment(name: str, version: str, requirements: Path, python: Path | None = None) -> Path:
    """The interpreter of a virtual environment with exactly the packages of `requirements`, pinned and hashed.

    It is made with `python`, by default the interpreter that runs this.
    """

    def build(folder: Path) -> None:
        run([str(python or sys.executable), "-m", "venv", "--without-pip", "venv"], folder, name)
        # This environment's pip, so that there is one less to download; it installs into the other one.
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            "venv/bin/python",
            "install",
            "-q",
            "--disable-pip-version-check",
        ]
        run([*pip, "--require-hashes", "--no-deps", "-r", requirements.name], folder, name)

    # Compiled packages, and those that markers choose, belong to one version of Python.
    tag = _version_tag(python) if python is not None else f"{sys.version_info.major}{sys.version_info.minor}"
    return built(f"{name}-py{tag}", version, [requirements], build) / "venv" / "bin" / "python"


def _version_tag(python: Path) -> str:
    program = "import sys; print('%d%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def tool(name: str, needed_by: str) -> str:
    """The path of a program; the error is one line that names the peer that needs it."""
    path = shutil.which(name)
    if path is None:
        raise PeerUnavailable(
            f"{needed_by} needs {name!r} on the path: install it, or leave {needed_by} out of --peers"
        )
    return path


def run(command: Sequence[str], folder: Path, needed_by: str) -> None:
    """Run a build step in `folder`."""
    done = subprocess.run(list(command), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        # The first line is the error; the others are the paths of logs.
        reason = lines[0].strip() if lines else f"exit code {done.returncode}"
        raise PeerUnavailable(f"{needed_by} cannot be built: {' '.join(command[:2])}: {reason}")
