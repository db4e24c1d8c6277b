"""Access to the dashboard by tokens of Kubernetes, on a real API server: TokenReview and SubjectAccessReview."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from e2e.cluster.kubectl import ClusterCommand

from taskfleet import TaskQueue
from taskfleet_dashboard.access import kubernetes
from taskfleet_dashboard.access.kubernetes import KubernetesAccess
from taskfleet_dashboard.app import application
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.serving import Serving
from tests.controlplane.test_chart import is_allowed
from tests.support.operator_space import until
from tests.support.redis_server import RedisServer

ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {name}, namespace: {namespace}}}
rules: [{{apiGroups: [taskfleet.io], resources: [taskqueues], verbs: [{verbs}]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]
"""


@contextlib.asynccontextmanager
async def serving(queue: TaskQueue, access: KubernetesAccess) -> AsyncIterator[httpx.AsyncClient]:
    serves = Serving(queue, access, masks=Masks(), records=False)
    config = uvicorn.Config(application(serves, hosts=None), port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        assert not running.done()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client
    server.should_exit = True
    await running
    await access.close()
    await queue.close()


def token_of(kubectl: ClusterCommand, namespace: str, name: str, verbs: str) -> str:
    """The token of a new service account that has these verbs on taskqueues of the namespace."""
    kubectl("create", "serviceaccount", name, "--namespace", namespace)
    if verbs:
        kubectl("apply", "-f", "-", stdin=ROLE.format(name=name, namespace=namespace, verbs=verbs))
    account = f"system:serviceaccount:{namespace}:{name}"
    for verb in filter(None, verbs.split(", ")):
        until(
            lambda verb=verb: is_allowed(kubectl, account, namespace, verb, "taskfleet.io/taskqueues"),
            f"the authorizer knows that {name} may {verb}",
        )
    return kubectl("create", "token", name, "--namespace", namespace).strip()


async def test_who_may_get_taskqueues_looks_and_who_may_update_them_changes(
    kubectl: ClusterCommand, control_plane: Path, namespace: str, redis_server: RedisServer, prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(kubernetes, "_KEPT_SECONDS", 0.5)
    view = token_of(kubectl, namespace, "viewer", "get")
    edit = token_of(kubectl, namespace, "editor", "get, update")
    none = token_of(kubectl, namespace, "nobody", "")
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", prefix)
    queue = TaskQueue(redis_server.url, queues=["default"])
    async with serving(queue, KubernetesAccess(namespace, kubeconfig=str(control_plane))) as client:

        async def session(token: str) -> httpx.Response:
            return await client.get("/api/session", headers={"Authorization": f"Bearer {token}"})

        viewer, editor, nobody = await session(view), await session(edit), await session(none)
        assert (viewer.json()["user"], viewer.json()["may_change"]) == (
            f"system:serviceaccount:{namespace}:viewer",
            False,
        )
        assert (editor.json()["user"], editor.json()["may_change"]) == (
            f"system:serviceaccount:{namespace}:editor",
            True,
        )
        assert nobody.status_code == 403
        assert f"may not get taskqueues.taskfleet.io in namespace {namespace}" in nobody.json()["error"]
        assert (await session("no-token")).status_code == 401
        assert (await client.get("/api/session")).status_code == 401
        pause = "/api/queues/default/pause"
        assert (await client.post(pause, headers={"Authorization": f"Bearer {view}"})).status_code == 403
        assert (await client.post(pause, headers={"Authorization": f"Bearer {edit}"})).status_code == 200
        login = await client.post("/api/login", json={"token": edit})
        assert login.json()["may_change"] is True
        assert (await client.get("/api/session")).json()["user"].endswith(":editor")
        client.cookies.clear()
        # A right that is taken away ends when the answer is no longer kept.
        kubectl("delete", "rolebinding", "editor", "--namespace", namespace)
        deadline = time.monotonic() + 60
        while (await session(edit)).status_code != 403:
            assert time.monotonic() < deadline, "the right is still there"
            await asyncio.sleep(0.1)


async def test_an_api_server_that_does_not_answer_lets_nobody_in(
    redis_server: RedisServer, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n"
    )
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", prefix)
    access = KubernetesAccess("default", kubeconfig=str(kubeconfig))
    async with serving(TaskQueue(redis_server.url), access) as client:
        refused = await client.get("/api/session", headers={"Authorization": "Bearer anything"})
        assert refused.status_code == 503
        assert refused.json()["error"].startswith("the API server does not review tokens: ")
        assert "\n" not in refused.json()["error"]
