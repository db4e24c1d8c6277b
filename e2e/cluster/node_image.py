"""The image of a cluster node: kind's published one, or our own from Debian and Go modules.

Our own is for machines that cannot pull images, and for those whose root lacks CAP_SYS_RESOURCE, where the
published one cannot start a container.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import binaries, debian, engine
from e2e.cluster.cache import cache_folder, locked, progress

_FILES = Path(__file__).parent / "node"
# The path at which a pod of kubeadm looks for its binary; the others look in PATH.
_BINARY_PATHS = {"kube-proxy": "/usr/local/bin/kube-proxy", "coredns": "/coredns", "pause": "/pause"}
_ENTRYPOINTS = ("coredns", "pause")


@dataclass(frozen=True)
class NodeImage:
    """An image for kind, and whether it is our own (which needs its own settings)."""

    tag: str
    ours: bool


def ensure() -> NodeImage:
    """Provide a node image: our own if it exists, else the published one, else our own, built now."""
    ours = f"taskfleet-node:{binaries.kubernetes_version()}-{_recipe()}"
    with locked("node-image"):
        if not engine.has_image(ours):
            if not engine.lacks_sys_resource() and (published := _published()):
                return NodeImage(published, ours=False)
            _build(ours)
    return NodeImage(ours, ours=True)


def _published() -> str | None:
    """The image that this version of kind starts by default, when it can be pulled."""
    kind_source = binaries.module_folder("kind")
    source = (kind_source / "pkg/apis/config/defaults/image.go").read_text()
    found = re.search(r'Image = "([^"]+)"', source)
    return found[1] if found and engine.pull(found[1]) else None


def _build(tag: str) -> None:
    # Go keeps both cores busy for minutes, Debian mostly waits for the network: side by side.
    with ThreadPoolExecutor() as pool:
        archives = [pool.submit(debian.root_filesystem, root) for root in (debian.NODE, debian.KUBE_PROXY)]
        built = binaries.ensure(*binaries.NODE)
        node_archive, proxy_archive = (archive.result() for archive in archives)
    node_root = engine.import_root(debian.NODE, node_archive)
    proxy_root = engine.import_root(debian.KUBE_PROXY, proxy_archive)
    images = _image_names(built["kubeadm"])
    cache_folder().mkdir(parents=True, exist_ok=True)
    # Beside the binaries, so that they are linked and not copied.
    with progress(f"built {tag}"), tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".node-") as temporary:
        context = Path(temporary)
        _save_pod_images(images, built, proxy_root, context / "images")
        (context / "bin").mkdir()
        for name in ("kubeadm", "kubelet", "kubectl"):
            os.link(built[name], context / "bin" / name)
        for file in _FILES.iterdir():
            shutil.copy(file, context / file.name)
        settings = (_FILES / "containerd.toml").read_text()
        (context / "containerd.toml").write_text(settings.replace("@PAUSE_IMAGE@", images["pause"]))
        (context / "version").write_text(binaries.kubernetes_version())
        engine.docker("build", "--quiet", "--build-arg", f"ROOT={node_root}", "--tag", tag, str(context))


def _image_names(kubeadm: Path) -> dict[str, str]:
    """The images that kubeadm asks for, by binary. The list is that of kubeadm, so that the tags match the binaries."""
    listed = subprocess.run(
        [str(kubeadm), "config", "images", "list", "--kubernetes-version", binaries.kubernetes_version()],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return {name.rpartition("/")[2].partition(":")[0]: name for name in listed}


def _save_pod_images(images: dict[str, str], built: dict[str, Path], proxy_root: str, folder: Path) -> None:
    """One archive with an image for each pod that kubeadm starts: a binary, and nothing else where that will do."""
    folder.mkdir()
    for name, tag in images.items():
        target = _BINARY_PATHS.get(name, f"/usr/local/bin/{name}")
        lines = [
            f"FROM {proxy_root if name == 'kube-proxy' else 'scratch'}",
            f"COPY {name} {target}",
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        if name in _ENTRYPOINTS:
            lines.append(f'ENTRYPOINT ["{target}"]')
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".image-") as temporary:
            context = Path(temporary)
            os.link(built[name], context / name)
            (context / "Dockerfile").write_text("\n".join(lines))
            engine.docker("build", "--quiet", "--tag", tag, str(context))
    engine.docker("save", "--output", str(folder / "kubernetes.tar"), *images.values())


def _recipe() -> str:
    """Changes when anything that is in the image does."""
    digest = hashlib.sha256()
    for file in sorted(_FILES.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    for name in binaries.NODE:
        digest.update(f"{name} {binaries.version(name)}".encode())
    for root in (debian.NODE, debian.KUBE_PROXY):
        digest.update(root.digest.encode())
    return digest.hexdigest()[:12]
