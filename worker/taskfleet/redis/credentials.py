"""Credentials for connections to Redis."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis import exceptions as redis_exceptions
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
            raise AccessFileError(f"{self._setting} {self._path}: {reason(error)}") from None
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


def reason(error: Exception) -> str:
    """Why a file with a password or a certificate cannot be used."""
    if isinstance(error, ssl.SSLError):
        return f"no usable certificate or key ({(error.reason or 'unreadable').lower().replace('_', ' ')})"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return (getattr(error, "strerror", None) or str(error)).lower()
