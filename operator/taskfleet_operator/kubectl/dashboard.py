"""The dashboard in the cluster: where it is, by which token it is asked, and its answers.

The way leads through the API server (`services/proxy`), which takes the header `Authorization` away. So the dashboard
gets a token in a header of its own: one of ten minutes, for this dashboard alone, of a service account whose tokens the
user may ask for. So Kubernetes decides what the user may do, however they log in, and their own token stays with them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from taskfleet.errors import ConfigurationError

from .cluster import Answer, ClusterAccess, ClusterError, checked

SELECTOR = "app.kubernetes.io/part-of=taskfleet,app.kubernetes.io/component=dashboard"
RIGHTS_OF = "taskfleet.io/rights-of"
USUAL = ("taskfleet-system", "taskfleet-dashboard")
_PORT = "http"
_TOKEN_SECONDS = 600
_TOKEN_HEADER, _USER_HEADER = "X-Taskfleet-Token", "X-Taskfleet-User"


class NoDashboardError(ClusterError):
    """There is no dashboard that could be asked."""


@dataclass
class Dashboard:
    """One dashboard. `account` is a service account, as `NAME` or `NAMESPACE/NAME`; empty for those of the chart."""

    cluster: ClusterAccess
    namespace: str
    name: str
    account: str = ""
    own_token: bool = False
    _tokens: dict[str, tuple[float, str]] = field(default_factory=dict[str, tuple[float, str]])
    _user: str | None = None

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The answer of `GET /api/PATH`. Errors: `ClusterError`."""
        return self._ask("GET", path, "view", query, None)

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        """The answer of `POST /api/PATH`. Errors: `ClusterError`, with the status of the dashboard."""
        return self._ask("POST", path, "edit", {}, body)

    def _ask(self, method: str, path: str, role: str, query: dict[str, Any], body: object) -> dict[str, Any]:
        headers = {_TOKEN_HEADER: self._token(role)}
        if role == "edit" and not self.own_token and (user := self._who()):
            headers[_USER_HEADER] = user
        service = (
            f"/api/v1/namespaces/{quote(self.namespace, safe='')}/services/{quote(self.name, safe='')}:{_PORT}/proxy"
        )
        answer = self.cluster.call(method, f"{service}/api/{path}", query, body, headers)
        if answer.status >= 400:
            raise self._refusal(answer, method)
        if answer.status >= 300 or not answer.body:  # a page, or the way to one
            raise NoDashboardError(
                f"{self.namespace}/{self.name} does not answer as a dashboard does; name it with --dashboard "
                "NAMESPACE/NAME", answer.status,
            )  # fmt: skip
        return answer.body

    def _refusal(self, answer: Answer, method: str) -> ClusterError:
        where = f"{self.namespace}/{self.name}"
        if "error" in answer.body and not answer.of_api_server:
            return ClusterError(str(answer.body["error"]), answer.status)
        if answer.status == 401:
            return ClusterError("the API server does not know you: log in again, as for kubectl", 401)
        if answer.status == 404:
            return NoDashboardError(f"there is no dashboard {where}; name it with --dashboard NAMESPACE/NAME", 404)
        if answer.status == 403:
            verb, role = ("get", "view") if method == "GET" else ("create", "edit")
            return NoDashboardError(
                f"you may not {verb} services/proxy of {where}: ask for the Role {self.name}-user-{role}", 403
            )
        said = " ".join(str(answer.body.get("message") or f"status {answer.status}").split())[:500]
        if answer.status in (502, 503, 504):
            see = f"kubectl -n {self.namespace} get pods"
            return NoDashboardError(f"the dashboard {where} does not answer ({said}); see: {see}", answer.status)
        return ClusterError(f"the dashboard {where}: {said}", answer.status)

    def _token(self, role: str) -> str:
        if self.own_token:
            own = self.cluster.own_token()
            if not own:
                raise ConfigurationError("--own-token: your kubeconfig logs in by a certificate, and has no token")
            return own
        kept = self._tokens.get(role)
        if kept is None or kept[0] < time.monotonic():
            kept = self._tokens[role] = time.monotonic() + _TOKEN_SECONDS / 2, self._new_token(role)
        return kept[1]

    def _new_token(self, role: str) -> str:
        namespace, _, name = self.account.rpartition("/")
        name, namespace = name or f"{self.name}-{role}", namespace or self.namespace
        spec = {"audiences": [f"taskfleet-dashboard:{self.namespace}/{self.name}"], "expirationSeconds": _TOKEN_SECONDS}
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/serviceaccounts/{quote(name, safe='')}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.cluster.call("POST", path, body=body)
        if answer.status == 403:
            what = "look at" if role == "view" else "change anything through"
            raise ClusterError(
                f"you may not {what} the dashboard {self.namespace}/{self.name}: ask for the Role "
                f"{self.name}-user-{role}, or name another with --dashboard", 403,
            )  # fmt: skip
        if answer.status == 404:
            if self.account:
                raise ConfigurationError(f"--service-account: there is no {namespace}/{name}")
            raise NoDashboardError(
                f"there is no dashboard {self.namespace}/{self.name} of the chart; name it with --dashboard "
                "NAMESPACE/NAME, or its users' account with --service-account", 404,
            )  # fmt: skip
        return str((checked(answer).body.get("status") or {}).get("token") or "")

    def _who(self) -> str:
        """The name of the user, which the record of changes tells beside the account."""
        if self._user is None:
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            try:
                answer = self.cluster.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
                info = (checked(answer).body.get("status") or {}).get("userInfo") or {}
                self._user = str(info.get("username") or "")
            except ClusterError:
                self._user = ""
            if not (self._user.isascii() and self._user.isprintable()):
                self._user = ""  # a header holds nothing else
        return self._user


def find(cluster: ClusterAccess, wanted: str, *, account: str = "", own_token: bool = False) -> Dashboard:
    """The dashboard `[NAMESPACE/]NAME`; without one, that of the user's namespace, or the only one.

    Errors: `NoDashboardError`, `ConfigurationError` when there are several.
    """
    if wanted:
        namespace, _, name = wanted.rpartition("/")
        return Dashboard(cluster, namespace or cluster.namespace, name, account, own_token)
    found = _services(cluster)
    if found is None:  # the user may list no services: then it is the usual one or none
        return Dashboard(cluster, *USUAL, account, own_token)
    own = [each for each in found if cluster.namespace in (each.get("labels", {}).get(RIGHTS_OF), each["namespace"])]
    chosen = own or found
    if not chosen:
        raise NoDashboardError("there is no dashboard in this cluster: install the chart with dashboard.enabled=true")
    if len(chosen) > 1:
        names = ", ".join(f"{each['namespace']}/{each['name']}" for each in chosen[:10])
        raise ConfigurationError(f"there are several dashboards: choose one with --dashboard: {names}")
    return Dashboard(cluster, chosen[0]["namespace"], chosen[0]["name"], account, own_token)


def _services(cluster: ClusterAccess) -> list[dict[str, Any]] | None:
    for place in ("", f"/namespaces/{quote(cluster.namespace, safe='')}"):
        answer = cluster.call("GET", f"/api/v1{place}/services", {"labelSelector": SELECTOR, "limit": 100})
        if answer.status == 403:
            continue
        found = [each["metadata"] for each in checked(answer).body.get("items") or []]
        if found or not place:
            return found
    return None
