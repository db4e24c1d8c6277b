"""The calls of the Kubernetes API that the operator makes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config
from kubernetes.aio.config import ConfigException

from taskfleet.errors import ConfigurationError

from ..children import KINDS
from ..resource.taskqueue import API_VERSION, GROUP, PLURAL, VERSION
from . import deep_json
from .connections import without_late_writes

Object = dict[str, Any]

OPERATOR, AUTOSCALER = "taskfleet-operator", "taskfleet-autoscaler"
_TIMEOUT_SECONDS = 15.0
_PAGE = 500  # objects in one answer to a list
_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
_MALFORMED = ("failed to convert", "failed to create typed")
_PLURALS = {
    ("v1", "Pod"): "pods",
    ("v1", "Secret"): "secrets",
    ("v1", "Event"): "events",
    ("apps/v1", "ReplicaSet"): "replicasets",
    (API_VERSION, "TaskQueue"): PLURAL,
    **{(kind.api_version, kind.kind): kind.plural for kind in KINDS},
}


class ApiError(Exception):
    """The API server refused a call. `invalid`: it will refuse the same object again.

    `conflict`: the object exists already, or is another one, or another version, than the call expected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} ({status})")
        self.status = status
        # An apply with the uid of an object that has been replaced by another ends in 422.
        self.conflict = status == 409 or (status == 422 and "metadata.uid" in message)
        # A server-side apply of an unknown or malformed field ends in 500 and not in 422.
        self.invalid = not self.conflict and (
            status in (400, 422) or (status == 500 and message.startswith(_MALFORMED))
        )


class NotLeadingError(ApiError):
    """Another operator leads, or may lead by now: this process does not write."""

    def __init__(self, subject: str) -> None:
        super().__init__(0, f"{subject}: not written, this operator does not lead")


_config: Any = config  # the functions of this module have no types


