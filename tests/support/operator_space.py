"""One namespace with a TaskQueue `orders`, and what tests of an operator without pods look at."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand, CommandError

from taskfleet import TaskQueue
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.children import KINDS
from tests.support.redis_server import RedisServer

NAME = "orders-worker"  # of every child
Manifest = dict[str, Any]


class Space:
    """One namespace: apply a manifest, read objects, wait for expected changes."""

    def __init__(self, kubectl: ClusterCommand, namespace: str) -> None:
        self.kubectl = kubectl
        self.name = namespace

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.kubectl(*arguments, "--namespace", self.name, stdin=stdin)

    def apply(self, manifest: Manifest) -> None:
        self("apply", "-f", "-", stdin=json.dumps(manifest))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.kubectl.json(
                "get", kind, name, "--namespace", self.name, "--show-managed-fields"
            )
        except CommandError as error:
            if "NotFound" in error.stderr:
                return {}
            raise
        return found

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.get("tq", "orders").get("status", {})
        return status

    def condition(self, kind: str) -> dict[str, Any]:
        return next((one for one in self.status().get("conditions", []) if one["type"] == kind), {})

    def warnings(self) -> dict[str, list[str]]:
        """The messages of the Warning Events on the TaskQueue, by their reason."""
        found: dict[str, list[str]] = {}
        for one in self.kubectl.json("get", "events", "--namespace", self.name)["items"]:
            if one["type"] == "Warning" and one["involvedObject"]["kind"] == "TaskQueue":
                found.setdefault(one["reason"], []).append(one["message"])
        return found

    def replicas(self) -> int:
        return int(self.get("deployment", "orders-worker").get("spec", {}).get("replicas", -1))


def until(condition: Callable[[], Any], what: str, *, seconds: float = 120.0, pause: float = 0.05) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)
    return value


def enqueue(redis_server: RedisServer, prefix: str, count: int) -> None:
    async def send() -> None:
        settings = Settings(redis=RedisSettings(url=redis_server.url, key_prefix=prefix))
        async with TaskQueue(settings=settings) as queue:

            @queue.task
            async def nothing() -> None: ...

            await queue.enqueue_many([nothing.message() for _ in range(count)])

    asyncio.run(send())


def purge(redis_server: RedisServer, prefix: str) -> None:
    async def drop() -> None:
        settings = Settings(redis=RedisSettings(url=redis_server.url, key_prefix=prefix))
        async with TaskQueue(settings=settings) as queue:
            await queue.purge("default")

    asyncio.run(drop())


CHILDREN = tuple(kind.plural for kind in KINDS)


def settled(space: Space) -> bool:
    return bool(space.status().get("observedGeneration")) and space.condition("Ready").get("status") == "True"


def told(space: Space, kind: str = "Reconciled", reason: str = "ForeignObject") -> str:
    """Wait for the condition, and return its message."""
    condition = until(lambda: (one := space.condition(kind)).get("reason") == reason and one, f"{kind} says {reason}")
    assert condition["status"] == "False"
    return str(condition["message"])
