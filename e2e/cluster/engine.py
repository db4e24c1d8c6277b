"""The Docker engine: the one that answers, or one that is started here and stopped again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

from e2e.cluster import debian
from e2e.cluster.cache import cache_folder, locked, progress
from e2e.cluster.errors import ClusterError

_CAP_SYS_RESOURCE = 24  # linux/capability.h
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_REGISTRY_SECONDS = 15.0
_PULL_SECONDS = 600.0
RUNC_LIMITED = Path(__file__).parent / "node" / "runc-limited"


def docker(*arguments: str, timeout: float | None = None) -> str:
    """Run the docker command and return its standard output. Images are built by the legacy builder."""
    return debian.run("docker", *arguments, environment={"DOCKER_BUILDKIT": "0"}, timeout=timeout)


def lacks_sys_resource() -> bool:
    """Whether root here can never have CAP_SYS_RESOURCE, so that runc must not ask for it."""
    status = Path("/proc/self/status").read_text()
    bounding = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    return not int(bounding.split()[1], 16) >> _CAP_SYS_RESOURCE & 1


def answers() -> bool:
    """Whether a Docker engine can be used as it is."""
    with contextlib.suppress(ClusterError):
        docker("version", "--format", "{{.Server.Version}}", timeout=30)
        return True
    return False


def has_image(tag: str) -> bool:
    """Whether the engine holds an image."""
    return bool(docker("image", "ls", "--quiet", tag).strip())


def label(tag: str, name: str) -> str:
    """A label of an image, empty when it has none of that name."""
    return docker("image", "inspect", "--format", f'{{{{ index .Config.Labels "{name}" }}}}', tag).strip()


def import_root(wanted: debian.RootFilesystem, archive: Path) -> str:
    """Import a root filesystem as an image; its tag."""
    tag = f"taskfleet-root-{wanted.name}:{wanted.suite}-{wanted.digest}"
    if not has_image(tag):
        docker("import", str(archive), tag)
    return tag


def pull(image: str) -> bool:
    """Pull an image; whether it is there now. A registry that does not answer costs seconds, not minutes."""
    if has_image(image):
        return True
    try:
        docker("manifest", "inspect", image, timeout=_REGISTRY_SECONDS)
        docker("pull", "--quiet", image, timeout=_PULL_SECONDS)
    except ClusterError:
        return False
    return True


def check() -> None:
    """Fail at once, before anything long is built, when there can be no engine.

    Raises:
        ClusterError: none answers, and none can be started.
    """
    if answers():
        return
    if host := os.environ.get("DOCKER_HOST"):
        raise ClusterError(f"the Docker engine of DOCKER_HOST={host} does not answer")
    if os.geteuid() != 0:
        raise ClusterError("no Docker engine answers: start one, or run this as root on Debian to have it started")


def ensure() -> None:
    """Make sure that a Docker engine answers: an existing one, or Debian's, installed and started here.

    Raises:
        ClusterError: none answers, and only root can start one.
    """
    with locked("engine"):
        check()
        if answers():
            return
        debian.install_engine()
        with progress("started dockerd"):
            _start()


def stop() -> bool:
    """Stop the engine if it was started here; whether it was."""
    pid = _our_pid()
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _our_pid() is not None:
        if time.monotonic() > deadline:
            raise ClusterError(f"dockerd (pid {pid}) does not stop in {_STOP_SECONDS:.0f} s")
        time.sleep(0.1)
    return True


def _start() -> None:
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, object] = {"exec-opts": ["native.cgroupdriver=cgroupfs"]}
    if lacks_sys_resource():
        debian.install_json_tool()
        wrapper = folder / "runc-limited"  # the checkout may be gone before the engine is
        shutil.copyfile(RUNC_LIMITED, wrapper)
        wrapper.chmod(0o755)
        settings |= {"runtimes": {"runc-limited": {"path": str(wrapper)}}, "default-runtime": "runc-limited"}
    (folder / "daemon.json").write_text(json.dumps(settings, indent=2))
    if _our_pid() is None:
        _pid_file().unlink(missing_ok=True)  # of an engine that was killed; its number may be another's now
    log = folder / "dockerd.log"
    dockerd = debian.command("dockerd")
    # Not subprocess: it stays when this process ends (`down` stops it), and a Popen complains of that.
    pid = os.posix_spawn(
        dockerd,
        [
            dockerd, f"--config-file={folder / 'daemon.json'}", f"--pidfile={_pid_file()}",
            "--host=unix:///var/run/docker.sock",
        ],
        debian.search_path(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )  # fmt: skip
    deadline = time.monotonic() + _START_SECONDS
    while not answers():
        if os.waitpid(pid, os.WNOHANG) != (0, 0) or time.monotonic() > deadline:
            last = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
            raise ClusterError(f"dockerd does not start ({log}): {last}")
        time.sleep(0.2)


def _our_pid() -> int | None:
    """The process of the engine that was started here, while it lives."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_pid_file().read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if f"--pidfile={_pid_file()}".encode() in words:
            return pid
    return None


def _folder() -> Path:
    return cache_folder() / "engine"


def _pid_file() -> Path:
    return _folder() / "dockerd.pid"
