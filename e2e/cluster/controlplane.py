"""The Kubernetes control plane without nodes: etcd, the API server and its controllers. No root needed.

It answers in a few seconds with the real schema and CEL validation, server-side apply, garbage
collection, Deployments and namespaces. Nothing runs a Pod.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import secrets
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self

from tests.support.ports import free_port

from e2e.cluster import binaries
from e2e.cluster.children import start_child
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import ClusterCommand, CommandError, wait_until

_PREFIX = "taskfleet-controlplane-"
_READY_SECONDS = 90.0
_ABANDONED_SECONDS = 60.0


class ControlPlane:
    """One control plane on free ports of 127.0.0.1, in a temporary folder.

    Args:
        scheduler: also run kube-scheduler, for tests that bring their own nodes.
    """

    def __init__(self, *, scheduler: bool = False) -> None:
        self._scheduler = scheduler
        self._folder: Path | None = None
        self._lock: IO[str] | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, list[str | Path]] = {}
        self._token = secrets.token_hex(16)
        self.server = self.etcd = ""

    @property
    def folder(self) -> Path:
        """The temporary folder: kubeconfig, certificates and a log file per process."""
        if self._folder is None:
            raise ClusterError("the control plane is not started")
        return self._folder

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    def kubectl(self) -> ClusterCommand:
        """kubectl of the same version, bound to this control plane."""
        return ClusterCommand(binaries.ensure("kubectl")["kubectl"], self.kubeconfig)

    def start(self) -> Self:
        """Start everything and wait until a namespace gets its service account.

        Raises:
            ClusterError: a binary cannot be built, or a process ended; the message has its last words.
        """
        names = [name for name in binaries.CONTROL_PLANE if self._scheduler or name != "kube-scheduler"]
        built = binaries.ensure(*names)
        _remove_abandoned()
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Held while we live: another run removes the folder of a run that was killed.
        self._lock = (self._folder / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._start_all(built)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process and remove the folder. All state is thrown away, so nothing is asked to be tidy."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(30)
        self._processes.clear()
        if self._lock is not None:
            self._lock.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_all(self, built: dict[str, Path]) -> None:
        etcd_port, peer_port, api_port = (free_port() for _ in range(3))
        folder = self.folder
        token = self._token
        _private(folder / "tokens.csv", f'{token},admin,admin,"system:masters"\n')
        _signing_key(folder / "service-accounts.key")
        self.etcd = etcd_url = f"http://127.0.0.1:{etcd_port}"
        peer_url = f"http://127.0.0.1:{peer_port}"
        self._run(
            built["etcd"],
            "--unsafe-no-fsync",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--log-level=warn",
        )
        self.server = f"https://127.0.0.1:{api_port}"
        self._run(
            built["kube-apiserver"],
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={api_port}",
            "--endpoint-reconciler-type=none",  # 127.0.0.1 is no valid endpoint
            f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder / 'service-accounts.key'}",
            f"--service-account-signing-key-file={folder / 'service-accounts.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--enable-priority-and-fairness=false",
            "--profiling=false",
        )
        certificate = self._wait_for_api()
        _private(self.kubeconfig, _kubeconfig(self.server, certificate.read_bytes(), token))
        self._run(
            built["kube-controller-manager"],
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--root-ca-file={certificate}",
            f"--service-account-private-key-file={folder / 'service-accounts.key'}",
            "--profiling=false",
        )
        if self._scheduler:
            self._run(
                built["kube-scheduler"], f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"
            )
        try:
            wait_until(self.kubectl(), "get", "serviceaccount", "default", seconds=_READY_SECONDS)
        except CommandError as failed:
            self._raise_ended()
            raise ClusterError(f"kube-controller-manager makes no service account: {failed.stderr.strip()}") from failed

    def _run(self, binary: Path, *options: str) -> None:
        self._commands[binary.name] = [binary, *options]
        self._processes[binary.name] = start_child([binary, *options], log=self.folder / f"{binary.name}.log")

    def restart_api_server(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """End the API server with SIGKILL and start it again; what it has in memory is gone."""
        name = "kube-apiserver"
        self._processes[name].kill()
        self._processes[name].wait(30)
        meanwhile()
        self._processes[name] = start_child(self._commands[name], log=self.folder / f"{name}.log")
        self._wait_for_api()

    def _wait_for_api(self) -> Path:
        certificate = self.folder / "certificates" / "apiserver.crt"
        deadline = time.monotonic() + _READY_SECONDS
        request = urllib.request.Request(f"{self.server}/readyz", headers={"Authorization": f"Bearer {self._token}"})
        while True:
            # The server writes the certificate before it listens.
            with contextlib.suppress(OSError, urllib.error.URLError):
                trust = ssl.create_default_context(cafile=str(certificate))
                with urllib.request.build_opener(
                    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
                ).open(request, timeout=5):
                    return certificate
            self._raise_ended()
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"kube-apiserver is not ready in {_READY_SECONDS:.0f} s: {self._last('kube-apiserver')}"
                )
            time.sleep(0.1)

    def _raise_ended(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ClusterError(f"{name} ended with {process.returncode}: {self._last(name)}")

    def _last(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "it logged nothing"


def _remove_abandoned() -> None:
    """Remove the folders of runs that were killed: their locks are free."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/lock"):
        with contextlib.suppress(OSError), lock.open("r+") as handle:
            if time.time() - lock.stat().st_mtime < _ABANDONED_SECONDS:
                continue  # perhaps made, but not yet locked
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _signing_key(path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ClusterError("the key that signs service account tokens needs `openssl`: install it")
    subprocess.run(
        [openssl, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)],
        check=True,
        capture_output=True,
    )


def _kubeconfig(server: str, certificate: bytes, token: str) -> str:
    name = "taskfleet-controlplane"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": base64.b64encode(certificate).decode(),
                    },
                }
            ],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
            "current-context": name,
        },
        indent=2,
    )
