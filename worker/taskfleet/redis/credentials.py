"""Credentials and TLS for connections to Redis."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
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
        self.given: tuple[str, ...] = ()
        """The passwords that were given last: a connection may still have the one before the rotation."""

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AccessFileError(f"{self._setting} {self._path}: {_reason(error)}") from None
        if password not in self.given:
            self.given = (*self.given[-1:], password)
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        # A small local file, often in memory, is not worth a thread.
        return self.get_credentials()


def passwords_in(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The passwords of redis-py's options, for what must not repeat them."""
    provider = options.get("credential_provider")
    given = provider.given if isinstance(provider, FileCredentials) else ()
    password = options.get("password")
    return (*given, password) if isinstance(password, str) else given


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
            raise AccessFileError(f"{source}: {_reason(error)}") from None
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


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no usable certificate or key ({(error.reason or 'unreadable').lower().replace('_', ' ')})"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return (getattr(error, "strerror", None) or str(error)).lower()
