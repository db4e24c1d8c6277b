"""Access by tokens of a file: `view NAME TOKEN` or `edit NAME TOKEN`, one a line, or a token alone, which may edit."""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from starlette.requests import HTTPConnection

from taskfleet import showing
from taskfleet.errors import ConfigurationError
from taskfleet_dashboard.access.cookies import has_bearer, token_of
from taskfleet_dashboard.access.visitor import AccessDenied, Visitor

logger = showing.logger("taskfleet.dashboard")

LEAST_CHARACTERS = 16
_MOST_BYTES = 1_048_576


class TokenAccess:
    """A token comes in the header `Authorization: Bearer …`, or in the cookie of a login.

    The file is read again when it has changed; one that cannot be read any more lets nobody in. Errors:
    `ConfigurationError` for a file that cannot be read at first, or is wrong.
    """

    login: str | None = "token"

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._known: list[tuple[bytes, Visitor]] = []
        self._load(self._stat())

    def _stat(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self._file)
        except OSError as error:
            raise ConfigurationError(f"--token-file {str(self._file)!r} cannot be read: {error.strerror}") from None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _load(self, stamp: tuple[int, int, int]) -> None:
        try:
            with open(self._file, "rb") as opened:
                data = opened.read(_MOST_BYTES + 1)
            text = data.decode()
        except OSError as error:
            raise ConfigurationError(f"--token-file {str(self._file)!r} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"--token-file {str(self._file)!r} is no text") from None
        if len(data) > _MOST_BYTES:  # its last token would be cut, and be another one
            raise ConfigurationError(f"--token-file {str(self._file)!r} has more than {_MOST_BYTES} bytes")
        self._known = _parsed(text, str(self._file))
        self._stamp = stamp

    def _tokens(self) -> list[tuple[bytes, Visitor]]:
        try:
            stamp = self._stat()
            if stamp != self._stamp:
                self._load(stamp)
        except ConfigurationError as error:
            if self._stamp is not None:
                logger.error("nobody can log in: %s", error)
            self._known, self._stamp = [], None
        return self._known

    async def visitor(self, request: HTTPConnection) -> Visitor:
        """Who sends it. Errors: `AccessDenied`."""
        token = token_of(request)
        if not token:
            raise AccessDenied("log in with a token, or send the header Authorization: Bearer TOKEN")
        return await self.of_token(token)

    async def of_token(self, token: str) -> Visitor:
        """Who has that token. Errors: `AccessDenied`."""
        given = token.strip().encode("utf-8", "replace")
        found: Visitor | None = None
        for known, visitor in self._tokens():
            if hmac.compare_digest(given, known):  # all are compared, so that the time tells nothing
                found = visitor
        if found is None:
            raise AccessDenied("this token is not known here")
        return found

    def is_ambient(self, request: HTTPConnection) -> bool:
        """A cookie is, a header is not."""
        return not has_bearer(request)


def _parsed(text: str, file: str) -> list[tuple[bytes, Visitor]]:
    found: list[tuple[bytes, Visitor]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) == 1:
            words = ["edit", "token", *words]
        if len(words) != 3 or words[0] not in ("view", "edit"):
            raise ConfigurationError(f"--token-file {file!r}, line {number}: write TOKEN, or view|edit NAME TOKEN")
        if len(words[2]) < LEAST_CHARACTERS:
            raise ConfigurationError(
                f"--token-file {file!r}, line {number}: the token has fewer than {LEAST_CHARACTERS} characters; "
                "make one with: openssl rand -hex 32"
            )
        found.append((words[2].encode(), Visitor(words[1], may_change=words[0] == "edit")))
    if not found:
        raise ConfigurationError(f"--token-file {file!r} has no token; make one with: openssl rand -hex 32")
    return found
