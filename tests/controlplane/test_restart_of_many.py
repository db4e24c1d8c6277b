"""An operator that starts among 300 TaskQueues: the first tasks do not wait for the others, and none is written to."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet import TaskQueue
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi
from tests.controlplane.measure_many import taskqueue
from tests.support.api_proxy import ApiProxy, Call
from tests.support.operator_space import until
from tests.support.ports import free_port
from tests.support.process_node_fleet import OperatorProcesses
from tests.support.redis_server import RedisServer

MANY = 300
BEFORE, AFTER = "q-150", "q-299"  # the queues with a first task: sent while no operator runs, and to the new one
FEW_SECONDS = 14.0  # 16 s in an earlier operator, on a quiet machine; this one took 0.6 s, and 3.8 s on a crowded one


@pytest.fixture
def proxy(control_plane: Path, tmp_path: Path) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane, tmp_path) as running:
        yield running


class Many:
    def __init__(self, kubectl: ClusterCommand, namespace: str, redis: RedisServer, prefix: str) -> None:
        self.kubectl, self.namespace, self.redis, self.prefix = kubectl, namespace, redis, prefix
        self._seen: dict[str, str] = {}

    def apply(self) -> None:
        # The next poll is far away: who is not looked at, or not heard, at the start is not served.
        made = [taskqueue(f"q-{number}", self.redis, self.prefix, pollIntervalSeconds=300) for number in range(MANY)]
        for one in made:
            one["spec"]["worker"]["podDisruptionBudget"] = {"mode": "Disabled"}  # a child less to make
        for first in range(0, MANY, 100):
            several = {"apiVersion": "v1", "kind": "List", "items": made[first : first + 100]}
            self.kubectl("create", "-n", self.namespace, "-f", "-", stdin=json.dumps(several))

    def told(self) -> bool:
        """Whether the status of each says all, and none has changed since the last look."""
        return self._unchanged(is_told)

    def still(self) -> bool:
        """Whether none has changed since the last look."""
        return self._unchanged(bool)

    def _unchanged(self, is_good: Callable[[dict[str, Any]], bool]) -> bool:
        items = self.kubectl.json("get", "tq", "-n", self.namespace)["items"]
        before, self._seen = self._seen, {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in items}
        return len(items) == MANY and all(map(is_good, items)) and before == self._seen

    def events(self) -> dict[str, str]:
        """The TaskQueue of each Event about one, by the Event's uid."""
        items = self.kubectl.json("get", "events", "-n", self.namespace)["items"]
        about = [one for one in items if one["involvedObject"]["kind"] == "TaskQueue"]
        return {one["metadata"]["uid"]: one["involvedObject"]["name"] for one in about}

    def versions(self) -> dict[str, str]:
        return dict(self._seen)

    async def enqueue(self, name: str) -> None:
        settings = Settings(redis=RedisSettings(url=self.redis.url, key_prefix=self.prefix))
        async with TaskQueue(settings=settings) as queue:

            @queue.task
            async def nothing() -> None: ...

            await nothing.options(queue=name).enqueue()


def is_told(body: dict[str, Any]) -> bool:
    status = body.get("status", {})
    good = {one["type"] for one in status.get("conditions", ()) if one["status"] == "True"}
    return status.get("observedGeneration") == body["metadata"]["generation"] and {"Ready", "RedisReachable"} <= good


async def served(api: KubernetesApi, namespace: str, name: str, *, seconds: float) -> float:
    """Wait for its first worker number, and return the time (monotonic) at which it was seen."""
    async with asyncio.timeout(seconds):
        while True:
            live = await api.get("apps/v1", "Deployment", namespace, f"{name}-worker")
            if live is not None and live["spec"]["replicas"] >= 1:
                return time.monotonic()
            await asyncio.sleep(0.02)


def answers(port: int, path: str) -> bool:
    """Whether the probe says yes."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return int(answer.status) == 200
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


@pytest.mark.timeout(600)
async def test_after_a_restart_the_first_task_is_served_at_once_and_nobody_else_is_written_to(
    operators: OperatorProcesses,
    kubectl: ClusterCommand,
    namespace: str,
    control_plane: Path,
    proxy: ApiProxy,
    redis_server: RedisServer,
    prefix: str,
) -> None:
    many = Many(kubectl, namespace, redis_server, prefix)
    first = operators.start("--log-level", "warning")
    began = time.monotonic()
    await asyncio.to_thread(many.apply)
    await asyncio.to_thread(until, many.told, "all are served", seconds=360, pause=6)
    print(f"{MANY} TaskQueues are served after {time.monotonic() - began:.0f} s")
    first.terminate()
    assert await asyncio.to_thread(first.wait, 30) == 0
    await many.enqueue(BEFORE)
    before, events = many.versions(), many.events()
    api = await KubernetesApi.connect(str(control_plane))
    operators.kubeconfig, port, metrics = proxy.kubeconfig, free_port(), free_port()
    started = time.monotonic()
    operators.start("--log-level", "warning", "--probe-port", str(port), "--metrics-port", str(metrics))
    await asyncio.to_thread(until, lambda: answers(port, "/readyz"), "it is ready", seconds=60, pause=0.01)
    ready = time.monotonic()
    await many.enqueue(AFTER)
    sent = time.monotonic()
    both = [served(api, namespace, name, seconds=60) for name in (BEFORE, AFTER)]
    at = await asyncio.gather(*both)
    print(
        f"ready {ready - started:.1f} s after the start; {BEFORE} {at[0] - ready:.1f} s, {AFTER} {at[1] - sent:.1f} s"
    )
    assert at[0] - ready < FEW_SECONDS
    assert at[1] - sent < FEW_SECONDS
    await api.close()
    await asyncio.to_thread(until, lambda: decided(metrics) == MANY, "all are decided upon", seconds=120, pause=0.5)
    writes = [call for call in proxy.writes() if "dryRun" not in call.query]
    others = [call for call in writes if not _concerns(call, BEFORE, AFTER)]
    assert not others, f"{len(others)} useless writes, such as {others[:3]}"
    assert {name for uid, name in many.events().items() if uid not in events} <= {BEFORE, AFTER}
    await asyncio.to_thread(until, many.still, "nothing more is written", seconds=120, pause=6)
    after = many.versions()
    assert {name for name in before if before[name] != after[name]} == {BEFORE, AFTER}


def decided(port: int) -> int:
    """About how many TaskQueues there was a decision, when none waits to be reconciled; else -1."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    waiting = next(float(line.split()[1]) for line in lines if line.startswith("taskfleet_operator_work_queue_depth "))
    return -1 if waiting else sum(line.startswith("taskfleet_operator_desired_replicas{") for line in lines)


def _concerns(call: Call, *names: str) -> bool:
    return any(f"/{name}" in call.path for name in names) or call.path.endswith("/events")  # `Many.events` tells whose