class KubernetesApi:
    """A connection to one API server. Every call has a timeout of 15 seconds."""

    def __init__(self, api: kubernetes_client.ApiClient) -> None:
        self._api: Any = api  # generated code, largely without types
        self.may_write: Callable[[], bool] = lambda: True
        """Asked immediately before each write. `NotLeadingError` when it says no."""
        self.write_seconds: Callable[[], float] = lambda: _TIMEOUT_SECONDS
        """How long a write may take at most."""
        self.calls: Counter[tuple[str, str]] = Counter()
        """Calls by verb (`GET`, `WATCH`, `PATCH`, …) and HTTP status, `error` for those without an answer."""
        self._writing = 0
        self._still = asyncio.Event()
        self._still.set()

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> KubernetesApi:
        """Connect from inside a pod, or else by the kubeconfig; `ConfigurationError` when there is neither."""
        return cls(without_late_writes(kubernetes_client.ApiClient(await cls.configuration(kubeconfig))))

    @staticmethod
    async def configuration(kubeconfig: str | None = None) -> kubernetes_client.Configuration:
        """The configuration for `connect`, without connecting. `ConfigurationError` when there is neither."""
        configuration = kubernetes_client.Configuration(connection_pool_maxsize=0)  # each watch holds a connection
        try:
            _config.load_incluster_config(client_configuration=configuration)
        except ConfigException:
            try:
                await _config.load_kube_config(kubeconfig, client_configuration=configuration)
            except (ConfigException, OSError) as error:
                raise ConfigurationError(
                    f"no Kubernetes to talk to: {error}; set KUBECONFIG, or run this in a pod"
                ) from None
        return configuration

    async def close(self) -> None:
        await self._api.close()

    async def writes_ended(self, seconds: float) -> None:
        """Wait until no write is on its way, at most for `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._still.wait()

    async def create(self, body: Object, manager: str) -> Object:
        """Create the object. `ApiError.conflict` when one of that name exists, whoever made it."""
        path = _path(body["apiVersion"], body["kind"], body["metadata"]["namespace"], "")
        return await self._call("POST", path, body, "application/json", {"fieldManager": manager})

    async def apply(self, body: Object, manager: str) -> Object:
        """Server-side apply: the fields of this manager become exactly these. Fields of other managers stay.

        It creates an object that does not exist. With `metadata.uid` it changes that object or, with
        `ApiError.conflict`, nothing.
        """
        return await self._call("PATCH", _path_of(body), body, _APPLY, {"fieldManager": manager, "force": "true"})

    async def dry_run_apply(self, body: Object, manager: str) -> Object:
        """The object as `apply` would leave it. Nothing is changed."""
        query = {"fieldManager": manager, "force": "true", "dryRun": "All"}
        return await self._call("PATCH", _path_of(body), body, _APPLY, query)

    async def set_managed_fields(self, live: Object, entries: list[Object]) -> Object:
        """Replace who manages which fields of an object. `ApiError.conflict` when `live` is not its last version."""
        body = {"metadata": {"managedFields": entries, "resourceVersion": live["metadata"]["resourceVersion"]}}
        return await self._call("PATCH", _path_of(live), body, _MERGE, {"fieldManager": OPERATOR})

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return await self._call("GET", _path(api_version, kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid, if it still exists. `ApiError.conflict` when another has its name."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", _path(api_version, kind, namespace, name), body)
        except ApiError as error:
            if error.status != 404:
                raise

    async def list_pages(
        self, api_version: str, kind: str, namespace: str | None, selector: str = ""
    ) -> AsyncGenerator[tuple[list[Object], str]]:
        """The objects of one kind, some hundred at a time, each page with the resourceVersion of the whole list.

        `namespace`: None is all. `ApiError` with status 410 when the list took too long: start again.
        """
        path, following = _path(api_version, kind, namespace, ""), ""
        while True:
            query = {"limit": str(_PAGE)} | _given(labelSelector=selector) | _given(**{"continue": following})
            page = await self._call("GET", path, query=query)
            for item in page["items"]:
                item.setdefault("apiVersion", api_version)  # the items of a list of built-in objects have neither
                item.setdefault("kind", kind)
            yield page["items"], page["metadata"]["resourceVersion"]
            following = page["metadata"].get("continue", "")
            if not following:
                return

    async def watch(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        selector: str = "",
        *,
        since: str,
        seconds: float,
        silence_seconds: float,
    ) -> AsyncGenerator[Object]:
        """The events after a resourceVersion: `{"type": …, "object": …}`, bookmarks and errors included.

        It ends after `seconds`, which the server counts. `TimeoutError` when nothing, not even a bookmark, has come for
        `silence_seconds`.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": f"{seconds:.0f}"}
        query |= {"resourceVersion": since} | _given(labelSelector=selector)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_SECONDS, sock_read=silence_seconds)
        response = await self._send("GET", _path(api_version, kind, namespace, ""), query=query, timeout=timeout)
        try:
            if response.status >= 400:
                raise ApiError(response.status, _reason(await response.read()))
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    yield deep_json.loads(line)
        finally:
            response.close()  # a watch that is left early stays open otherwise

    async def scale(self, namespace: str, name: str, uid: str, replicas: int) -> Object:
        """Set the replicas of the Deployment with this uid, and nothing else, as the autoscaler's field manager."""
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "spec": {"replicas": replicas},
        }
        return await self.apply(body, AUTOSCALER)

    async def set_deletion_cost(self, namespace: str, pod: str, cost: int) -> None:
        body = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": str(cost)}}}
        await self._call("PATCH", _path("v1", "Pod", namespace, pod), body, _MERGE, {"fieldManager": AUTOSCALER})

    async def patch_status(self, namespace: str, name: str, status: Object) -> Object:
        """Change a TaskQueue's status by a merge patch. Returns the whole TaskQueue."""
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{quote(name)}/status"
        return await self._call("PATCH", path, {"status": status}, _MERGE, {"fieldManager": OPERATOR})

    async def create_event(self, namespace: str, event: Object) -> None:
        await self._call("POST", _path("v1", "Event", namespace, ""), event, "application/json")

    async def _call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
        query: dict[str, str] | None = None,
    ) -> Object:
        writing = method != "GET" and "dryRun" not in (query or {})
        seconds = _TIMEOUT_SECONDS
        if writing:
            if not self.may_write():
                raise NotLeadingError(f"{method} {path}")
            # Whoever has sent it and whoever has received it give up before another operator can lead.
            seconds = max(1.0, min(seconds, self.write_seconds()))
            query = {**(query or {}), "timeout": f"{int(seconds)}s"}
            self._writing += 1
            self._still.clear()
        try:
            response = await self._send(method, path, body, content_type, query, seconds)
            data: bytes = await response.read()
        finally:
            if writing:
                self._writing -= 1
            if not self._writing:
                self._still.set()
        if response.status >= 400:
            raise ApiError(response.status, _reason(data))
        parsed: Object = deep_json.loads(data)
        return parsed

    async def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
        query: dict[str, str] | None = None,
        timeout: float | aiohttp.ClientTimeout = _TIMEOUT_SECONDS,
    ) -> aiohttp.ClientResponse:
        configuration: Any = self._api.configuration
        url = f"{configuration.host}{path}{'?' + urlencode(query) if query else ''}"
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": OPERATOR}
        # The token is read at every call: tokens in pods are rotated.
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        verb, code = "WATCH" if query and "watch" in query else method, "error"
        try:
            answer: Any = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
            response: aiohttp.ClientResponse = answer.response
            code = str(response.status)
        finally:
            self.calls[verb, code] += 1
        return response


def _given(**query: str) -> dict[str, str]:
    return {name: value for name, value in query.items() if value}


def _path(api_version: str, kind: str, namespace: str | None, name: str) -> str:
    root = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
    place = f"/namespaces/{quote(namespace)}" if namespace is not None else ""
    path = f"{root}{place}/{_PLURALS[api_version, kind]}"
    return f"{path}/{quote(name)}" if name else path


def _path_of(body: Object) -> str:
    metadata = body["metadata"]
    return _path(body["apiVersion"], body["kind"], metadata["namespace"], metadata["name"])


def _reason(data: bytes) -> str:
    try:
        return " ".join(str(json.loads(data)["message"]).split())
    except (ValueError, KeyError, TypeError):
        return data[:200].decode("utf-8", "replace")
