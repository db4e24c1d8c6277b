"""`taskfleet dashboard` as a server of its own."""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from taskfleet.errors import ConfigurationError
from taskfleet.parent_process import Parent
from taskfleet.queue import TaskQueue
from taskfleet_dashboard.access.kubernetes import KubernetesAccess
from taskfleet_dashboard.access.proxies import ProxyAccess, network
from taskfleet_dashboard.access.tokens import TokenAccess
from taskfleet_dashboard.access.visitor import Access, OpenAccess, ReadOnly
from taskfleet_dashboard.app import application
from taskfleet_dashboard.guarding.hosts import is_loopback
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.serving import Serving

_GRACE_SECONDS = 5
_UNREAD_MS = 30_000
"""After which the kernel gives a connection up whose other side takes nothing. A server that closes it waits for ever
until that side has read what was sent before."""


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """The options of the command."""

    host: str = "127.0.0.1"
    port: int = 8080
    host_names: Sequence[str] = ()
    token_file: Path | None = None
    proxy_user_header: str = ""
    proxy_groups_header: str = ""
    trusted_proxies: Sequence[str] = ()
    edit_groups: Sequence[str] = ()
    view_groups: Sequence[str] = ()
    kubernetes_access: str = ""
    kubernetes_audience: str = ""
    read_only: bool = False
    masks: Sequence[str] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    commands_per_second: float = 200.0

    def access(self) -> Access:
        """The access method. Errors: `ConfigurationError`, also for none beyond loopback."""
        given = {
            "--token-file": self.token_file is not None,
            "--proxy-user-header": bool(self.proxy_user_header),
            "--kubernetes-access": bool(self.kubernetes_access),
        }
        chosen = [name for name, is_given in given.items() if is_given]
        if len(chosen) > 1:
            raise ConfigurationError(f"{' and '.join(chosen)}: give one access method")
        proxied = (self.proxy_groups_header, *self.trusted_proxies, *self.edit_groups, *self.view_groups)
        if not self.proxy_user_header and any(proxied):
            raise ConfigurationError(
                "--proxy-groups-header, --trusted-proxy, --edit-group and --view-group go with --proxy-user-header"
            )
        if self.kubernetes_audience and not self.kubernetes_access:
            raise ConfigurationError("--kubernetes-audience goes with --kubernetes-access")
        if not chosen and not is_loopback(self.host):
            raise ConfigurationError(
                f"--host {self.host} can be reached from other machines: say who may look, with --token-file, "
                "--proxy-user-header or --kubernetes-access"
            )
        access: Access = OpenAccess()
        if self.token_file is not None:
            access = TokenAccess(self.token_file)
        elif self.proxy_user_header:
            access = ProxyAccess(
                self.proxy_user_header,
                self.proxy_groups_header,
                [network(each) for each in self.trusted_proxies],
                edit_groups=self.edit_groups,
                view_groups=self.view_groups,
            )
        elif self.kubernetes_access:
            access = KubernetesAccess(self.kubernetes_access, audience=self.kubernetes_audience)
        return ReadOnly(access) if self.read_only else access

    def hosts(self) -> list[str] | None:
        """The names that it is served as. Beyond loopback any without `--host-name`: an access method guards it."""
        if self.host_names:
            return [*self.host_names, self.host]
        return [self.host] if is_loopback(self.host) else None

    def check_tls(self) -> None:
        """Errors: `ConfigurationError` for files that are no certificate and its key."""
        if (self.tls_cert is None) != (self.tls_key is None) or (self.tls_client_ca and self.tls_cert is None):
            raise ConfigurationError("--tls-cert and --tls-key go together, and --tls-client-ca needs them")
        if self.tls_cert is None:
            return
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls_cert, self.tls_key)
            if self.tls_client_ca is not None:
                context.load_verify_locations(self.tls_client_ca)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"--tls-cert {str(self.tls_cert)!r}: {error}") from None


async def serve(queue: TaskQueue, options: DashboardOptions, parent: Parent | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until `parent` asks for the end or is gone.

    Errors: `ConfigurationError`, and `BrokerConnectionError` without Redis.
    """
    options.check_tls()
    access = options.access()
    inner = getattr(access, "_access", access)
    kubernetes = inner if isinstance(inner, KubernetesAccess) else None
    if kubernetes is not None:
        await kubernetes.connect()
    await queue.broker.ping()
    serving = Serving(
        queue, access, masks=Masks(options.masks), records=True, most_commands_per_second=options.commands_per_second
    )
    config = uvicorn.Config(
        application(serving, hosts=options.hosts()),
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
        ssl_ca_certs=str(options.tls_client_ca) if options.tls_client_ca is not None else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if options.tls_client_ca is not None else ssl.CERT_NONE,
    )
    server = uvicorn.Server(config)
    try:
        sock = _bound(options)
    except OSError as error:
        raise ConfigurationError(
            f"--port {options.port}: cannot listen on {options.host}: {error.strerror or error}; choose another port"
        ) from None
    scheme = "https" if options.tls_cert is not None else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its other lines are about itself
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes these signals while it serves, and sends them once more when it has ended: that is the end here.
        signal.signal(number, lambda *_: None)
    if parent is not None:
        parent.listen(_end, _end_now, _GRACE_SECONDS)
    print(f"dashboard: {scheme}://{host}:{sock.getsockname()[1]}", flush=True)
    try:
        await server.serve(sockets=[sock])
    finally:
        if kubernetes is not None:
            await kubernetes.close()
        sock.close()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _end_now() -> None:
    os._exit(0)


def _bound(options: DashboardOptions) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(
        options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    try:
        sock = socket.socket(family, kind)
    except OSError:
        if options.host != "::":
            raise
        # Every address, on a machine that has no IPv6.
        sock, address = socket.socket(socket.AF_INET, kind), ("0.0.0.0", options.port)  # noqa: S104
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # of Linux; the connections that it accepts inherit it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
        sock.bind(address)
        sock.listen(1024)  # who follows the printed address is answered, if not at once
    except OSError:
        sock.close()
        raise
    return sock
