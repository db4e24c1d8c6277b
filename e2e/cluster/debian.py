"""Debian: the packages that this machine needs, and the root filesystems that images start from."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.cache import cache_folder, locked, progress
from e2e.cluster.errors import ClusterError

# Packages, by a command whose presence shows that they are installed. The container engine:
_ENGINE_PACKAGES = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
}
_CLIENT_PACKAGES = {"docker": "docker-cli"}  # from trixie on; before, docker.io has brought it
_BOOTSTRAP_PACKAGES = {"mmdebstrap": "mmdebstrap"}
_JSON_PACKAGES = {"jq": "jq"}  # for runc-limited


@dataclass(frozen=True)
class RootFilesystem:
    """A minimal Debian with packages."""

    name: str
    suite: str
    packages: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Changes when the suite or the packages do."""
        return hashlib.sha256(" ".join((self.suite, *self.packages)).encode()).hexdigest()[:12]


# bookworm for the node: its systemd still runs on cgroup v1.
NODE = RootFilesystem(
    "node",
    "bookworm",
    (
        "ca-certificates", "conntrack", "containerd", "containernetworking-plugins", "curl", "dbus", "ebtables",
        "ethtool", "hostname", "iproute2", "iptables", "jq", "kmod", "mount", "procps", "runc", "socat", "systemd",
        "systemd-sysv", "util-linux",
    ),
)  # fmt: skip
KUBE_PROXY = RootFilesystem("kube-proxy", "bookworm", ("conntrack", "iptables", "kmod"))
PYTHON = RootFilesystem("python", "trixie", ("ca-certificates", "python3", "python3-pip", "python3-venv"))


def install_engine() -> None:
    """Install Docker's engine from Debian where a part of it is missing."""
    _install(_ENGINE_PACKAGES)
    _install(_CLIENT_PACKAGES)


def install_json_tool() -> None:
    """Install jq, with which `node/runc-limited` edits the settings for runc."""
    _install(_JSON_PACKAGES)


def root_filesystem(wanted: RootFilesystem) -> Path:
    """A tar archive of the root filesystem, made on first use and kept in the cache."""
    target = cache_folder() / "rootfs" / f"{wanted.name}-{wanted.suite}-{wanted.digest}.tar"
    if target.exists():
        return target
    with locked(target.name):
        if not target.exists():
            _install(_BOOTSTRAP_PACKAGES)
            target.parent.mkdir(parents=True, exist_ok=True)
            with progress(f"made a {wanted.suite} root filesystem for {wanted.name}"):
                _bootstrap(wanted, target)
    return target


def _bootstrap(wanted: RootFilesystem, target: Path) -> None:
    unfinished = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        run(
            "mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(wanted.packages)}",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
            wanted.suite, str(unfinished),
        )  # fmt: skip
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _install(packages: dict[str, str]) -> None:
    if not _missing(packages):
        return
    with locked("apt"):
        missing = _missing(packages)
        if not missing:
            return
        if not _installed("apt-get") or os.geteuid() != 0:
            raise ClusterError(f"install {', '.join(missing)} first (as root on Debian this is done for you)")
        options = ("-qq", "-o", "DPkg::Lock::Timeout=300")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        with progress(f"installed {' '.join(missing)}"):
            run("apt-get", "update", *options, environment=quiet)
            run("apt-get", "install", *options, "-y", "--no-install-recommends", *missing, environment=quiet)


def _missing(packages: dict[str, str]) -> list[str]:
    return sorted(package for name, package in packages.items() if not _installed(name))


def _installed(name: str) -> bool:
    return shutil.which(name, path=search_path()["PATH"]) is not None


def search_path() -> dict[str, str]:
    """The environment with Debian's sbin folders, which hold daemons and are often missing from PATH."""
    return {**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])}


def command(name: str) -> str:
    """The path of a command, also of one in sbin; the bare name when it is missing."""
    return shutil.which(name, path=search_path()["PATH"]) or name


def run(*arguments: str, environment: dict[str, str] | None = None, timeout: float | None = None) -> str:
    """Run a command quietly and return its standard output; a failure is an error of one line.

    Args:
        arguments: the command and its arguments.
        environment: variables to set on top of this process's own.
        timeout: seconds after which it is killed; never without it.

    Raises:
        ClusterError: it is missing, took too long or ended with a failure; the message has its last words.
    """
    what = " ".join(arguments[:3])
    try:
        finished = subprocess.run(
            [command(arguments[0]), *arguments[1:]],
            env={**search_path(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except FileNotFoundError:
        raise ClusterError(f"there is no command {arguments[0]}") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{what} took longer than {timeout:.0f} s") from None
    if finished.returncode != 0:
        lines = (finished.stderr.strip() or finished.stdout.strip()).splitlines()
        raise ClusterError(f"{what} failed ({finished.returncode}): {' | '.join(lines[-4:])}")
    return finished.stdout
