"""The Pythons that the package is for, as far as they are to be had on this machine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.package import debian_python
from tests.support.debian_packages import NotToBeHadError

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
OLDEST = VERSIONS[0]


@functools.cache
def find(version: str) -> Path | str:
    """An interpreter of this version, or why there is none."""
    for candidate in _candidates(version):
        # A shim of pyenv is there also for versions that are not chosen, and fails.
        if _version_of(candidate) == version:
            return candidate
    try:
        made = debian_python.python(version)
    except NotToBeHadError as error:
        return str(error)
    return made if _version_of(made) == version else f"the python{version} from Debian does not run here"


def _candidates(version: str) -> Iterator[Path]:
    if on_path := shutil.which(f"python{version}"):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))


def _version_of(python: Path) -> str:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return ""
    return done.stdout.strip()
