"""Access by a token of Kubernetes: the API server says whose it is (TokenReview), and what that user may do in a
namespace (SubjectAccessReview). Who may `get` taskqueues.taskfleet.io may look, who may `update` them may change. The
same verbs on `taskqueues/dashboard`, a subresource that the API server does not have, give the same here and nothing
there.

A token may be for the API server, or for this dashboard alone (`audience`): then it is of no use to whoever gets hold
of it here or on the way.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from typing import Any

from starlette.requests import HTTPConnection

from taskfleet import describing, showing
from taskfleet.errors import ConfigurationError
from taskfleet_dashboard.access.cookies import has_bearer, token_of
from taskfleet_dashboard.access.visitor import AccessDenied, Visitor

logger = showing.logger("taskfleet.dashboard")

USER_HEADER = "X-Taskfleet-User"
"""Who uses the token of a service account, by their own word. It gives no right; the record says whose word it is."""
GROUP, RESOURCE, SUBRESOURCE = "taskfleet.io", "taskqueues", "dashboard"
_KEPT_SECONDS = 30.0  # a right that is taken away ends so much later
_MOST_KEPT = 1000
_MOST_REVIEWS = 8  # at one time
_TIMEOUT_SECONDS = 10.0
_MOST_TOKEN = 2900  # characters that a cookie can hold


class KubernetesAccess:
    """A token comes in the header `Authorization: Bearer …`, or in the cookie of a login. Answers are kept for 30 s."""

    login: str | None = "token"

    def __init__(self, namespace: str, *, audience: str = "", kubeconfig: str | None = None) -> None:
        self._namespace = namespace
        self._audience = audience
        self._kubeconfig = kubeconfig
        self._client: Any = None
        self._reviews = asyncio.Semaphore(_MOST_REVIEWS)  # whoever sends made-up tokens keeps no API server busy
        self._kept: dict[bytes, tuple[float, Visitor | AccessDenied]] = {}

    async def connect(self) -> None:
        """Find the API server. Errors: `ConfigurationError`."""
        if self._client is not None:
            return
        try:
            from kubernetes.aio import client, config
        except ImportError:
            raise ConfigurationError(
                "--kubernetes-access needs the client of Kubernetes: pip install 'taskfleet[operator]'"
            ) from None
        loader: Any = config  # its functions have no types
        configuration = client.Configuration()
        try:
            loader.load_incluster_config(client_configuration=configuration)
        except Exception:  # outside of a cluster
            try:
                await loader.load_kube_config(self._kubeconfig, client_configuration=configuration)
            except Exception as error:  # of a file that is no kubeconfig, anything
                why = describing.text_of(error).partition("\n")[0]
                raise ConfigurationError(
                    f"--kubernetes-access: no Kubernetes to talk to: {why}; set KUBECONFIG, or run this in a pod"
                ) from None
        self._client = client.ApiClient(configuration)

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def visitor(self, request: HTTPConnection) -> Visitor:
        """Who sends it. Errors: `AccessDenied`."""
        token = token_of(request)
        if not token:
            raise AccessDenied("log in with a token of Kubernetes: kubectl create token SERVICEACCOUNT")
        visitor = await self.of_token(token)
        said = request.headers.get(USER_HEADER, "").strip()
        if said and has_bearer(request):
            return replace(visitor, user=f"{visitor.user}, who says to be {showing.shown(said, 100)}")
        return visitor

    async def of_token(self, token: str) -> Visitor:
        """Who has that token. Errors: `AccessDenied`."""
        token = token.strip()
        if not token or len(token) > _MOST_TOKEN:
            raise AccessDenied("this is no token of Kubernetes")
        key = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        now = time.monotonic()
        kept = self._kept.get(key)
        if kept is None or kept[0] < now:
            async with self._reviews:
                found = await self._asked(token)
            self._kept = {each: held for each, held in self._kept.items() if held[0] >= now}
            if len(self._kept) >= _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[key] = now + _KEPT_SECONDS, found
        if isinstance(kept[1], AccessDenied):
            raise AccessDenied(str(kept[1]), status=kept[1].status)
        return kept[1]

    async def _asked(self, token: str) -> Visitor | AccessDenied:
        status = await self._whose(token, [self._audience]) if self._audience else {}
        if status.get("authenticated") is not True:
            status = await self._whose(token, [])
        if status.get("authenticated") is not True:
            return AccessDenied("the API server does not know this token, or it has expired")
        user = status.get("user") or {}
        name = str(user.get("username") or "")
        if not await self._may(user, "get"):
            return AccessDenied(
                f"{showing.shown(name, 200)} may not get {RESOURCE}.{GROUP} in namespace {self._namespace}", status=403
            )
        return Visitor(name, may_change=await self._may(user, "update"))

    async def _whose(self, token: str, audiences: list[str]) -> dict[str, Any]:
        """The status of a TokenReview; without an audience, for the API server itself."""
        spec = {"token": token, **({"audiences": audiences} if audiences else {})}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        found = (await self._post("/apis/authentication.k8s.io/v1/tokenreviews", body)).get("status")
        return found if isinstance(found, dict) else {}

    async def _may(self, user: dict[str, Any], verb: str) -> bool:
        return await self._may_do(user, verb, "") or await self._may_do(user, verb, SUBRESOURCE)

    async def _may_do(self, user: dict[str, Any], verb: str, subresource: str) -> bool:
        asked = {"namespace": self._namespace, "verb": verb, "group": GROUP, "resource": RESOURCE}
        spec = {
            "user": user.get("username"), "groups": user.get("groups") or [], "uid": user.get("uid") or "",
            "extra": user.get("extra") or {}, "resourceAttributes": {**asked, "subresource": subresource},
        }  # fmt: skip
        review = await self._post(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec},
        )
        return (review.get("status") or {}).get("allowed") is True

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One call of the API. An API server that does not answer lets nobody in, and nothing is kept of that."""
        try:
            await self.connect()
            api, headers = self._client, {"Accept": "application/json", "Content-Type": "application/json"}
            # The token of this process is read at every call: tokens in pods are rotated.
            await api.update_params_for_auth(headers, [], ["BearerToken"], path, "POST", body)
            answer = await api.rest_client.request(
                "POST", f"{api.configuration.host}{path}", headers=headers, body=body, _request_timeout=_TIMEOUT_SECONDS
            )
            data, status = await answer.response.read(), answer.response.status
            found = json.loads(data)
            if status >= 400:
                raise ValueError(f"{found.get('message')} ({status})")
        except Exception as error:  # of generated code and of aiohttp, which have no common class
            why = showing.shown(describing.text_of(error).partition("\n")[0] or type(error).__name__, 300)
            logger.error("the API server does not review tokens: %s", why)
            raise AccessDenied(f"the API server does not review tokens: {why}", status=503) from None
        return found if isinstance(found, dict) else {}

    def is_ambient(self, request: HTTPConnection) -> bool:
        """A cookie is, a header is not."""
        return not has_bearer(request)
