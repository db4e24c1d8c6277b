"""The calls of the Kubernetes API that the operator makes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import quote

from ...children import KINDS
from ...resource.taskqueue import API_VERSION, GROUP, PLURAL, VERSION
from . import login
from .api_connection import ApiCall, ApiConnection, ApiError, NotLeadingError, Object, UnreachableError, Urgency

__all__ = ["AUTOSCALER", "OPERATOR", "ApiError", "KubernetesApi", "NotLeadingError", "Object", "UnreachableError"]

OPERATOR, AUTOSCALER = "taskfleet-operator", "taskfleet-autoscaler"
_PAGE = 500  # objects in one answer to a list
_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"
_PLURALS = {
    ("v1", "Pod"): "pods",
    ("v1", "Secret"): "secrets",
    ("v1", "Event"): "events",
    ("apps/v1", "ReplicaSet"): "replicasets",
    (API_VERSION, "TaskQueue"): PLURAL,
    **{(kind.api_version, kind.kind): kind.plural for kind in KINDS},
}


class KubernetesApi(ApiConnection):
    """The operator's calls. They raise `ApiError`, and `NotLeadingError` for a write while another operator leads."""

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> KubernetesApi:
        """Connect from inside a pod, or else by the kubeconfig; `ConfigurationError` when there is neither."""
        return cls(await login.client(kubeconfig), kubeconfig)

    async def create(self, body: Object, manager: str) -> Object:
        """Create the object. `ApiError.conflict` when one of that name exists, made by any program."""
        path = _path(body["apiVersion"], body["kind"], body["metadata"]["namespace"], "")
        return await self.write(ApiCall("create", "POST", path, {"fieldManager": manager}, body))

    async def apply(self, body: Object, manager: str) -> Object:
        """Server-side apply: the fields of this manager become exactly these. Fields of other managers stay.

        It creates an object that does not exist. With `metadata.uid` it changes that object or, with
        `ApiError.conflict`, nothing.
        """
        return await self._apply(body, manager, Urgency.APPLY)

    async def dry_run_apply(self, body: Object, manager: str) -> Object:
        """The object as `apply` would leave it. Nothing is changed."""
        query = {"fieldManager": manager, "force": "true", "dryRun": "All"}
        return await self.write(ApiCall("dry-run", "PATCH", _path_of(body), query, body, _APPLY), gated=False)

    async def set_managed_fields(self, live: Object, entries: list[Object]) -> Object:
        """Replace who manages which fields of an object. `ApiError.conflict` when `live` is not its last version."""
        body = {"metadata": {"managedFields": entries, "resourceVersion": live["metadata"]["resourceVersion"]}}
        return await self.write(ApiCall("patch", "PATCH", _path_of(live), {"fieldManager": OPERATOR}, body, _MERGE))

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return await self.read("get", _path(api_version, kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid, if it still exists. `ApiError.conflict` when another has its name."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self.write(ApiCall("delete", "DELETE", _path(api_version, kind, namespace, name), {}, body))
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
            page = await self.read("list", path, query)
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

        It ends after `seconds`, which the server counts. `UnreachableError` when nothing, not even a bookmark, has come
        for `silence_seconds`.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": f"{seconds:.0f}"}
        query |= {"resourceVersion": since} | _given(labelSelector=selector)
        events = self.stream(_path(api_version, kind, namespace, ""), query, silence_seconds)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def scale(self, namespace: str, name: str, uid: str, replicas: int, *, version: str | None = None) -> Object:
        """Set the replicas of the Deployment with this uid, and nothing else, as the autoscaler's field manager.

        `version`: the resourceVersion that it has to have; `ApiError` with status 409 when it has another.
        """
        metadata = {"name": name, "namespace": namespace, "uid": uid}
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata if version is None else metadata | {"resourceVersion": version},
            "spec": {"replicas": replicas},
        }
        return await self._apply(body, AUTOSCALER, Urgency.SCALE)

    async def set_deletion_cost(self, namespace: str, pod: str, cost: int) -> None:
        await self.annotate_pod(namespace, pod, {"controller.kubernetes.io/pod-deletion-cost": str(cost)})

    async def annotate_pod(self, namespace: str, pod: str, annotations: Mapping[str, str | None]) -> None:
        """Set annotations of a pod; None removes one."""
        body = {"metadata": {"annotations": dict(annotations)}}
        path = _path("v1", "Pod", namespace, pod)
        await self.write(
            ApiCall("patch", "PATCH", path, {"fieldManager": AUTOSCALER}, body, _MERGE), urgency=Urgency.SCALE
        )

    async def set_pod_condition(self, namespace: str, pod: str, kind: str) -> None:
        """Set a condition of a pod to True. Its other conditions stay."""
        body = {"status": {"conditions": [{"type": kind, "status": "True"}]}}
        path = f"{_path('v1', 'Pod', namespace, pod)}/status"
        await self.write(
            ApiCall("patch", "PATCH", path, {"fieldManager": AUTOSCALER}, body, _STRATEGIC), urgency=Urgency.SCALE
        )

    async def patch_status(self, namespace: str, name: str, status: Object) -> Object:
        """Change a TaskQueue's status by a merge patch. Returns the whole TaskQueue."""
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{quote(name)}/status"
        query = {"fieldManager": OPERATOR}
        return await self.write(
            ApiCall("patch", "PATCH", path, query, {"status": status}, _MERGE), urgency=Urgency.TELL
        )

    async def set_finalizers(self, body: Mapping[str, Any], finalizers: list[str]) -> Object:
        """Replace the finalizers of a TaskQueue. `ApiError.conflict` when `body` is not its last version."""
        metadata = body["metadata"]
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{metadata['namespace']}/{PLURAL}/{quote(metadata['name'])}"
        kept = {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}
        return await self.write(ApiCall("patch", "PATCH", path, {"fieldManager": OPERATOR}, {"metadata": kept}, _MERGE))

    async def create_event(self, namespace: str, event: Object) -> None:
        try:
            await self.write(
                ApiCall("create", "POST", _path("v1", "Event", namespace, ""), {}, event), urgency=Urgency.NOTE
            )
        except ApiError as error:
            if error.status != 409:  # it was created by a call whose answer was lost
                raise

    async def _apply(self, body: Object, manager: str, urgency: Urgency) -> Object:
        query = {"fieldManager": manager, "force": "true"}
        return await self.write(ApiCall("apply", "PATCH", _path_of(body), query, body, _APPLY), urgency=urgency)


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
