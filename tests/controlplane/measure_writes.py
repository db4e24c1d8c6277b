"""Measurements of the writes on the API server, and of a minute in which it refuses every call."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from e2e.cluster.kubectl import ClusterCommand

from taskfleet import TaskQueue
from taskfleet.settings import RedisSettings, Settings
from tests.controlplane.measure_many import Place, load, taskqueue
from tests.support.api_proxy import ApiProxy, Call, refusal
from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import RealFleet, until

_STEADY_SECONDS = 60.0
"""A number of replicas that has stayed for so long is that of the load."""
_TASKS_PER_SECOND, _TASK_SECONDS = 4, 0.5


def writes(kubectl: ClusterCommand, kubeconfig: Path, minutes: float) -> Iterator[str]:
    """An idle TaskQueue and one with steady load, each with an operator of its own, side by side."""
    with ExitStack() as stack:
        idle, idle_calls = _behind_proxy(stack, kubectl, kubeconfig)
        busy, busy_calls = _behind_proxy(stack, kubectl, kubeconfig)
        stack.enter_context(ProcessNodes(kubeconfig, busy.namespace, [f"node-{busy.namespace}"]))
        for place in (idle, busy):
            place.start()
        RealFleet(kubectl, idle.namespace, idle.redis[0]).apply(autoscaler={"pollIntervalSeconds": 5})
        fleet = RealFleet(kubectl, busy.namespace, busy.redis[0])
        spec = {"pollIntervalSeconds": 5, "cooldownSeconds": 300}
        fleet.apply(worker={"concurrency": 2}, autoscaler=spec)
        until(lambda: idle.decided(1) and busy.decided(1), "they are decided upon", pause=0.5)
        stack.enter_context(SteadyLoad(fleet))
        waited = _settle(fleet)
        before = len(fleet.replica_changes())
        began = time.monotonic()
        while time.monotonic() < began + 60 * minutes:
            time.sleep(1)
        passed = (time.monotonic() - began) / 60
        yield f"idle for {passed:.1f} minutes: {_words(_writes(idle_calls, began))} ({load()})"
        changes, found = len(fleet.replica_changes()) - before, _writes(busy_calls, began)
        ended = len(fleet.journal("end"))
        rate = sum(found.values()) / passed
        yield (
            f"steady load ({_TASKS_PER_SECOND} tasks of {_TASK_SECONDS} s a second, {fleet.replicas()} pods after "
            f"{waited:.0f} s, {ended} tasks ended) for {passed:.1f} minutes: {changes} changes of replicas, "
            f"{_words(found)}, {rate:.2f} a minute ({load()})"
        )


def storm(kubectl: ClusterCommand, kubeconfig: Path, count: int) -> Iterator[str]:
    """For a minute the API server refuses every call with 429, 500 or 503, while TaskQueues and tasks are added."""
    with ExitStack() as stack:
        place, proxy = _behind_proxy(stack, kubectl, kubeconfig)
        old, new = ([f"{word}-{n}" for n in range(count)] for word in ("old", "new"))
        place.start()
        place.apply([taskqueue(name, place.redis[0], "storm") for name in old])
        until(lambda: place.decided(count), "all are decided upon", seconds=600, pause=1)
        refused: Counter[int] = Counter()

        def refuse(_call: Call) -> object:
            status = random.choice((429, 500, 503))
            refused[status] += 1
            return refusal(status, **({"Retry_After": "1"} if status == 429 else {}))

        proxy.refuse = refuse  # type: ignore[assignment]
        proxy.cut()
        began = time.monotonic()
        place.apply([taskqueue(name, place.redis[0], "storm") for name in new])
        asyncio.run(_first_tasks(place, [*old, *new]))
        while time.monotonic() < began + 60:
            time.sleep(0.1)
        proxy.refuse = lambda _call: None
        over = time.monotonic()
        until(lambda: _scaled(place) == 2 * count, "all have scaled up", seconds=300, pause=0.5)
        yield (
            f"{sum(refused.values())} calls were refused in 60 s {dict(sorted(refused.items()))}; all {2 * count} "
            f"TaskQueues, {count} of them made meanwhile, were at their number {time.monotonic() - over:.1f} s after "
            f"it ({load()})"
        )


def _behind_proxy(stack: ExitStack, kubectl: ClusterCommand, kubeconfig: Path) -> tuple[Place, ApiProxy]:
    place = Place(stack, kubectl, kubeconfig)
    proxy = stack.enter_context(ApiProxy(kubeconfig, place.folder))
    place.operators.kubeconfig = proxy.kubeconfig
    return place, proxy


def _writes(proxy: ApiProxy, since: float) -> Counter[str]:
    """What was written since, by what it was written to. A dry run writes nothing."""
    found: Counter[str] = Counter()
    for call in proxy.writes():
        if call.at >= since and "dryRun" not in call.query:
            kind, *rest = call.path.partition("/namespaces/")[2].split("/")[1:]
            found[f"{kind}/status" if rest and rest[-1] == "status" else kind] += 1
    return found


def _words(found: Counter[str]) -> str:
    several = ", ".join(f"{kind} {count}" for kind, count in sorted(found.items()))
    return f"{sum(found.values())} writes" + (f" ({several})" if several else "")


def _settle(fleet: RealFleet) -> float:
    """Wait until the number has not changed for a while."""
    began = since = time.monotonic()
    seen = 0
    while not seen or time.monotonic() - since < _STEADY_SECONDS:
        if (now := fleet.replicas()) != seen or len(fleet.ready()) != now:
            seen, since = now, time.monotonic()
        assert time.monotonic() - began < 900, "the number of replicas does not settle"
        time.sleep(1)
    return time.monotonic() - began


async def _first_tasks(place: Place, names: Sequence[str]) -> None:
    settings = Settings(redis=RedisSettings(url=place.redis[0].url, key_prefix="storm"))
    async with TaskQueue(settings=settings) as queue:

        @queue.task
        async def nothing() -> None: ...

        for name in names:
            await nothing.options(queue=name).enqueue()


def _scaled(place: Place) -> int:
    """How many Deployments ask for a replica."""
    found = place.kubectl.json("get", "deployments", "-n", place.namespace)["items"]
    return sum(one["spec"]["replicas"] >= 1 for one in found)


class SteadyLoad:
    """Sends tasks at a fixed rate, in a thread."""

    def __init__(self, fleet: RealFleet) -> None:
        self._fleet = fleet
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), daemon=True)

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    async def _send(self) -> None:
        settings = Settings(redis=RedisSettings(url=self._fleet.redis.url, key_prefix=self._fleet.prefix))
        async with TaskQueue(settings=settings) as queue:

            @queue.task(name="work")
            async def work(number: int, seconds: float) -> int: ...

            began, sent = time.monotonic(), 0
            while not self._over.is_set():
                await work.enqueue(sent, _TASK_SECONDS)
                sent += 1
                await asyncio.sleep(max(0.0, began + sent / _TASKS_PER_SECOND - time.monotonic()))
