"""A pod as local processes: its containers, its status in the API, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import aiohttp

from tests.support.process_node_api import STRATEGIC, NodeApi, NodeApiError, Object
from tests.support.process_node_container import LocalContainer, now


class LocalPod:
    """One pod on a node of this machine. `seen()` hands it each new version of its object."""

    def __init__(self, api: NodeApi, pod: Object, folder: Path, *, broken: Collection[str], back_off: float) -> None:
        self._api = api
        self.pod = pod
        metadata = pod["metadata"]
        self.uid: str = metadata["uid"]
        self.name: str = metadata["name"]
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{self.name}"
        self._news = asyncio.Event()
        self._began = now()
        self._conditions: dict[str, Object] = {}
        self._told: Object | None = None
        self._gone = False
        folder = folder / f"{self.name}-{self.uid[:8]}"
        folder.mkdir(parents=True, exist_ok=True)

        def made(spec: Object, *, until_done: bool = False) -> LocalContainer:
            return LocalContainer(
                api, pod, spec, folder, broken=broken, back_off=back_off, changed=self._news.set, until_done=until_done
            )

        self.initial = [
            made(spec, until_done=spec.get("restartPolicy") != "Always")
            for spec in pod["spec"].get("initContainers", ())
        ]
        self.containers = [made(spec) for spec in pod["spec"]["containers"]]

    @property
    def all_containers(self) -> list[LocalContainer]:
        return [*self.initial, *self.containers]

    def container(self, name: str = "worker") -> LocalContainer:
        return next(one for one in self.all_containers if one.spec["name"] == name)

    def seen(self, pod: Object) -> None:
        self.pod = pod
        self._news.set()

    def removed(self) -> None:
        """The object is gone, as after a deletion by force: its processes end at once."""
        self._gone = True
        self._news.set()

    def kill(self) -> None:
        for container in self.all_containers:
            container.kill()

    async def run(self) -> None:
        """Run it until it is deleted. When cancelled, its processes end at once."""
        starting = asyncio.create_task(self._start())
        try:
            while not self._gone and not self.pod["metadata"].get("deletionTimestamp"):
                self._news.clear()
                await self._tell()
                await self._news.wait()
            if not self._gone:
                starting.cancel()
                await self._end()
        finally:
            starting.cancel()
            for container in self.all_containers:
                await container.close()
            self.kill()

    async def _start(self) -> None:
        for container in self.initial:
            container.start()
            if container.spec.get("restartPolicy") == "Always":
                while not container.started:  # noqa: ASYNC110 - an event for each container is not worth it
                    await asyncio.sleep(0.05)
            else:
                await container.wait()
        for container in self.containers:
            container.start()

    async def _end(self) -> None:
        grace = float(self.pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        stopping = asyncio.gather(*(container.stop(grace) for container in self.containers))
        while not stopping.done() and not self._gone:
            self._news.clear()
            news = asyncio.create_task(self._news.wait())
            await asyncio.wait({stopping, news}, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
        if self._gone:
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            return
        await asyncio.gather(*(container.stop(grace) for container in self.initial))
        await self._tell()
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while not self._gone:
            try:
                await self._api.call("DELETE", self._path, options)
                return
            except NodeApiError as error:
                if error.status in (404, 409):
                    return  # gone already
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.5)

    async def _tell(self) -> None:
        """Write its status, when it has changed. Conditions of others stay, as with kubelet's strategic merge."""
        status = self._status()
        if status == self._told:
            return
        body = {"metadata": {"uid": self.uid}, "status": status}
        try:
            await self._api.call("PATCH", f"{self._path}/status", body, STRATEGIC)
        except NodeApiError as error:
            if error.status < 500 and error.status not in (404, 409, 429):
                raise
            if error.status in (404, 409):
                return  # gone, or a pod of the same name in its place
            self._again()
        except (aiohttp.ClientError, TimeoutError):
            self._again()
        else:
            self._told = status

    def _again(self) -> None:
        """Write the status in a moment: the API server is away or busy."""
        asyncio.get_running_loop().call_later(0.5, self._news.set)

    def _status(self) -> Object:
        started = all(container.running or container.restarts for container in self.containers)
        states = [container.status() for container in self.containers]
        ended = all("terminated" in state["state"] for state in states)
        phase = "Running" if started else "Pending"
        if ended and self.pod["metadata"].get("deletionTimestamp"):
            failed = any(state["state"]["terminated"]["exitCode"] for state in states)
            phase = "Failed" if failed else "Succeeded"
        ready = all(container.ready for container in self.containers)
        initialized = all(container.succeeded or container.started for container in self.initial)
        others = {one["type"]: one["status"] for one in self.pod.get("status", {}).get("conditions", ())}
        gates = [gate["conditionType"] for gate in self.pod["spec"].get("readinessGates", ())]
        closed = [gate for gate in gates if others.get(gate) != "True"]
        self._condition("PodScheduled", True)
        self._condition("Initialized", initialized)
        self._condition("ContainersReady", ready, "ContainersNotReady", "containers are not ready")
        reason, message = ("ContainersNotReady", "containers are not ready") if not ready else (
            "ReadinessGatesNotReady", f"readiness gates are closed: {', '.join(closed)}"
        )  # fmt: skip
        self._condition("Ready", ready and not closed, reason, message)
        return {
            "phase": phase,
            "startTime": self._began,
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": list(self._conditions.values()),
            "initContainerStatuses": [container.status() for container in self.initial],
            "containerStatuses": states,
        }

    def _condition(self, kind: str, good: bool, reason: str = "", message: str = "") -> None:
        status = "True" if good else "False"
        before = self._conditions.get(kind, {})
        since = before["lastTransitionTime"] if before.get("status") == status else now()
        words = {"reason": None, "message": None} if good else {"reason": reason, "message": message}
        self._conditions[kind] = {"type": kind, "status": status, "lastTransitionTime": since, **words}
