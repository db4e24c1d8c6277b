"""The dashboard of the chart in a real cluster, opened through the API server and asked by `kubectl taskfleet`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.kubectl import ClusterCommand, CommandError
from e2e.conftest import KubernetesCluster
from e2e.operator_release import OperatorRelease
from e2e.pod_fleet import ForwardedRedis

NAME = "taskfleet-dashboard"
PLUGIN = "from taskfleet_operator.kubectl import main; main()"


@pytest.fixture
def dashboard(operator: OperatorRelease, redis: ForwardedRedis, kubectl: ClusterCommand) -> Iterator[str]:
    """Where it is, as NAMESPACE/NAME; the operator is as before after the test."""
    operator.install(
        "dashboard.enabled=true", f"dashboard.redis.url={redis.inside}", "dashboard.networkPolicy.enabled=true"
    )
    yield f"{operator.namespace}/{NAME}"
    operator.install()


def plugin(cluster: KubernetesCluster, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PLUGIN, *words], env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_its_pages_come_through_the_proxy_and_its_api_asks_who_it_is(
    dashboard: str, operator: OperatorRelease, kubectl: ClusterCommand
) -> None:
    kubectl("rollout", "status", f"deployment/{NAME}", "--namespace", operator.namespace, "--timeout=120s")
    proxy = f"/api/v1/namespaces/{operator.namespace}/services/{NAME}:http/proxy"
    assert "<title>" in kubectl("get", "--raw", f"{proxy}/")
    assert kubectl("get", "--raw", f"{proxy}/healthz").strip() == "ok"
    with pytest.raises(CommandError, match=r"nauthorized|logged in|log in"):
        kubectl("get", "--raw", f"{proxy}/api/overview")


def test_a_login_by_a_client_certificate_pauses_a_queue(
    dashboard: str, cluster: KubernetesCluster, redis: ForwardedRedis, tmp_path: Path
) -> None:
    """The administrator of kind has a certificate, and no token that could be shown to anybody."""
    app = "from taskfleet import TaskQueue\nqueue = TaskQueue.from_config(queues=['mail'])\n"
    (tmp_path / "tasks.py").write_text(f"{app}@queue.task(queue='mail')\nasync def send() -> None: ...\n")
    subprocess.run(
        [sys.executable, "-m", "taskfleet", "enqueue", "send", "--app", "tasks:queue"], cwd=tmp_path,
        env=os.environ | {"REDIS_URL": redis.url}, check=True, timeout=60,
    )  # fmt: skip
    own = plugin(cluster, "queues", "--dashboard", dashboard, "--own-token")
    assert own.returncode == 2
    assert "logs in by a certificate, and has no token" in own.stderr
    done = plugin(cluster, "pause", "mail", "--dashboard", dashboard)
    assert (done.returncode, done.stdout) == (0, "queue mail paused\n"), done.stderr
    until = time.monotonic() + 30
    while True:
        rows = json.loads(plugin(cluster, "queues", "--dashboard", dashboard, "-o", "json").stdout)["items"]
        if next(row["state"] for row in rows if row["name"] == "mail") == "paused":
            break
        assert time.monotonic() < until
    assert plugin(cluster, "resume", "mail", "--dashboard", dashboard).returncode == 0
