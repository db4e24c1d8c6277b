"""One cluster of one node, by kind."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2e.cluster import binaries, debian, engine, node_image
from e2e.cluster.cache import cache_folder, locked, progress
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import ClusterCommand, CommandError, wait_until

NAME = "taskfleet"
_NODE = f"{NAME}-control-plane"
_READY_SECONDS = 180

# Our node image brings a bridge as its network, containerd without systemd's cgroups, and maybe cgroup v1.
_OWN_NODE = """\
networking: {disableDefaultCNI: true}
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
  cgroupDriver: cgroupfs
  maxPods: 200
  evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
- |
  kind: InitConfiguration
  nodeRegistration:
    ignorePreflightErrors: [all]
"""


def kubeconfig() -> Path:
    """Where the cluster's kubeconfig is written."""
    return cache_folder() / "cluster" / "kubeconfig"


def kubectl() -> ClusterCommand:
    """kubectl for the cluster."""
    return ClusterCommand(binaries.ensure("kubectl")["kubectl"], kubeconfig())


def up() -> Path:
    """Make the cluster, or use the existing one; its kubeconfig.

    Raises:
        ClusterError: a part cannot be made; the message names it.
    """
    engine.check()
    with ThreadPoolExecutor() as pool:
        building = pool.submit(binaries.ensure, *binaries.CLIENTS)
        engine.ensure()
        kind = building.result()["kind"]
    with locked("cluster"):
        if running():
            _kind(kind, "export", "kubeconfig", "--name", NAME, "--kubeconfig", str(kubeconfig()))
            if _healthy():
                return kubeconfig()
            print("cluster: the node does not answer; making it anew", file=sys.stderr)
        image = node_image.ensure()
        kubeconfig().parent.mkdir(parents=True, exist_ok=True)
        _kind(kind, "delete", "cluster", "--name", NAME, "--kubeconfig", str(kubeconfig()))
        with progress(f"made the cluster {NAME} of {image.tag}"):
            _create(kind, image)
            _wait_until_ready()
    return kubeconfig()


def down() -> bool:
    """Delete the cluster, and stop the engine if it was started here; whether it was."""
    if engine.answers():
        kind = binaries.ensure("kind")["kind"]
        _kind(kind, "delete", "cluster", "--name", NAME, "--kubeconfig", str(kubeconfig()))
    kubeconfig().unlink(missing_ok=True)
    return engine.stop()


def running() -> bool:
    """Whether the node's container runs."""
    return engine.answers() and bool(engine.docker("ps", "--quiet", "--filter", f"name=^{_NODE}$").strip())


def load(*images: str) -> list[str]:
    """Load images into the node, all in one archive; those it has already are left out.

    Returns:
        The images that were loaded.
    """
    kind = binaries.ensure("kind")["kind"]
    held = _held()
    found = {image: engine.docker("image", "inspect", "--format", "{{.Id}}", image).strip() for image in images}
    missing = [image for image, identity in found.items() if held.get(image) != identity]
    if missing:
        with progress(f"loaded {' '.join(missing)}"):
            _kind(kind, "load", "docker-image", "--name", NAME, *missing)
        record = json.dumps({**held, **{image: found[image] for image in missing}})
        engine.docker("exec", _NODE, "sh", "-c", 'echo "$1" > /kind/loaded.json', "sh", record)
    return missing


def _held() -> dict[str, str]:
    """The images that were loaded, by name and identity: the node does not notice a rebuilt image."""
    with contextlib.suppress(ClusterError):
        held: dict[str, str] = json.loads(engine.docker("exec", _NODE, "cat", "/kind/loaded.json"))
        return held
    return {}


def _create(kind: Path, image: node_image.NodeImage) -> None:
    config = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n" + (_OWN_NODE if image.ours else "")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config)
        file.flush()
        _kind(
            kind, "create", "cluster", "--name", NAME, "--image", image.tag, "--config", file.name,
            "--kubeconfig", str(kubeconfig()), "--wait", f"{_READY_SECONDS}s",
        )  # fmt: skip


def _wait_until_ready() -> None:
    command = kubectl()
    limit = f"--timeout={_READY_SECONDS}s"
    wait_until(command, "get", "serviceaccount", "default", seconds=_READY_SECONDS)
    command("wait", "--for=condition=Ready", "node", "--all", limit, timeout=_READY_SECONDS + 10)
    command("rollout", "status", "deployment/coredns", "--namespace=kube-system", limit, timeout=_READY_SECONDS + 10)


def _healthy() -> bool:
    with contextlib.suppress(CommandError, subprocess.TimeoutExpired):
        kubectl()("get", "--raw", "/readyz", timeout=20)
        return True
    return False


def _kind(binary: Path, *arguments: str) -> str:
    return debian.run(str(binary), "--quiet", *arguments, environment={"KIND_EXPERIMENTAL_PROVIDER": "docker"})
