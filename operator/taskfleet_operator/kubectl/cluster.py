"""The API server, as the kubeconfig names it: one call after another, with all ways to log in that kubectl has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from kubernetes import client, config

from taskfleet import describing, showing
from taskfleet.errors import ConfigurationError, TaskQueueError

_SECONDS = 20.0
_MOST_BYTES = 32_000_000  # of an answer
_config: Any = config  # its functions have no types


class ClusterError(TaskQueueError):
    """The API server, or what it has passed the call on to, refused it. `status` is 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """The status and the body of an answer; an empty object for what is no JSON object."""

    status: int
    body: dict[str, Any]

    @property
    def of_api_server(self) -> bool:
        """Whether the API server itself says so, and not a service behind it."""
        return self.body.get("kind") == "Status" and self.body.get("apiVersion") == "v1"


class ClusterAccess:
    """One API server, and the namespace that the user works in. Errors of all calls: `ClusterError`."""

    def __init__(self, api: Any, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    @classmethod
    def connect(cls, kubeconfig: str = "", context: str = "", namespace: str = "") -> ClusterAccess:
        """By a kubeconfig, or from inside a pod. Errors: `ConfigurationError`."""
        found: Any = client.Configuration()
        # A kubeconfig that asks for no check of certificates is obeyed in silence, as by kubectl.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        try:
            _, active = _config.list_kube_config_contexts(kubeconfig or None)
            own = active
            if context:
                known = {each["name"]: each for each in _config.list_kube_config_contexts(kubeconfig or None)[0]}
                if context not in known:
                    from taskfleet.cli import similar

                    raise ConfigurationError(f"{similar.unknown('there is no context', context, known)}")
                own = known[context]
            _config.load_kube_config(kubeconfig or None, context or None, found, persist_config=False)
            here = str((own.get("context") or {}).get("namespace") or "default")
        except ConfigurationError:
            raise
        except Exception as error:  # of a file that is no kubeconfig, anything
            if kubeconfig or context:
                raise ConfigurationError(f"the kubeconfig cannot be used: {_why(error)}") from None
            here = _in_cluster(found, error)
        found.retries = False
        return cls(client.ApiClient(found), namespace or here)

    @property
    def server(self) -> str:
        """Its address."""
        return urlsplit(self._api.configuration.host).netloc or str(self._api.configuration.host)

    def own_token(self) -> str:
        """The bearer token that the kubeconfig gives; empty for a login by a certificate."""
        headers: dict[str, str] = {}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], "", "GET", None)
        kind, _, token = headers.get("authorization", "").partition(" ")
        return token.strip() if kind.lower() == "bearer" else ""

    def call(
        self, method: str, path: str, query: dict[str, Any] | None = None, body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """One call. The status of the answer is the caller's to look at."""
        given = {"Accept": "application/json", "User-Agent": "kubectl-taskfleet", **(headers or {})}
        data: bytes | None = None
        if body is not None:
            given["Content-Type"], data = "application/json", json.dumps(body).encode()
        elif method == "POST":
            data = b""
        shown = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        url = f"{self._api.configuration.host}{path}{'?' if shown else ''}{urlencode(shown)}"
        try:
            self._api.update_params_for_auth(given, [], ["BearerToken"], path, method, body)
            answer = self._api.rest_client.pool_manager.request(
                method, url, headers=given, body=data, timeout=_SECONDS, retries=False, redirect=False,
                preload_content=False,
            )  # fmt: skip
            text = answer.read(_MOST_BYTES)
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"the API server {self.server} does not answer: {_why(error)}") from None
        except (OSError, config.ConfigException) as error:
            raise ClusterError(f"the API server {self.server} cannot be asked: {_why(error)}") from None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = {}
        return Answer(int(answer.status), found if isinstance(found, dict) else {})

    def read(self, path: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
        """An object or a list of the API server."""
        return checked(self.call("GET", path, query)).body

    def taskqueue(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A TaskQueue; None when there is none."""
        answer = self.call("GET", f"{_taskqueues(namespace)}/{quote(name, safe='')}")
        return None if answer.status == 404 else checked(answer).body

    def taskqueues(self, namespace: str) -> list[str]:
        """The names of the TaskQueues of a namespace, at most 500."""
        items = self.read(_taskqueues(namespace), {"limit": 500}).get("items") or []
        return [str(each["metadata"]["name"]) for each in items]


def checked(answer: Answer) -> Answer:
    """The answer, if it is a success. Errors: `ClusterError`."""
    if answer.status == 401:
        raise ClusterError("the API server does not know you: log in again, as for kubectl", 401)
    if answer.status >= 400:
        said = str(answer.body.get("message") or answer.body.get("error") or f"status {answer.status}")
        raise ClusterError(" ".join(said.split())[:1000], answer.status)
    return answer


def _taskqueues(namespace: str) -> str:
    return f"/apis/taskfleet.io/v1alpha1/namespaces/{quote(namespace, safe='')}/taskqueues"


def _in_cluster(found: Any, error: Exception) -> str:
    try:
        _config.load_incluster_config(client_configuration=found)
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as file:
            return file.read().strip() or "default"
    except Exception:  # outside of a cluster
        raise ConfigurationError(
            f"there is no cluster to ask: {_why(error)}; set KUBECONFIG, or --kubeconfig"
        ) from None


def _why(error: BaseException) -> str:
    said = describing.text_of(error).strip().partition("\n")[0]
    return showing.shown(said.rpartition("): ")[2] or type(error).__name__, 300)
