"""A Python that this machine lacks, from Debian's packages, without an installation: it brings its own C library."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from e2e.cluster.cache import cache_folder, locked

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SUITES = {"3.14": "forky"}  # the first release of Debian that has this Python
_LIBRARIES = (
    "libc6", "libgcc-s1", "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libsqlite3-0", "libssl3t64",
    "libuuid1", "libzstd1", "zlib1g",
)  # fmt: skip


class NotToBeHadError(Exception):
    """This Python cannot be had here; the text says why."""


def python(version: str) -> Path:
    """The interpreter of this version, such as 3.14; from the cache once it has been made."""
    if version not in _SUITES:
        raise NotToBeHadError(f"no python{version} here, and none in a Debian that this knows")
    root = cache_folder() / "python" / f"{version}-{_SUITES[version]}"
    with locked(f"python-{version}"):
        if not root.exists():
            _make(version, root)
    return root / "usr" / "bin" / f"python{version}"


def _make(version: str, root: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None or not _KEYRING.exists():
        raise NotToBeHadError(f"no python{version} here, and no apt-get to get it with")
    work = root.with_name(f".{root.name}")
    shutil.rmtree(work, ignore_errors=True)
    packages = work / "packages"
    for folder in (packages, work / "lists" / "partial", work / "archives" / "partial", work / "root"):
        folder.mkdir(parents=True)
    # An apt of its own: nothing of the system's is read but the address of its mirror, and nothing is changed.
    source = f"deb [signed-by={_KEYRING}] {_mirror()} {_SUITES[version]} main\n"
    (work / "sources.list").write_text(source, encoding="utf-8")
    options = (
        f"Dir::Etc::sourcelist={work / 'sources.list'}", "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={work / 'lists'}", f"Dir::Cache={work}", "APT::Sandbox::User=root",
        "Acquire::Languages=none",
    )  # fmt: skip
    apt = ["apt-get", "-qq", *(part for option in options for part in ("-o", option))]
    pythons = (
        f"python{version}",
        f"python{version}-minimal",
        f"libpython{version}-minimal",
        f"libpython{version}-stdlib",
    )
    _run(version, [*apt, "update"], work)
    _run(version, [*apt, "download", *pythons, *_LIBRARIES], packages)
    for package in packages.glob("*.deb"):
        _run(version, ["dpkg-deb", "-x", str(package), str(work / "root")], work)
    _bind(version, work / "root", root)
    (work / "root").rename(root)
    shutil.rmtree(work)


def _bind(version: str, made: Path, final: Path) -> None:
    """Start the interpreter with the C library that lies beside it, since that of this machine may be older."""
    loader = next(made.glob("usr/lib/*/ld-linux-*.so.*"))
    command = made / "usr" / "bin" / f"python{version}"
    program = command.with_name(f"{command.name}.program")
    command.rename(program)
    there = {name: shlex.quote(str(final / path.relative_to(made))) for name, path in (
        ("loader", loader), ("libraries", loader.parent), ("program", program),
    )}  # fmt: skip
    # Python takes the place of its library and of a virtual environment from its name.
    start = 'exec {loader} --library-path {libraries} --argv0 "$0" {program} "$@"'.format(**there)
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


def _run(version: str, command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise NotToBeHadError(f"python{version} from Debian: {command[0]} said: {said}")
