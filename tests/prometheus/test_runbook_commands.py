"""The kubectl commands of the runbooks, on a TaskQueue `orders` of a real API server: those that need no node."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from tests.prometheus.expressions import RUNBOOKS
from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until

_BLOCK = re.compile(r"<!-- needs: cluster -->\n *```sh\n(.*?)\n *```", re.DOTALL)
# A kubelet answers these, or they are about the operator's own namespace, which tests/controlplane/test_chart.py has.
_ELSEWHERE = ("kubectl exec", "kubectl logs", "kubectl drain", "kubectl --namespace taskfleet-system")
_EXAMPLE = "orders-worker-5c9f8d7b6-x2x4z"


def commands() -> Iterator[tuple[str, str]]:
    for page in sorted(RUNBOOKS.glob("*.md")):
        for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.splitlines():
                if not line.strip().startswith(_ELSEWHERE):
                    yield page.stem, line.strip()


def test_the_commands_run(fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses) -> None:
    operators.start()
    fleet.apply(autoscaler={"minReplicas": 1})
    pod = next(iter(until(fleet.ready, "a pod is ready")))
    until(lambda: fleet.condition("Ready").get("status") == "True", "it is ready")
    ran = 0
    for _page, command in commands():
        program, *arguments = shlex.split(command.replace(_EXAMPLE, pod), comments=True)
        assert program == "kubectl", command
        fleet.kubectl(*arguments, *(() if "-A" in arguments else ("--namespace", fleet.namespace)))
        ran += 1
    assert ran > 10
    assert (
        fleet.get("tq", fleet.name)["spec"]["autoscaler"]["maxReplicas"] == 40
    )  # as TaskfleetAutoscalerLimited has it
