"""Spans and metrics of a real fleet reach a real OpenTelemetry collector."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster import binaries
from e2e.cluster.errors import ClusterError

from taskfleet import TaskQueue
from taskfleet.child_process import ends_with_this_process
from tests.support import requirements
from tests.support.ports import free_port
from tests.support.redis_server import wait_until

# On a bare machine the collector is built first.
pytestmark = pytest.mark.timeout(1200)

CONFIGURATION = """
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{port}"}}
exporters:
  file: {{path: "{out}"}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
"""


class Collector:
    """A collector that writes all it gets into a file."""

    def __init__(self, endpoint: str, out: Path) -> None:
        self.endpoint = endpoint
        self._out = out

    def received(self, kind: str) -> list[dict[str, Any]]:
        """The spans or metrics that have arrived."""
        if not self._out.exists():
            return []
        found: list[dict[str, Any]] = []
        for line in self._out.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be on its way
                for resource in json.loads(line).get("resource" + kind.title(), ()):
                    found += [each for scope in resource["scope" + kind.title()] for each in scope[kind]]
        return found


@pytest.fixture(scope="module")
def program(pytestconfig: pytest.Config) -> Path:
    try:
        return binaries.ensure("otelcol")["otelcol"]
    except ClusterError as missing:
        requirements.cannot_run(pytestconfig, "collector", str(missing))


@pytest.fixture
def collector(program: Path, tmp_path: Path) -> Iterator[Collector]:
    port, out = free_port(), tmp_path / "received.jsonl"
    settings = tmp_path / "collector.yaml"
    settings.write_text(CONFIGURATION.format(port=port, out=out), encoding="utf-8")
    process = subprocess.Popen([program, "--config", settings], preexec_fn=ends_with_this_process())
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, "the collector listens")
        assert process.poll() is None, "the collector ended at once"
        yield Collector(f"http://127.0.0.1:{port}", out)
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


SEND = """
import asyncio
from tests.integrations.collected_app import double, fails, queue

async def main():
    async with queue:
        await queue.enqueue_many([double.message(n) for n in range(10)])
        await fails.enqueue()

asyncio.run(main())
"""


def test_a_fleet_reports_to_a_collector(shared: TaskQueue, collector: Collector) -> None:
    variables = {
        "PYTHONPATH": os.pathsep.join(sys.path), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_SERVICE_NAME": "shop",
    }  # fmt: skip
    worker = ["-m", "taskfleet", "worker", "tests.integrations.collected_app:queue", "--burst", "--processes", "2"]
    for arguments in (["-c", SEND], worker):
        done = subprocess.run([sys.executable, *arguments], env=os.environ | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Failed to export" not in done.stderr
    # What was made last arrives too: the processes flush at their end.
    # The collector writes what it has got a moment later, the spans of one process before those of the other or its
    # metrics.
    wait_until(
        lambda: _named(collector, "process double") == 10 and _named(collector, "process fails") == 1, "the spans"
    )
    wait_until(lambda: _named(collector, "wait double") == 10, "the waits")
    known = {"taskfleet.queue.ready", "messaging.process.duration", "messaging.client.sent.messages"}
    wait_until(lambda: known <= {metric["name"] for metric in collector.received("metrics")}, "the metrics")
    spans = collector.received("spans")
    (sent,) = [span for span in spans if span["name"] == "send double"]
    runs = [span for span in spans if span["name"] == "process double"]
    assert {(run["traceId"], run["parentSpanId"], run["kind"]) for run in runs} == {
        (sent["traceId"], sent["spanId"], 5)
    }
    assert sent["kind"] == 4
    (failed,) = [span for span in spans if span["name"] == "process fails"]
    assert failed["status"] == {"code": 2, "message": "no luck"}


def _named(collector: Collector, name: str) -> int:
    return sum(span["name"] == name for span in collector.received("spans"))
