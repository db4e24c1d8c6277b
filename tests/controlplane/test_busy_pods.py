"""A busy pod is never taken away: real workers, real tasks, a smaller number."""

from __future__ import annotations

import pytest

from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until

pytestmark = pytest.mark.timeout(300)


def test_of_twenty_pods_the_five_busy_ones_remain(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=20)
    until(lambda: len(fleet.ready()) == 20, "twenty pods are ready", seconds=100)
    fleet.enqueue(range(5), seconds=20)
    busy = until(lambda: len(found := fleet.busy()) == 5 and found, "five of them are busy")
    fleet("scale", f"tq/{fleet.name}", "--replicas=5")
    until(lambda: len(fleet.pods()) == 5, "five pods remain")
    assert fleet.pods().keys() == busy
    assert not fleet.journal("end"), "they were removed while the five were busy"
    until(lambda: len(fleet.journal("end")) == 5, "the tasks have ended", seconds=40)
    fleet.ran_once(range(5))
    assert fleet.pods().keys() == busy
