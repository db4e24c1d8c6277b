"""How many calls of the API the operator makes: to learn the cluster once, and for the first task of a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet import TaskQueue
from taskfleet.settings import RedisSettings, Settings
from tests.controlplane.measure_many import Place, taskqueue
from tests.controlplane.test_restart_of_many import is_told
from tests.support.api_proxy import ApiProxy
from tests.support.process_node_fleet import until

COUNT = 10


@pytest.fixture
def place(crd: None, kubectl: ClusterCommand, control_plane: Path) -> Iterator[tuple[Place, ApiProxy]]:
    with ExitStack() as stack:
        made = Place(stack, kubectl, control_plane)
        proxy = stack.enter_context(ApiProxy(control_plane, made.folder))
        made.operators.kubeconfig = proxy.kubeconfig
        yield made, proxy
        kubectl("delete", "namespace", made.namespace, "--wait=false")


@pytest.mark.timeout(300)
def test_a_restart_lists_each_kind_once_and_the_first_task_costs_one_write(place: tuple[Place, ApiProxy]) -> None:
    made, proxy = place
    made.start()
    names = [f"q{number}" for number in range(COUNT)]
    made.apply([taskqueue(name, made.redis[0], "calls", pollIntervalSeconds=300) for name in names])
    # What is still to be told may wait for an operator that stands still for some seconds.
    until(lambda: made.decided(COUNT) and told(made) and still(proxy), "the status of each says all", pause=6)
    made.operators.kill()
    proxy.calls.clear()
    made.start()
    until(lambda: made.decided(COUNT), "all are decided upon again", pause=0.5)
    reads = [call.path for call in proxy.calls if not call.is_write and not call.is_watch]
    objects = [path for path in reads if "/namespaces/" in path]  # kopf asks what the API server serves
    assert len(objects) == len(set(objects)) == 8, "eight kinds, and no look at a single object"
    assert not [call for call in proxy.writes() if "dryRun" not in call.query], "nothing has changed"
    proxy.calls.clear()
    asyncio.run(first_task(made, "q3"))
    until(lambda: proxy.writes(), "a write", pause=0.01)
    first = proxy.calls[0]
    assert (first.method, first.path.rpartition("/")[2]) == ("PATCH", "q3-worker"), "nothing comes before the number"


def told(place: Place) -> bool:
    """Whether the status of each TaskQueue says all."""
    items = place.kubectl.json("get", "tq", "-n", place.namespace)["items"]
    return len(items) == COUNT and all(map(is_told, items))


def still(proxy: ApiProxy) -> bool:
    """Whether nothing was written since the last look."""
    written = bool(proxy.writes())
    proxy.calls.clear()
    return not written


async def first_task(made: Place, name: str) -> None:
    settings = Settings(redis=RedisSettings(url=made.redis[0].url, key_prefix="calls"))
    async with TaskQueue(settings=settings) as queue:

        @queue.task
        async def nothing() -> None: ...

        await nothing.options(queue=name).enqueue()
