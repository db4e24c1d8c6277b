"""Kubernetes, etcd, CoreDNS, Helm, kind and a collector of OpenTelemetry, built from their Go modules on first use.

Each module folder pins its versions in go.mod and go.sum. A binary is built once per version and
kept in the cache, so the checkout stays clean and a second run builds nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.cache import cache_folder, locked
from e2e.cluster.errors import ClusterError

_MODULES = Path(__file__).parent / "modules"


@dataclass(frozen=True)
class Module:
    """One module folder: the requirement that gives its version, and the package of each binary.

    A module of our own requires nothing, and has its version here.
    """

    folder: str
    requirement: str
    packages: dict[str, str]
    version: str = ""


_KUBERNETES = Module(
    folder="kubernetes",
    requirement="k8s.io/kubernetes",
    packages={
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubeadm",
            "kubectl",
            "kubelet",
        )
    },
)
_HELM = Module("helm", "helm.sh/helm/v3", {"helm": "helm.sh/helm/v3/cmd/helm"})
_ALL = (
    _KUBERNETES,
    Module("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "."}),
    _HELM,
    Module("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"}),
    Module("kind", "sigs.k8s.io/kind", {"kind": "sigs.k8s.io/kind"}),
    Module("pause", "", {"pause": "."}, version="v1"),
    Module("keda-client", "github.com/kedacore/keda/v2", {"keda-client": "."}),
    Module("otelcol", "go.opentelemetry.io/collector/otelcol", {"otelcol": "."}),
)
_MODULE_OF = {name: module for module in _ALL for name in module.packages}

NAMES: tuple[str, ...] = tuple(_MODULE_OF)
CONTROL_PLANE: tuple[str, ...] = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
)
NODE: tuple[str, ...] = (*_KUBERNETES.packages, "etcd", "coredns", "pause")
CLIENTS: tuple[str, ...] = ("kind", "kubectl", "helm")


def module_version(module: Module) -> str:
    """The version that the module folder's go.mod pins, such as `v1.36.3`."""
    if module.version:
        return module.version
    text = (_MODULES / module.folder / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(module.requirement)}\s+(v\S+)", text, re.MULTILINE)
    if found is None:
        raise ClusterError(f"{module.folder}/go.mod requires no {module.requirement}")
    return found[1]


def kubernetes_version() -> str:
    """The version of the Kubernetes that is built here, such as `v1.36.3`."""
    return module_version(_KUBERNETES)


def version(name: str) -> str:
    """The version of one binary."""
    return module_version(_MODULE_OF[name])


def ensure(*names: str) -> dict[str, Path]:
    """Build the named binaries where the cache lacks them, and give the path of each.

    Raises:
        ClusterError: `go` is missing, the build failed, or there is no such binary.
    """
    if unknown := [name for name in names if name not in _MODULE_OF]:
        raise ClusterError(f"no such binary: {', '.join(unknown)} (there are {', '.join(NAMES)})")
    return {name: _ensure(name) for name in names}


def module_folder(name: str) -> Path:
    """Where Go keeps the source of the module that a binary comes from."""
    module = _MODULE_OF[name]
    listed = subprocess.run(
        [_go(name), "list", "-m", "-f", "{{.Dir}}", module.requirement],
        cwd=_MODULES / module.folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(listed.stdout.strip())


def _go(name: str) -> str:
    go = shutil.which("go")
    if go is None:
        raise ClusterError(
            f"{name} {version(name)} is built from its Go module: install Go 1.26 or newer (no `go` in PATH)"
        )
    return go


def _ensure(name: str) -> Path:
    module = _MODULE_OF[name]
    version = module_version(module)
    target = cache_folder() / "bin" / f"{module.folder}-{version}" / name
    if target.exists():
        return target
    with locked(f"{module.folder}-{version}-{name}"):
        if not target.exists():
            _build(module, version, name, target)
    return target


def _build(module: Module, version: str, name: str, target: Path) -> None:
    go = _go(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{name}.{os.getpid()}")
    print(f"cluster: building {name} {version} …", file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        built = subprocess.run(
            [
                go, "build", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(_linker_flags(module, version)),
                "-o", str(unfinished), module.packages[name],
            ],
            cwd=_MODULES / module.folder,
            env={**os.environ, "CGO_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        if built.returncode != 0:
            last = (built.stdout.strip().splitlines() or ["go printed nothing"])[-1]
            raise ClusterError(f"{name} {version} did not build: {last}")
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"cluster: built {name} {version} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)


def _linker_flags(module: Module, version: str) -> Iterable[str]:
    yield from ("-s", "-w")
    if module is _HELM:
        # Charts ask for the Kubernetes version, which `helm template` otherwise takes as 1.20.
        major, minor, _ = kubernetes_version().lstrip("v").split(".")
        yield f"-X helm.sh/helm/v3/internal/version.version={version}"
        for package in ("lint/rules", "chartutil"):
            yield f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionMajor={major}"
            yield f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionMinor={minor}"
    elif module is _KUBERNETES:
        # Unset, every client sees version 0.0.0, and Helm and kubeadm refuse it.
        major, minor, _ = version.lstrip("v").split(".")
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            yield f"-X {package}.gitVersion={version}"
            yield f"-X {package}.gitMajor={major}"
            yield f"-X {package}.gitMinor={minor}"
