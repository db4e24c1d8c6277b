"""The cluster of the end-to-end tests, its clients and its images.

`TASKFLEET_E2E_KUBECONFIG` names another cluster to use; its nodes must be able to pull the images.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support import requirements

from e2e import evidence
from e2e.cluster import binaries, kind_cluster, product_images
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import ClusterCommand
from e2e.operator_release import OperatorRelease
from e2e.pod_fleet import ForwardedRedis, PodFleet, namespace_of_a_test, redis_in_the_cluster

_TIER = "end-to-end"
_CLUSTER = pytest.StashKey["KubernetesCluster"]()
_MISSING = pytest.StashKey[str]()
FAILED = pytest.StashKey[bool]()  # of a test: a fixture looks at it when it ends


@dataclass(frozen=True)
class KubernetesCluster:
    """A cluster that answers, and how images get to its nodes."""

    kubeconfig: Path
    ours: bool

    def load(self, *images: str) -> None:
        """Put images of the Docker engine on the node; another's cluster pulls them by itself."""
        if self.ours:
            kind_cluster.load(*images)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the cluster and the images before any test starts: it takes minutes, a test has its timeout."""
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly or "cluster" not in wanted:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            cluster = _have_cluster()
            if "images" in wanted:
                cluster.load(*product_images.build())
            session.config.stash[_CLUSTER] = cluster
        except ClusterError as missing:
            session.config.stash[_MISSING] = str(missing)


def _have_cluster() -> KubernetesCluster:
    if chosen := os.environ.get("TASKFLEET_E2E_KUBECONFIG"):
        cluster = KubernetesCluster(Path(chosen), ours=False)
    else:
        cluster = KubernetesCluster(kind_cluster.up(), ours=True)
    binaries.ensure("kubectl", "helm")
    return cluster


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    yield  # pytest's own summary first, so that this one is read last
    requirements.report(terminalreporter, config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> KubernetesCluster:
    """A cluster with a node: `cluster.kubeconfig`, `cluster.load(image, …)`. It stays for the next run."""
    if _MISSING in pytestconfig.stash:
        requirements.cannot_run(pytestconfig, _TIER, pytestconfig.stash[_MISSING])
    return pytestconfig.stash[_CLUSTER]


@pytest.fixture(scope="session")
def images(cluster: KubernetesCluster) -> tuple[str, ...]:
    """The product's images, built from the checkout and on the node before the first test; their tags."""
    return product_images.TAGS


@pytest.fixture(scope="session")
def kubectl(cluster: KubernetesCluster) -> ClusterCommand:
    """`kubectl("get", "pods")`: standard output; `CommandError` with standard error. `kubectl.json(…)` parses."""
    return ClusterCommand(binaries.ensure("kubectl")["kubectl"], cluster.kubeconfig)


@pytest.fixture(scope="session")
def helm(cluster: KubernetesCluster) -> ClusterCommand:
    """`helm("upgrade", "--install", …)`, as `kubectl`."""
    return ClusterCommand(binaries.ensure("helm")["helm"], cluster.kubeconfig)


@pytest.fixture
def namespace(kubectl: ClusterCommand) -> Iterator[str]:
    """A namespace with its service account, deleted after the test."""
    with namespace_of_a_test(kubectl) as name:
        yield name


@pytest.fixture(scope="session")
def operator(kubectl: ClusterCommand, helm: ClusterCommand, images: tuple[str, ...]) -> Iterator[OperatorRelease]:
    """The operator of all tests, installed by its chart. A test that upgrades it restores it."""
    release = OperatorRelease(kubectl, helm)
    release.install()
    yield release
    release.uninstall()


@pytest.fixture(scope="session")
def redis(kubectl: ClusterCommand, images: tuple[str, ...]) -> Iterator[ForwardedRedis]:
    """One Redis for all fleets: each has a key prefix of its own."""
    with redis_in_the_cluster(kubectl) as server:
        yield server


@pytest.fixture
def fleet(
    kubectl: ClusterCommand,
    operator: OperatorRelease,
    namespace: str,
    redis: ForwardedRedis,
    request: pytest.FixtureRequest,
) -> Iterator[PodFleet]:
    """A TaskQueue that is not applied yet. Its namespace goes after the test."""
    yield PodFleet(kubectl, namespace, redis)
    if request.node.stash.get(FAILED, False):
        evidence.show(kubectl, namespace, operator.namespace)
    kubectl("delete", "tq", "--all", "--namespace", namespace, "--wait=false")
