"""Measurements with many TaskQueues and one operator: the way from zero to one, and what a thousand of them cost."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from e2e.cluster.kubectl import ClusterCommand, wait_until

from taskfleet import TaskQueue
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi
from tests.support.ports import free_port
from tests.support.process_node_fleet import OperatorProcesses, until
from tests.support.redis_server import RedisServer

Object = dict[str, Any]

_READS = ("get", "list", "watch")
_TRIES_SECONDS = 60.0


def taskqueue(name: str, redis: RedisServer, prefix: str, **autoscaler: Any) -> Object:
    """A TaskQueue with a queue of its own name."""
    return {
        "apiVersion": "taskfleet.io/v1alpha1",
        "kind": "TaskQueue",
        "metadata": {"name": name},
        "spec": {
            "redis": {"url": redis.url, "keyPrefix": prefix},
            "queues": [{"name": name}],
            "worker": {"image": "registry.example/shop:1.0", "app": "shop.tasks:queue"},
            "autoscaler": {"maxReplicas": 5} | autoscaler,
        },
    }


def load() -> str:
    """The load of the machine over the last minute, as `uptime` has it."""
    return f"load {os.getloadavg()[0]:.1f}"


def percentiles(seconds: Sequence[float]) -> str:
    found = sorted(seconds)
    p50, p99 = (found[min(len(found) - 1, int(share * len(found)))] for share in (0.5, 0.99))
    return f"p50 {p50:.3f} s, p99 {p99:.3f} s, worst {found[-1]:.3f} s"


class Place:
    """A namespace, Redis servers, and one operator with its metrics. `kubeconfig` is what the operator uses."""

    def __init__(self, stack: ExitStack, kubectl: ClusterCommand, kubeconfig: Path, servers: int = 1) -> None:
        self.kubectl = kubectl
        self.namespace = f"measure-{secrets.token_hex(4)}"
        kubectl("create", "namespace", self.namespace)
        wait_until(kubectl, "get", "serviceaccount", "default", "--namespace", self.namespace)
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.redis = [stack.enter_context(RedisServer()) for _ in range(servers)]
        self.operators = stack.enter_context(OperatorProcesses(kubeconfig, self.namespace, self.folder))
        self.port = 0

    def start(self) -> subprocess.Popen[bytes]:
        self.port = free_port()
        return self.operators.start("--metrics-port", str(self.port), "--log-level", "warning")

    def apply(self, queues: Sequence[Object]) -> None:
        for first in range(0, len(queues), 100):
            several = {"apiVersion": "v1", "kind": "List", "items": list(queues[first : first + 100])}
            self.kubectl("create", "-n", self.namespace, "-f", "-", stdin=json.dumps(several))

    def metrics(self) -> dict[str, float]:
        """The operator's metrics, a value for each name with its labels; none while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("taskfleet_operator_"): float(value) for name, _, value in lines}

    def decided(self, count: int) -> bool:
        """Whether there was a decision about so many TaskQueues, and none waits to be reconciled."""
        figures = self.metrics()
        return (
            sum(name.startswith("desired_replicas{") for name in figures) >= count and not figures["work_queue_depth"]
        )


def zero_to_one(kubectl: ClusterCommand, kubeconfig: Path, trials: int, others: int) -> Iterator[str]:
    """From the enqueueing of the first task to the new number on the API server, as a watch shows it."""
    with ExitStack() as stack:
        place = Place(stack, kubectl, kubeconfig)
        redis = place.redis[0]
        # The next poll is far away: what comes in time was announced.
        down = {"scaleDown": {"stabilizationWindowSeconds": 0}}
        place.start()
        place.apply(
            [taskqueue("measured", redis, "measured", pollIntervalSeconds=300, cooldownSeconds=0, behavior=down)]
        )
        until(lambda: place.decided(1), "it is decided upon", pause=0.5)
        for count in (0, others) if others else (0,):
            if count:
                place.apply([taskqueue(f"other-{number}", redis, "measured") for number in range(count)])
                until(lambda count=count: place.decided(count + 1), "all are decided upon", seconds=900, pause=2)
            took = asyncio.run(_trials(place, kubeconfig, trials))
            beside = f"beside {count} others" if count else "alone"
            yield f"0 → 1 {beside}, {len(took)} trials: {percentiles(took)} ({load()})"


async def _trials(place: Place, kubeconfig: Path, trials: int) -> list[float]:
    settings = Settings(redis=RedisSettings(url=place.redis[0].url, key_prefix="measured"))
    api = await KubernetesApi.connect(str(kubeconfig))
    watch = Watch(api, place.namespace)
    took: list[float] = []
    try:
        async with TaskQueue(settings=settings) as queue:

            @queue.task
            async def nothing() -> None: ...

            await watch.start()
            for number in range(trials):
                await _back_to_zero(place, queue, watch, number)
                began = time.monotonic()
                await nothing.options(queue="measured").enqueue()
                async with asyncio.timeout(_TRIES_SECONDS):
                    await watch.shows(lambda replicas: replicas >= 1)
                took.append(watch.at - began)
    except TimeoutError:
        raise AssertionError(f"no first worker after {len(took)} trials:\n{place.operators.log()}") from None
    finally:
        await watch.close()
        await api.close()
    return took


