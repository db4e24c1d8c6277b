"""Credentials and TLS for connections to Redis."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import exceptions as redis_exceptions
from redis.asyncio.connection import Connection
from redis.credentials import CredentialProvider


class AccessFileError(redis_exceptions.AuthenticationError):
    """A file with a password or a certificate cannot be read at the moment; the next try may find it."""


class FileCredentials(CredentialProvider):
    """User name and password for connections.

    The password is read from its file at each connection, so that a rotated password takes effect.
    """

    def __init__(self, username: str | None, path: Path, setting: str) -> None:
        self._username = username
        self._path = path
        self._setting = setting

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AccessFileError(f"{self._setting} {self._path}: {_reason(error)}") from None
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        # A small local file, often in memory, is not worth a thread.
        return self.get_credentials()


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates of TLS connections, as PEM files. Without `ca_file` the system's authorities are trusted.

    `server_name` replaces the dialled address as the name that the server's certificate must have.
    `check_hostname=False` accepts a certificate of a trusted authority with any name, `verify=False` any certificate.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    check_hostname: bool = True
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """A new context at each call, so that renewed files take effect. `AccessFileError` names a unreadable file."""
        setting = "redis.tls_ca_file"
        path = self.ca_file
        try:
            context = ssl.create_default_context(cafile=str(path) if path else None)
            if self.cert_file:
                setting, path = "redis.tls_cert_file", self.cert_file
                context.load_cert_chain(str(self.cert_file), str(self.key_file) if self.key_file else None)
        except OSError as error:
            raise AccessFileError(f"{setting} {path}: {_reason(error)}") from None
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


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no usable certificate or key ({(error.reason or 'unreadable').lower().replace('_', ' ')})"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return (getattr(error, "strerror", None) or str(error)).lower()
