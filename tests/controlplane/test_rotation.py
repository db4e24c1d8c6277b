"""A rotated password reaches real workers under load: no task is lost or run twice."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Iterator

import pytest
from e2e.cluster.kubectl import ClusterCommand

from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def password(fleet: RealFleet, text: str) -> None:
    """Store it in the secret that the TaskQueue names."""
    data = {"password": base64.b64encode(text.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "data": data}
    fleet("apply", "-f", "-", stdin=json.dumps(secret))


def config_hash(fleet: RealFleet) -> str:
    return str(fleet.deployment()["spec"]["template"]["metadata"]["annotations"]["taskfleet.io/config-hash"])


def test_a_password_that_is_rotated_under_load_loses_no_task(
    crd: None,
    kubectl: ClusterCommand,
    namespace: str,
    nodes: ProcessNodes,
    operators: OperatorProcesses,
    server: RedisServer,
) -> None:
    server.call("ACL", "SETUSER", "worker", "on", ">first", "~*", "&*", "+@all")
    fleet = RealFleet(kubectl, namespace, server)
    password(fleet, "first")
    operators.start()
    login = {"username": "worker", "passwordSecretRef": {"name": "login", "key": "password"}}
    fleet.apply(redis={"auth": login}, autoscaler={"mode": "Disabled"}, replicas=3)
    old = until(lambda: len(found := fleet.ready()) == 3 and found, "three pods are ready")
    before = config_hash(fleet)

    numbers = itertools.count()
    sent: list[int] = []

    def under_load() -> None:
        """Keep some tasks waiting at all times."""
        if len(sent) - len(fleet.journal("end")) < 12:
            several = list(itertools.islice(numbers, 12))
            fleet.enqueue(several, seconds=0.7)
            sent.extend(several)

    def rolled() -> bool:
        under_load()
        return config_hash(fleet) != before

    def all_busy() -> bool:
        under_load()
        return len(fleet.busy()) == 3

    until(all_busy, "all are busy")
    server.call("ACL", "SETUSER", "worker", ">second")
    password(fleet, "second")
    began = time.monotonic()
    until(rolled, "the workers are rolled")
    print(f"after {time.monotonic() - began:.1f} s the Deployment has the new password")

    def replaced() -> bool:
        under_load()
        return not fleet.pods().keys() & old and len(fleet.ready()) == 3

    until(replaced, "three new pods have replaced them")
    until(lambda: not set(nodes.pods) & old, "the old ones have ended")
    server.call("ACL", "SETUSER", "worker", "<first")
    server.call("CLIENT", "KILL", "USER", "worker")  # every connection logs in again, with what it has
    more = list(itertools.islice(numbers, 9))
    fleet.enqueue(more, seconds=0.1)
    sent.extend(more)
    until(lambda: len(fleet.journal("end")) == len(sent), "all tasks have ended")
    fleet.ran_once(sent)
    assert not fleet.journal("cut")
    until(lambda: fleet.condition("RedisReachable").get("status") == "True", "the operator has the new one too")
