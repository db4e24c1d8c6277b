"""A TaskQueue whose pods are real workers on process nodes: the operator, the manifest, the tasks and their journal."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from e2e.cluster.kubectl import ClusterCommand, CommandError

from taskfleet import TaskQueue
from taskfleet.child_process import ends_with_this_process
from taskfleet.redis.keys import FleetKeys
from taskfleet.settings import RedisSettings, Settings
from tests.support.process_node_app import gate, journal

Object = dict[str, Any]

IMAGE = "registry.example/shop:1.0"
APP = "tests.support.process_node_app:queue"


class JournalRedis(Protocol):
    """The Redis of a fleet, as this process reaches it."""

    @property
    def url(self) -> str: ...

    def call(self, *command: str | int | bytes) -> Any: ...


class RealFleet:
    """One TaskQueue `name` in a namespace, with tasks on its queue `default` and a key prefix of its own."""

    def __init__(self, kubectl: ClusterCommand, namespace: str, redis: JournalRedis, name: str = "orders") -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self.name = name
        self.redis = redis
        self.prefix = f"{namespace}-{name}"
        self.manifest: Object = {
            "apiVersion": "taskfleet.io/v1alpha1",
            "kind": "TaskQueue",
            "metadata": {"name": name},
            "spec": {
                "redis": {"url": redis.url, "keyPrefix": self.prefix},
                "queues": [{"name": "default"}],
                "worker": {"image": IMAGE, "app": APP, "concurrency": 1, "drainTimeoutSeconds": 60},
                "autoscaler": {"maxReplicas": 20, "pollIntervalSeconds": 1, "cooldownSeconds": 2},
            },
        }

    def apply(self, **spec: Object) -> None:
        """Apply the manifest with these fields merged into its spec. They stay for the next call."""
        for block, fields in spec.items():
            merged = {**self.manifest["spec"].get(block, {}), **fields} if isinstance(fields, dict) else fields
            self.manifest["spec"][block] = copy.deepcopy(merged)
        self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(self.manifest))

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.kubectl(*arguments, "--namespace", self.namespace, stdin=stdin)

    def get(self, kind: str, name: str) -> Object:
        """The object, or an empty one when there is none."""
        try:
            found: Object = self.kubectl.json("get", kind, name, "--namespace", self.namespace)
        except CommandError as error:
            if "NotFound" in error.stderr:
                return {}
            raise
        return found

    def status(self) -> Object:
        status: Object = self.get("tq", self.name).get("status", {})
        return status

    def condition(self, kind: str) -> Object:
        return next((one for one in self.status().get("conditions", []) if one["type"] == kind), {})

    def deployment(self) -> Object:
        return self.get("deployment", f"{self.name}-worker")

    def replicas(self) -> int:
        return int(self.deployment().get("spec", {}).get("replicas", -1))

    def pods(self) -> dict[str, Object]:
        """The pods that are not being deleted, by name."""
        label = f"app.kubernetes.io/instance={self.name}"
        items = self.kubectl.json("get", "pods", "-n", self.namespace, "-l", label)["items"]
        return {pod["metadata"]["name"]: pod for pod in items if not pod["metadata"].get("deletionTimestamp")}

    def pod_images(self) -> set[str]:
        return {pod["spec"]["containers"][0]["image"] for pod in self.pods().values()}

    def ready(self) -> set[str]:
        return {name for name, pod in self.pods().items() if pod_condition(pod, "Ready") == "True"}

    def events(self) -> list[Object]:
        """The events on the TaskQueue."""
        field = f"involvedObject.kind=TaskQueue,involvedObject.name={self.name}"
        found: list[Object] = self.kubectl.json("get", "events", "-n", self.namespace, "--field-selector", field)[
            "items"
        ]
        return found

    def replica_changes(self) -> list[int]:
        """The numbers of the Scaled… events, in their order."""
        named = [one for one in self.events() if one["reason"] in ("ScaledUp", "ScaledDown")]
        # Their times are whole seconds, and two changes may be of one second.
        named.sort(key=lambda one: int(one["metadata"]["resourceVersion"]))
        return [int(one["message"].split(" → ")[1].split()[0]) for one in named]

    def enqueue(self, numbers: Iterable[int], seconds: float | None = None) -> None:
        """Tasks that take `seconds`, one for each number. Without, each runs until `let_go` names its number.

        What has to happen while a task runs may take a busy machine longer than any number of seconds.
        """

        async def send() -> None:
            settings = Settings(redis=RedisSettings(url=self.redis.url, key_prefix=self.prefix))
            async with TaskQueue(settings=settings) as queue:

                @queue.task(name="work")
                async def work(number: int, seconds: float | None) -> int: ...

                await queue.enqueue_many([work.message(number, seconds) for number in numbers])

        asyncio.run(send())

    def let_go(self, numbers: Iterable[int]) -> None:
        """Let these tasks end, which were enqueued without a time."""
        self.redis.call("SADD", gate(self.prefix), *numbers)

    def journal(self, verb: str) -> dict[int, list[str]]:
        """The pods by the number of each task that has started (`start`), ended (`end`) or was cut short (`cut`)."""
        found: dict[int, list[str]] = {}
        for noted, number, pod, _image, _note in self._journal():
            if noted == verb:
                found.setdefault(int(number), []).append(pod)
        return found

    def images(self, verb: str = "start") -> dict[int, str]:
        """The image of the last pod that has started each task."""
        return {int(number): image for noted, number, _pod, image, _note in self._journal() if noted == verb}

    def _journal(self) -> list[list[str]]:
        lines: list[bytes] = self.redis.call("LRANGE", journal(self.prefix), 0, -1)
        return [line.decode().split() for line in dict.fromkeys(lines)]

    def busy(self) -> set[str]:
        """The pods that run a task now."""
        ended = {**self.journal("end"), **self.journal("cut")}
        return {pods[-1] for number, pods in self.journal("start").items() if number not in ended}

    def heartbeats(self) -> dict[str, int]:
        """The number of running tasks by worker, as the last heartbeats tell it."""

        async def read() -> dict[str, int]:
            settings = Settings(redis=RedisSettings(url=self.redis.url, key_prefix=self.prefix))
            async with TaskQueue(settings=settings) as queue:
                return {one.name: one.busy for one in await queue.workers()}

        return asyncio.run(read())

    def ran_once(self, numbers: Iterable[int]) -> None:
        """Assert that each of these tasks has started once and ended once."""
        once = Counter(numbers)
        for verb in ("start", "end"):
            found = self.journal(verb)
            odd = {number: found.get(number, []) for number in once.keys() | found.keys()}
            odd = {number: pods for number, pods in odd.items() if len(pods) != once[number]}
            assert not odd, f"these have another number of {verb}s than one, in these pods: {odd}"

    def cordoned(self) -> set[str]:
        """The workers with a cordon key."""
        before = FleetKeys(self.prefix).cordon("")
        return {key.decode().removeprefix(before) for key in self.redis.call("KEYS", f"{before}*")}


class OperatorProcesses:
    """Operators of one namespace, as processes with their log, that end with the test."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path) -> None:
        self.kubeconfig = kubeconfig
        self._namespace = namespace
        self._folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"operator-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "taskfleet", "operator", "--namespace", self._namespace, *options],
                env=os.environ | {"KUBECONFIG": str(self.kubeconfig)} | environment,
                stderr=log,
                preexec_fn=ends_with_this_process(),
            )
        self.processes.append(process)
        return process

    def kill(self) -> None:
        """End the last one with SIGKILL."""
        self.processes[-1].kill()
        self.processes[-1].wait(10)

    def log(self) -> str:
        """What all of them have written."""
        return "".join(
            (self._folder / f"operator-{n}.log").read_text(errors="replace") for n in range(len(self.processes))
        )

    def __enter__(self) -> OperatorProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            finally:
                process.kill()


def pod_condition(pod: Object, kind: str) -> str:
    return next((str(one["status"]) for one in pod["status"].get("conditions", ()) if one["type"] == kind), "")


def until(condition: Callable[[], Any], what: str, *, seconds: float = 180.0, pause: float = 0.1) -> Any:
    """Wait for a condition; `AssertionError` names it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)
    return value
