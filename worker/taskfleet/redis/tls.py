"""TLS for connections to Redis. A connection without TLS does not import it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio.connection import Connection

from taskfleet.redis.credentials import AccessFileError, reason


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates of TLS connections, as PEM files. Without `ca_file` the system's authorities are trusted.

    `ca_data`, `cert_data` and `key_data` are PEM text in place of a file.
    `server_name` replaces the dialled address as the name that the server's certificate must have.
    `check_hostname=False` accepts a certificate of a trusted authority with any name, `verify=False` any certificate.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    check_hostname: bool = True
    verify: bool = True
    ca_data: str = field(default="", repr=False)
    cert_data: str = field(default="", repr=False)
    key_data: str = field(default="", repr=False)

    def context(self) -> ssl.SSLContext:
        """A new context at each call, so that renewed files take effect. `AccessFileError` names a unreadable file."""
        source = f"redis.tls_ca_file {self.ca_file}" if self.ca_file else "the CA"
        try:
            context = ssl.create_default_context(
                cafile=str(self.ca_file) if self.ca_file else None, cadata=self.ca_data or None
            )
            if self.cert_file:
                source = f"redis.tls_cert_file {self.cert_file}"
                context.load_cert_chain(str(self.cert_file), str(self.key_file) if self.key_file else None)
            if self.cert_data:
                source = "the client certificate"
                _load_chain(context, self.cert_data, self.key_data)
        except (OSError, ValueError) as error:
            raise AccessFileError(f"{source}: {reason(error)}") from None
        context.check_hostname = self.check_hostname and self.verify
        if not self.verify:
            context.verify_mode = ssl.CERT_NONE
        return context


class TlsConnection(Connection):
    """A connection that uses `Tls`."""

    def __init__(self, *, tls: Tls, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = {**super()._connection_arguments(), "ssl": self._tls.context()}
        if self._tls.server_name:
            arguments["server_hostname"] = self._tls.server_name
        return arguments


def _load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load PEM text. OpenSSL reads a chain from files only, so it gets one in memory, without a name."""
    with open(os.memfd_create("taskfleet"), "w", encoding="ascii") as file:
        file.write(f"{certificate}\n{key}\n")
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
