"""Programs that this machine lacks, from Debian's packages, without an installation: each brings its own C library."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.cache import cache_folder, locked

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class NotToBeHadError(Exception):
    """This program cannot be had here; the text says why."""


def program(name: str, suite: str, packages: Sequence[str]) -> Path:
    """`/usr/bin/NAME` of these packages, which include its libraries; from the cache once it has been made."""
    root = cache_folder() / "debian" / f"{name}-{suite}"
    with locked(f"debian-{name}"):
        if not root.exists():
            _make(name, suite, packages, root)
    return root / "usr" / "bin" / name


def _make(name: str, suite: str, packages: Sequence[str], root: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None or not _KEYRING.exists():
        raise NotToBeHadError(f"no {name} here, and no apt-get to get it with")
    work = root.with_name(f".{root.name}")
    shutil.rmtree(work, ignore_errors=True)
    downloads = work / "packages"
    for folder in (downloads, work / "lists" / "partial", work / "archives" / "partial", work / "root"):
        folder.mkdir(parents=True)
    # An apt of its own: nothing of the system's is read but the address of its mirror, and nothing is changed.
    source = f"deb [signed-by={_KEYRING}] {_mirror()} {suite} main\n"
    (work / "sources.list").write_text(source, encoding="utf-8")
    options = (
        f"Dir::Etc::sourcelist={work / 'sources.list'}", "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={work / 'lists'}", f"Dir::Cache={work}", "APT::Sandbox::User=root",
        "Acquire::Languages=none",
    )  # fmt: skip
    apt = ["apt-get", "-qq", *(part for option in options for part in ("-o", option))]
    _run(name, [*apt, "update"], work)
    _run(name, [*apt, "download", *packages], downloads)
    for package in downloads.glob("*.deb"):
        _run(name, ["dpkg-deb", "-x", str(package), str(work / "root")], work)
    _bind(name, work / "root", root)
    (work / "root").rename(root)
    shutil.rmtree(work)


def _bind(name: str, made: Path, final: Path) -> None:
    """Start the program with the C library that lies beside it, since that of this machine may be older."""
    loader = next(found for folder in ("usr/lib", "lib") for found in made.glob(f"{folder}/*/ld-linux-*.so.*"))
    libraries = [made / folder / loader.parent.name for folder in ("usr/lib", "lib")]
    command = made / "usr" / "bin" / name
    moved = command.with_name(f"{name}.program")
    shutil.copy2(command, moved)  # it may be a link to another one
    command.unlink()

    def there(path: Path) -> str:
        return shlex.quote(str(final / path.relative_to(made)))

    path = ":".join(there(folder) for folder in libraries if folder.exists())
    # A program takes its own place, or what it is to do, from its name.
    start = f'exec {there(loader)} --library-path {path} --argv0 "$0" {there(moved)} "$@"'
    command.write_text(f"#!/bin/sh\n{start}\n", encoding="utf-8")
    command.chmod(0o755)


def _mirror() -> str:
    """The Debian mirror of this machine."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=False
    ).stdout.split()
    found = next((uri for uri in listed if uri.rstrip("/").endswith("/debian")), None)
    if found is None:
        raise NotToBeHadError("this machine's apt names no Debian mirror")
    return found


def _run(name: str, command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise NotToBeHadError(f"{name} from Debian: {command[0]} said: {said}")
