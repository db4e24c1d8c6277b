"""Where the API server is, and how the operator logs in: with what its pod has, or else by a kubeconfig.

The service account of a pod, and a kubeconfig with certificates or a token, are read here. For every other way to log
in there is the Kubernetes client. It is imported only then, since it takes 15 MB of memory.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from taskfleet import describing
from taskfleet.errors import ConfigurationError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_OF_CLUSTER = {"server", "certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify"}
_OF_USER = {"client-certificate", "client-certificate-data", "client-key", "client-key-data", "token"}


@dataclass(slots=True)
class ApiServer:
    """The address of an API server, its certificates, and the token of the next call; an empty one is not sent."""

    host: str
    trust: ssl.SSLContext
    token: Callable[[], str]


@dataclass(frozen=True, slots=True)
class LoginAnswer:
    """What `request` returns, as in the Kubernetes client."""

    response: aiohttp.ClientResponse


class PlainClient:
    """The few parts of the Kubernetes client's `ApiClient` that the operator uses, for a certificate or a token."""

    maxsize = 0  # connections: each watch holds one

    def __init__(self, server: ApiServer) -> None:
        self.configuration = server
        self.rest_client = self
        self.ssl_context = server.trust
        self.pool_manager: aiohttp.ClientSession | None = None  # set by `connections.without_late_writes`

    async def update_params_for_auth(self, headers: dict[str, str], *_: Any) -> None:
        if token := self.configuration.token():
            headers["Authorization"] = f"Bearer {token}"

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Any,
        _request_timeout: float | aiohttp.ClientTimeout,
    ) -> LoginAnswer:
        assert self.pool_manager is not None
        seconds = _request_timeout
        timeout = seconds if isinstance(seconds, aiohttp.ClientTimeout) else aiohttp.ClientTimeout(total=seconds)
        data = None if body is None else json.dumps(body)
        return LoginAnswer(await self.pool_manager.request(method, url, headers=headers, data=data, timeout=timeout))

    async def close(self) -> None:
        if self.pool_manager is not None:
            await self.pool_manager.close()


async def client(kubeconfig: str | None = None) -> Any:
    """A `PlainClient`, or the Kubernetes client's `ApiClient`, without a session as yet.

    `kubeconfig` is a path. Errors: `ConfigurationError` when there is neither a pod nor a kubeconfig.
    """
    path = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    server = _of_pod() or _of_kubeconfig(Path(path).expanduser())
    return await _by_library(kubeconfig, path) if server is None else PlainClient(server)


def _of_pod() -> ApiServer | None:
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}") for part in ("HOST", "PORT"))
    if not host or not port:
        return None
    authority, token = _SERVICE_ACCOUNT / "ca.crt", _Token(_SERVICE_ACCOUNT / "token")
    try:
        if not token():
            return None
        trust = ssl.create_default_context(cafile=authority)
    except OSError:
        return None
    return ApiServer(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", trust, token)


class _Token:
    """The token in a file, which Kubernetes replaces before it expires."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = ""

    def __call__(self) -> str:
        with contextlib.suppress(OSError, ValueError):  # the API server says whether the last one still holds
            self._last = self._path.read_text(encoding="ascii").strip() or self._last
        return self._last


def _of_kubeconfig(path: Path) -> ApiServer | None:
    """The server of the current context. None when the file asks for more than this module knows, or is a bad one."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        context = _named(content, "context", content["current-context"])
        cluster, user = _named(content, "cluster", context["cluster"]), _named(content, "user", context["user"])
        if not (cluster.keys() <= _OF_CLUSTER and user.keys() <= _OF_USER):
            return None
        token = str(user.get("token") or "")
        return ApiServer(str(cluster["server"]).rstrip("/"), _trust(cluster, user, path.parent), lambda: token)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return None  # the Kubernetes client names what is wrong


def _named(content: Any, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each[kind] for each in content[f"{kind}s"] if each["name"] == name)
    return found


def _trust(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as made:  # a certificate of the client can only be loaded from a file

        def file_of(section: Mapping[str, Any], key: str) -> Path | None:
            if data := section.get(f"{key}-data"):
                file = Path(made, key)
                file.write_bytes(base64.b64decode(data))
                return file
            return folder / section[key] if section.get(key) else None

        trust = ssl.create_default_context(cafile=file_of(cluster, "certificate-authority"))
        if (certificate := file_of(user, "client-certificate")) is not None:
            trust.load_cert_chain(certificate, file_of(user, "client-key"))
    if cluster.get("insecure-skip-tls-verify"):
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    return trust


async def _by_library(kubeconfig: str | None, path: str) -> Any:
    from kubernetes.aio import client as library
    from kubernetes.aio import config

    configuration = library.Configuration(connection_pool_maxsize=PlainClient.maxsize)
    loading: Any = config  # its functions have no types
    try:
        await loading.load_kube_config(kubeconfig, client_configuration=configuration)
    except Exception as error:  # of a file that is no kubeconfig, anything
        raise ConfigurationError(
            f"no Kubernetes to talk to: {path}: {describing.text_of(error)}; set KUBECONFIG to a kubeconfig, "
            "or run this in a pod"
        ) from None
    return library.ApiClient(configuration)
