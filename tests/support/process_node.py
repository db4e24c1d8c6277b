"""Nodes of this machine: each pod that is bound to one runs as real local processes, without a container runtime.

A node is registered and Ready, with a lease that it renews. It does for its pods what kubelet does: it resolves
environment, secrets and volumes, starts the containers, probes them, writes the status, restarts with back-off, and
ends a deleted pod with SIGTERM, its grace period and SIGKILL. All of it runs in one thread of the test; when that ends,
in whatever way, so does every process.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.support.process_node_api import STRATEGIC, NodeApi, NodeApiError, Object
from tests.support.process_node_container import now
from tests.support.process_node_pod import LocalPod

_LEASE_SECONDS, _RENEW_SECONDS = 40, 10.0
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_MOST_PODS = 110


class ProcessNodes:
    """Nodes that run the pods of one namespace, or of all with `namespace=None`.

    Args:
        nodes: labels by the name of each node, such as its zone. Names are unique in the cluster.
        bind: bind pods without a node themselves, to the node with the fewest; False leaves that to kube-scheduler
            (`ControlPlane(scheduler=True)`).
        back_off: seconds before the second restart of a container, and between two pulls of a broken image.
    """

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str | None,
        nodes: Mapping[str, Mapping[str, str]] | Sequence[str] = ("process-node",),
        *,
        bind: bool = True,
        back_off: float = 1.0,
    ) -> None:
        self._api = NodeApi(kubeconfig)
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._labels = dict(nodes) if isinstance(nodes, Mapping) else {name: {} for name in nodes}
        self._bind = bind
        self._back_off = back_off
        self.broken_images: set[str] = set()
        """Parts of image names; such an image cannot be pulled: ErrImagePull, then ImagePullBackOff."""
        self.closed: set[str] = set()
        """Names of nodes that get no further pods, when this class binds them."""
        self.lost: set[str] = set()
        """Names of nodes that have vanished."""
        self.folder = Path(tempfile.mkdtemp(prefix="taskfleet-process-node-"))
        self._pods: dict[str, LocalPod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._bound: dict[str, str] = {}  # uid → node, before the watch shows it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._up: Future[None] = Future()
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="process-nodes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.result(60)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.errors:
            raise self.errors[0]

    @property
    def pods(self) -> dict[str, LocalPod]:
        """The running pods by name."""
        return {pod.name: pod for pod in list(self._pods.values())}

    def log(self, pod: str, container: str = "worker") -> str:
        """What a container of a running pod has written, over all its restarts."""
        return "".join(log.read_text(errors="replace") for log in self.pods[pod].container(container).logs)

    def pid(self, pod: str, container: str = "worker") -> int:
        """The process of a container, for a test that kills or stops it."""
        process = self.pods[pod].container(container).process
        assert process is not None, f"{pod}: {container} does not run"
        return process.pid

    def port(self, pod: str, port: int = 8080, container: str = "worker") -> int:
        """The local port of a container's port."""
        command = self.pods[pod].container(container).command
        assert command is not None, f"{pod}: {container} does not run"
        return command.ports[port]

    def lose(self, node: str) -> list[str]:
        """The machine is gone: its processes end at once, and it says nothing more. Returns the names of its pods.

        The Node and the pods stay on the API server, as they were, until somebody deletes them by force.
        """

        async def lose() -> list[str]:
            self.lost.add(node)
            gone = {uid: pod for uid, pod in self._pods.items() if pod.pod["spec"].get("nodeName") == node}
            for uid, pod in gone.items():
                pod.kill()
                self._tasks[uid].cancel()
            return [pod.name for pod in gone.values()]

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(lose(), self._loop).result(30)

    def _run(self) -> None:
        # A process ends with the thread that has started it, so this one thread starts them all.
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if not self._up.done():
                self._up.set_exception(error)
            else:
                self.errors.append(error)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._api:
            for name, labels in self._labels.items():
                await self._register(name, labels)
            loops = [asyncio.create_task(self._repeated(one)) for one in (self._beat, self._follow)]
            self._up.set_result(None)
            await self._stop.wait()
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            await asyncio.gather(*map(self._forget, self._labels), return_exceptions=True)

    async def _repeated(self, work: Any) -> None:
        """Do it again and again; an API server that is away or slow is no error of the node."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, NodeApiError):
                await work()
            await asyncio.sleep(0.2)

    async def _register(self, name: str, labels: Mapping[str, str]) -> None:
        every = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {**every, **labels}}}
        await self._once(self._api.call("POST", "/api/v1/nodes", node))
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
        await self._once(self._api.call("POST", _LEASES, {**lease, "spec": self._lease(name)}))
        await self._tell_node(name)

    @staticmethod
    async def _once(creation: Coroutine[Any, Any, Object]) -> None:
        try:
            await creation
        except NodeApiError as error:
            if error.status != 409:
                raise

    @staticmethod
    def _lease(name: str) -> Object:
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": time}

    async def _tell_node(self, name: str) -> None:
        room = {"cpu": "64", "memory": "256Gi", "pods": str(_MOST_PODS), "ephemeral-storage": "1Ti"}
        problems = ("MemoryPressure", "DiskPressure", "PIDPressure")
        states = {**dict.fromkeys(problems, "False"), "Ready": "True"}
        conditions = [
            {"type": kind, "status": state, "reason": "ProcessNode", "lastHeartbeatTime": now()}
            for kind, state in states.items()
        ]
        addresses = [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}]
        status = {"capacity": room, "allocatable": room, "conditions": conditions, "addresses": addresses}
        await self._api.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC)

    async def _beat(self) -> None:
        for name in self._labels.keys() - self.lost:
            await self._api.call("PATCH", f"{_LEASES}/{name}", {"spec": self._lease(name)}, STRATEGIC)
            await self._tell_node(name)
        await asyncio.sleep(_RENEW_SECONDS)

    async def _forget(self, name: str) -> None:
        """Remove a node and what is left of its pods."""
        for pod in (await self._api.call("GET", "/api/v1/pods", fieldSelector=f"spec.nodeName={name}"))["items"]:
            place = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
            with contextlib.suppress(NodeApiError):
                await self._api.call("DELETE", place, {"gracePeriodSeconds": 0})
        for path in (f"/api/v1/nodes/{name}", f"{_LEASES}/{name}"):
            with contextlib.suppress(NodeApiError):
                await self._api.call("DELETE", path)

    async def _follow(self) -> None:
        """List, and follow the watch until it ends."""
        listed = await self._api.call("GET", self._pods_path)
        there = {pod["metadata"]["uid"] for pod in listed["items"]}
        for uid in self._pods.keys() - there:
            self._pods[uid].removed()
        for pod in listed["items"]:
            await self._seen("MODIFIED", pod)
        async for kind, pod in self._api.watch(self._pods_path, listed["metadata"]["resourceVersion"]):
            if kind == "ERROR":
                return  # the version has expired
            await self._seen(kind, pod)

    async def _seen(self, kind: str, pod: Object) -> None:
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        known = self._pods.get(uid)
        if kind == "DELETED":
            self._bound.pop(uid, None)
            if known is not None:
                known.removed()
        elif known is not None:
            known.seen(pod)
        elif node in self._labels:
            if node not in self.lost and pod.get("status", {}).get("phase") not in ("Failed", "Succeeded"):
                self._start(pod)
        elif node is None and self._bind and not pod["metadata"].get("deletionTimestamp"):
            await self._bind_to_a_node(pod)

    def _start(self, pod: Object) -> None:
        local = LocalPod(self._api, pod, self.folder, broken=self.broken_images, back_off=self._back_off)
        self._pods[local.uid] = local
        task = self._tasks[local.uid] = asyncio.create_task(local.run())
        task.add_done_callback(lambda ended: self._ended(local.uid, ended))

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        del self._pods[uid], self._tasks[uid]
        self._bound.pop(uid, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)

    async def _bind_to_a_node(self, pod: Object) -> None:
        metadata = pod["metadata"]
        if metadata["uid"] in self._bound or pod["spec"].get("schedulingGates"):
            return
        taken = list(self._bound.values())
        away = self.closed | self.lost
        free = [name for name in self._labels if name not in away and taken.count(name) < _MOST_PODS]
        if not free:
            return
        node = min(free, key=taken.count)
        target = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}}
        place = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding"
        self._bound[metadata["uid"]] = node
        try:
            await self._api.call("POST", place, {**target, "target": {"kind": "Node", "name": node}})
        except (aiohttp.ClientError, TimeoutError, NodeApiError) as error:
            # When the reply alone was lost, the pod is bound, and the next list shows to which node.
            del self._bound[metadata["uid"]]
            if not isinstance(error, NodeApiError) or error.status not in (404, 409):
                raise
