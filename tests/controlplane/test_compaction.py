"""etcd is compacted and the API server starts anew while the operator's watches are away: a real 410 Gone."""

from __future__ import annotations

import copy
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster.controlplane import ControlPlane

from tests.support.api_proxy import ApiProxy, refusal
from tests.support.operator_space import CHILDREN, NAME, Manifest, Space, enqueue, settled, until
from tests.support.process_node_fleet import OperatorProcesses
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def proxy(control_plane: Path, tmp_path: Path) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane, tmp_path) as running:
        yield running


def compact(etcd: str) -> None:
    """Throw away all but the last revision."""

    def call(path: str, **body: object) -> dict[str, dict[str, str]]:
        with urllib.request.urlopen(f"{etcd}/v3/{path}", json.dumps(body).encode(), timeout=30) as answer:
            found: dict[str, dict[str, str]] = json.load(answer)
            return found

    revision = call("maintenance/status")["header"]["revision"]
    call("kv/compaction", revision=revision, physical=True)


def test_what_goes_while_etcd_is_compacted_is_seen(
    plane: ControlPlane,
    proxy: ApiProxy,
    operators: OperatorProcesses,
    space: Space,
    manifest: Manifest,
    redis_server: RedisServer,
    prefix: str,
) -> None:
    operators.kubeconfig = proxy.kubeconfig
    operators.start()
    other = copy.deepcopy(manifest)
    other["metadata"]["name"] = "other"
    other["spec"]["redis"]["keyPrefix"] = f"{prefix}2"
    space.apply(other)
    space.apply(manifest)
    until(lambda: settled(space), "it is ready", seconds=60)
    until(
        lambda: space.get("tq", "other").get("status", {}).get("observedGeneration"), "the other one, too", seconds=60
    )

    proxy.refuse = lambda _call: refusal(503)
    proxy.cut()
    space("delete", "tq", "other", "--wait=true")
    space("delete", "configmap,service", NAME, "--wait=true")
    plane.restart_api_server(lambda: compact(plane.etcd))
    until(lambda: space.get("namespace", space.name), "the API server answers")
    proxy.calls.clear()
    proxy.refuse = lambda _call: None

    until(
        lambda: space.get("configmap", NAME) and space.get("service", NAME), "the children are made again", seconds=60
    )

    def listed() -> set[str]:
        return {call.path.rpartition("/")[2] for call in proxy.calls if not call.is_watch and not call.is_write}

    def watched() -> bool:
        """Whether a watch goes on from a list, as the first that the proxy saw ended in 410."""
        asked = [call.is_watch for call in list(proxy.calls) if call.path.endswith("/taskqueues")]
        return False in asked and True in asked[asked.index(False) :]

    until(lambda: listed() >= {"taskqueues", "configmaps", "services"}, "the watches had expired: 410", seconds=60)
    until(watched, "the TaskQueues of that list are known", seconds=60)
    # Until the TaskQueues are listed, the other one is believed to be there. What is made for it has no owner.
    until(
        lambda: not any(space.get(kind, "other-worker") for kind in CHILDREN),
        "the garbage collector goes on",
        seconds=90,
    )
    proxy.calls.clear()
    enqueue(redis_server, prefix, 1)
    until(lambda: space.replicas() > 0, "a task brings a worker", seconds=60)
    assert not [call.path for call in proxy.writes() if "/other" in call.path], "the other one is forgotten"
