"""A Prometheus of the test's own, and the fleet of tests/controlplane, which it scrapes."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskfleet.child_process import ends_with_this_process
from tests.controlplane.conftest import (  # noqa: F401 - fixtures and the hook that builds the control plane
    control_plane,
    crd,
    fleet,
    kubectl,
    namespace,
    nodes,
    operators,
    plane,
    pytest_collection_finish,
    redis_server,
)
from tests.prometheus.expressions import ALERTS
from tests.prometheus.server import PrometheusServer
from tests.support import requirements
from tests.support.ports import free_port

_TIER = "Prometheus"


def _program(config: pytest.Config, name: str) -> str:
    found = shutil.which(name)
    if found is None:
        requirements.cannot_run(config, _TIER, f"no {name}; `sh tests/prometheus/install.sh` installs it on Debian")
    return found


@pytest.fixture(scope="session")
def promtool(pytestconfig: pytest.Config) -> str:
    """The path of promtool."""
    return _program(pytestconfig, "promtool")


@pytest.fixture
def prometheus(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[Callable[..., PrometheusServer]]:
    """`prometheus(scrape_configs, rule_files)` starts one, which ends with the test."""
    program = _program(pytestconfig, "prometheus")
    started: list[subprocess.Popen[bytes]] = []

    def start(scrape_configs: list[dict[str, Any]], rule_files: tuple[Path, ...] = ()) -> PrometheusServer:
        folder = tmp_path / f"prometheus-{len(started)}"
        folder.mkdir()
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config = {"global": every, "scrape_configs": scrape_configs, "rule_files": [str(file) for file in rule_files]}
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        port = free_port()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    program, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
                    "--enable-feature=exemplar-storage",
                ],
                stdout=log, stderr=log, preexec_fn=ends_with_this_process(),
            )  # fmt: skip
        started.append(process)
        server = PrometheusServer(port)
        deadline = time.monotonic() + 60
        while not server.is_ready():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        return server

    yield start
    for process in started:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


@pytest.fixture
def impatient(tmp_path: Path) -> Path:
    """The rules without their waits."""
    rules = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    file = tmp_path / "impatient.yaml"
    file.write_text(yaml.safe_dump(rules), encoding="utf-8")
    return file
