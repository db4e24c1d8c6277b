"""The few calls of the Kubernetes API that a node of local processes makes."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

Object = dict[str, Any]

MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
_WATCH_SECONDS = 300


class NodeApiError(Exception):
    """The API server refused a call."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} ({status})")
        self.status = status


class NodeApi:
    """A connection as the user of a kubeconfig with a token, to be used inside `async with`."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server = cluster["server"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._trust = ssl.create_default_context(cadata=authority)
        self._token = config["users"][0]["user"]["token"]
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._trust, limit=0), headers={"Authorization": f"Bearer {self._token}"}
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json", **query: str
    ) -> Object:
        """One call; `NodeApiError` when it is refused."""
        assert self._session is not None
        async with self._session.request(
            method,
            f"{self._server}{path}",
            params=query,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": kind},
            timeout=aiohttp.ClientTimeout(total=30),
        ) as response:
            data = await response.read()
            if response.status >= 400:
                raise NodeApiError(response.status, data.decode(errors="replace")[:2000])
            found: Object = json.loads(data)
            return found

    async def watch(self, path: str, version: str) -> AsyncIterator[tuple[str, Object]]:
        """Events after `version`: (`ADDED`, object), … It ends when the server ends it."""
        assert self._session is not None
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS)}
        async with self._session.get(
            f"{self._server}{path}", params=query, timeout=aiohttp.ClientTimeout(total=None, sock_connect=30)
        ) as response:
            if response.status >= 400:
                raise NodeApiError(response.status, (await response.text())[:2000])
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]