async def _back_to_zero(place: Place, queue: TaskQueue, watch: Watch, number: int) -> None:
    """Take the tasks away, and wake the loop by an annotation until it has scaled to zero."""
    await queue.purge("measured")
    async with asyncio.timeout(_TRIES_SECONDS):
        for attempt in range(1000):
            note = f"example.com/trial={number}-{attempt}"
            command = ("annotate", "tq", "measured", "-n", place.namespace, "--overwrite", note)
            await asyncio.to_thread(place.kubectl, *command)
            try:
                async with asyncio.timeout(1):
                    await watch.shows(lambda replicas: replicas == 0)
            except TimeoutError:
                continue
            break
    await asyncio.sleep(0.3)  # the writes of status that follow are not part of the next trial


class Watch:
    """The replicas of the Deployment `measured-worker`, and when the watch has shown them."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._changed = asyncio.Event()
        self.replicas = -1
        self.at = 0.0

    async def start(self) -> None:
        selector = "app.kubernetes.io/instance=measured"
        async for page, version in self._api.list_pages("apps/v1", "Deployment", self._namespace, selector):
            self.replicas, since = page[0]["spec"]["replicas"], version
        self._task = asyncio.create_task(self._follow(selector, since))
        self._task.add_done_callback(lambda _task: self._changed.set())

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def shows(self, wanted: Any) -> None:
        while not wanted(self.replicas):
            if self._task.done():
                self._task.result()
            self._changed.clear()
            await self._changed.wait()

    async def _follow(self, selector: str, since: str) -> None:
        while True:
            events = self._api.watch(
                "apps/v1", "Deployment", self._namespace, selector, since=since, seconds=3000, silence_seconds=3000
            )
            async for event in events:
                since = event["object"]["metadata"]["resourceVersion"]
                # A bookmark is a Deployment without anything, and so with 0 replicas.
                replicas = self.replicas if event["type"] == "BOOKMARK" else event["object"]["spec"]["replicas"]
                if replicas != self.replicas:
                    self.replicas, self.at = replicas, time.monotonic()
                    self._changed.set()


def many(kubectl: ClusterCommand, kubeconfig: Path, minutes: float, count: int) -> Iterator[str]:
    """One operator with many TaskQueues, four prefixes on each of three Redis servers, one of which stands still."""
    with ExitStack() as stack:
        place = Place(stack, kubectl, kubeconfig, servers=3)
        queues = [taskqueue(f"q-{n}", place.redis[n % 3], f"prefix-{n // 3 % 4}") for n in range(count)]
        process = place.start()
        began = time.monotonic()
        place.apply(queues)
        until(lambda: place.decided(count), "all are decided upon", seconds=1800, pause=2)
        yield f"{count} TaskQueues applied and decided upon after {time.monotonic() - began:.0f} s ({load()})"
        place.redis[2].pause()
        stack.callback(place.redis[2].go_on)
        until(lambda: _share_failed(place) > 0.3, "the silent Redis is noticed", seconds=120, pause=1)
        time.sleep(120)  # its TaskQueues tell that, and their fallback; it is no part of the idle minutes
        yield from _idle(place, process, minutes)
        place.operators.kill()
        began = time.monotonic()
        process = place.start()
        until(lambda: place.decided(count), "all are decided upon again", seconds=1800, pause=1)
        took, calls = time.monotonic() - began, _calls(place.metrics())
        yield f"after a restart all are decided upon within {took:.0f} s; calls: {_words(calls, 1.0)} ({load()})"
        yield f"memory then: {_memory(process.pid)}"


def _idle(place: Place, process: subprocess.Popen[bytes], minutes: float) -> Iterator[str]:
    before, cpu, began = place.metrics(), _processor_seconds(process.pid), time.monotonic()
    while time.monotonic() < began + 60 * minutes:
        time.sleep(1)
    after, passed = place.metrics(), time.monotonic() - began
    used = (_processor_seconds(process.pid) - cpu) / passed
    yield f"idle for {passed / 60:.1f} minutes: {used:.2f} cores; memory {_memory(process.pid)} ({load()})"
    yield f"decision lag: {_lag(before, after)}; poll 5 s"
    calls = _calls(after)
    calls.subtract(_calls(before))
    yield f"calls a minute: {_words(calls, passed / 60) or 'none'}"


def _share_failed(place: Place) -> float:
    found = [value for name, value in place.metrics().items() if name.startswith("sample_failed{")]
    return sum(found) / max(1, len(found))


def _calls(figures: dict[str, float]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, value in figures.items():
        if told := re.fullmatch(r'api_calls_total\{code="(.*)",verb="(.*)"\}', name):
            code, verb = told.groups()
            found[verb if code in ("200", "201") else f"{verb} {code}"] += int(value)
    return found


def _words(calls: Counter[str], minutes: float) -> str:
    return ", ".join(f"{verb} {count / minutes:.4g}" for verb, count in sorted(calls.items()) if count)


def _lag(before: dict[str, float], after: dict[str, float]) -> str:
    """The bounds of the histogram between which p50 and p99 of the decisions lie."""
    counts: list[tuple[float, float]] = []
    for name, value in after.items():
        if told := re.fullmatch(r'decision_lag_seconds_bucket\{le="(.*)"\}', name):
            counts.append((float(told[1]), value - before.get(name, 0.0)))
    counts.sort()
    total = counts[-1][1]
    bounds = [next(limit for limit, count in counts if count >= share * total) for share in (0.5, 0.99)]
    return f"p50 ≤ {bounds[0]:g} s, p99 ≤ {bounds[1]:g} s of {total:.0f} decisions"


def _memory(pid: int) -> str:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return f"{now:.0f} MB, at most {most:.0f} MB"


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
