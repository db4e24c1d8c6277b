"""The calls for one Lease object, over a connection of its own: a renewal waits behind nothing else."""

from __future__ import annotations

import json
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp

from ..api import login
from ..api.connections import without_late_writes
from ..api.kubernetes_api import ApiError

Lease = dict[str, Any]


class Leases(Protocol):
    """One Lease. Every call takes `seconds` at most. Raises `ApiError`, `OSError` or `TimeoutError`."""

    async def read(self, seconds: float) -> Lease | None: ...

    async def create(self, lease: Lease, seconds: float) -> Lease: ...

    async def replace(self, lease: Lease, seconds: float) -> Lease:
        """Refused with 409 when the object has another resourceVersion than `lease`, with 404 when it is gone."""
        ...


class LeaseClient:
    """The Lease `name` in `namespace`.

    After a failure the next call uses a new connection and reads the configuration again: a connection may have died
    without a word, and the token may have been replaced.
    """

    def __init__(self, namespace: str, name: str) -> None:
        self._identity = {"namespace": namespace, "name": name}
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace)}/leases"
        self._path = f"{self._folder}/{quote(name)}"
        self._api: Any = None

    async def read(self, seconds: float) -> Lease | None:
        try:
            return await self._call("GET", self._path, None, seconds)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, lease: Lease, seconds: float) -> Lease:
        named = {**lease, "metadata": {**lease["metadata"], **self._identity}}
        return await self._call("POST", self._folder, named, seconds)

    async def replace(self, lease: Lease, seconds: float) -> Lease:
        return await self._call("PUT", self._path, lease, seconds)

    async def close(self) -> None:
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    async def _call(self, method: str, path: str, body: Lease | None, seconds: float) -> Lease:
        if self._api is None:
            self._api = without_late_writes(await login.client())
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "taskfleet-operator"}
        try:
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            # The server gives up as soon as this client does: a call that waits in the server must not succeed later.
            url = f"{self._api.configuration.host}{path}?timeout={max(1, int(seconds))}s"
            answer: Any = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=seconds
            )
            response: aiohttp.ClientResponse = answer.response
            data: bytes = await response.read()
            if response.status >= 400:
                raise ApiError(response.status, _message(data))
            found: Lease = json.loads(data)
        except ApiError as error:
            if error.status == 401:
                await self.close()
            raise
        except aiohttp.ClientError as error:
            await self.close()
            raise ConnectionError(str(error) or type(error).__name__) from error
        except BaseException:
            await self.close()
            raise
        return found


def _message(data: bytes) -> str:
    try:
        return " ".join(str(json.loads(data)["message"]).split())[:500]
    except (ValueError, KeyError, TypeError):
        return data[:200].decode("utf-8", "replace")
