"""Two operators on a real API server. A proxy before each writes down all that it writes, and when."""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet.child_process import ends_with_this_process
from tests.support.audited_api import AuditedApi, Write
from tests.support.manifests import GOOD
from tests.support.operator_space import Manifest, Space, settled, until
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

HANGS_SECONDS = 60.0
"""How long a change may take, also one that waits for another leader.

How soon a standby follows is a promise in seconds (18 after a kill). A busy machine adds its own to them, so
tests/unit/operator/test_leadership.py holds it to them on a clock of its own.
"""


class Member:
    """One operator process behind its proxy."""

    def __init__(
        self, name: str, proxy: AuditedApi, process: subprocess.Popen[bytes], log: Path, probes: int, metrics: int
    ) -> None:
        self.probes, self.metrics = probes, metrics
        self.name = name
        self.proxy = proxy
        self.process = process
        self.log = log

    def said(self, words: str) -> bool:
        return words in self.log.read_text()

    def said_at(self, words: str) -> dt.datetime:
        """When it said so first. Lines of the log begin with their local time."""
        line = next(line for line in self.log.read_text().splitlines() if words in line)
        return dt.datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone()

    def probe(self, path: str) -> int:
        """The status of a probe, 0 without an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.probes}{path}", timeout=30) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def figure(self, metric: str) -> float:
        """A metric with its labels, as it is written; 0 while there is none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=30) as response:
            text = response.read().decode()
        values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{metric} ")]
        return float(values[0]) if values else 0.0


class Pair:
    """Operators that share a Lease in the test's namespace."""

    def __init__(self, space: Space, kubeconfig: Path, folder: Path) -> None:
        self.space = space
        self.writes: list[Write] = []
        self.members: dict[str, Member] = {}
        self._folder = folder
        config = json.loads(space.kubectl("config", "view", "--raw", "-o", "json"))
        self._server: str = config["clusters"][0]["cluster"]["server"]
        self._kubeconfig = folder / "kubeconfig.json"
        self._kubeconfig.write_text(json.dumps(config))

    def start(self, name: str, *arguments: str) -> Member:
        proxy = AuditedApi(self._server, name, self.writes)
        proxy.__enter__()
        log = self._folder / f"{name}.log"
        ports = ["--probe-port", str(free_port()), "--metrics-port", str(free_port())]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "taskfleet", "operator", "--namespace", self.space.name, *ports, *arguments],
                env=os.environ
                | {
                    "KUBECONFIG": str(proxy.kubeconfig(self._kubeconfig, self._folder / f"{name}.json")),
                    "POD_NAMESPACE": self.space.name,
                    "POD_NAME": name,
                },
                stderr=output,
                preexec_fn=ends_with_this_process(),
            )
        member = self.members[name] = Member(name, proxy, process, log, int(ports[1]), int(ports[3]))
        return member

    def holder(self, lease: str = "taskfleet-operator") -> str:
        """The name of the member that holds the Lease."""
        spec = self.space.get("lease", lease).get("spec", {})
        return str(spec.get("holderIdentity", "")).partition("_")[0]

    def leader(self) -> Member:
        return self.members[until(self.holder, "somebody holds the Lease", seconds=60)]

    def other(self, member: Member) -> Member:
        (found,) = (one for one in self.members.values() if one is not member)
        return found

    def goes_on(self, count: int) -> None:
        """Wait for so many further writes."""
        written = len(self.writes)
        until(lambda: sum(not one.of_lease for one in self.writes[written:]) >= count, "a leader writes", seconds=120)

    def close(self) -> None:
        for member in self.members.values():
            member.process.send_signal(signal.SIGCONT)
            member.process.kill()
            member.process.wait(10)
            member.proxy.__exit__()
            print(f"--- {member.name}", member.log.read_text(), sep="\n")

    def strangers(self) -> list[str]:
        """The writes of a member at a time at which another held the Lease."""
        if (
            len({write.path.rpartition("/")[2] for write in self.writes if write.of_lease and write.method == "PUT"})
            > 1
        ):
            return []  # shards: each leads
        held = [
            (write.sent, write.answered, str(write.body["spec"].get("holderIdentity") or ""))
            for write in self.writes
            if write.of_lease and write.status < 300
        ]
        found = []
        for write in self.writes:
            if write.of_lease:
                continue
            before = [holder for _, answered, holder in held if answered <= write.sent][-1:]
            meanwhile = [holder for sent, answered, holder in held if sent <= write.answered and answered > write.sent]
            if not any(holder.startswith(f"{write.by}_") for holder in before + meanwhile):
                found.append(f"{write.sent:.2f} {write.by}: {write.method} {write.path}, held by {before}")
        return found


@pytest.fixture
def pair(crd: None, kubectl: ClusterCommand, namespace: str, control_plane: Path, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(Space(kubectl, namespace), control_plane, tmp_path)
    try:
        yield made
    finally:
        made.close()
    assert not made.strangers()
    assert made.writes
    for member in made.members.values():
        assert not member.said("Traceback")


@pytest.fixture
def manifest(redis_server: RedisServer) -> Manifest:
    made = copy.deepcopy(GOOD)
    made["spec"]["redis"] = {"url": redis_server.url, "keyPrefix": f"test-{secrets.token_hex(4)}"}
    made["spec"]["autoscaler"] |= {"cooldownSeconds": 2, "pollIntervalSeconds": 1, "minReplicas": 1}
    return made


def set_image(space: Space, tag: str, name: str = "orders") -> None:
    patch = {"spec": {"worker": {"image": f"registry.example/shop:{tag}"}}}
    space("patch", "tq", name, "--type=merge", "-p", json.dumps(patch))


def has_image(space: Space, tag: str, name: str = "orders") -> bool:
    spec = space.get("deployment", f"{name}-worker").get("spec")
    return bool(spec) and str(spec["template"]["spec"]["containers"][0]["image"]).endswith(f":{tag}")


def acts(space: Space) -> float:
    """Ask for a change, and return the seconds until it is made."""
    tag, began = secrets.token_hex(3), time.monotonic()
    set_image(space, tag)
    until(lambda: has_image(space, tag), "a leader acts", seconds=HANGS_SECONDS)
    return time.monotonic() - began


class Churn:
    """Somebody who changes the TaskQueue all the time, so that a leader always has something to write."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ended.wait(0.3):
            set_image(self._space, secrets.token_hex(3))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)


def watches(member: Member, kind: str) -> bool:
    return any(f"/{kind}?" in path and "watch" in path for _, path in list(member.proxy.requests))


def both(pair: Pair, manifest: Manifest) -> tuple[Member, Member]:
    """Two operators that have settled on a TaskQueue: the leader, and the standby."""
    pair.space.apply(manifest)
    pair.start("op-a")
    pair.start("op-b")
    until(lambda: settled(pair.space) or pair.space.replicas() == 1, "the TaskQueue is served", seconds=120)
    leader = pair.leader()
    standby = pair.other(leader)
    until(
        lambda: any("/taskqueues" in path for _, path in list(standby.proxy.requests)),
        "the standby's informers are warm",
    )
    return leader, standby


@pytest.mark.timeout(300)
def test_one_of_two_writes_and_the_other_is_warm(pair: Pair, manifest: Manifest) -> None:
    leader, standby = both(pair, manifest)
    acts(pair.space)
    assert {write.by for write in pair.writes if not write.of_lease} == {leader.name}
    for kind in ("taskqueues", "deployments", "pods", "configmaps"):
        until(lambda kind=kind: watches(standby, kind), f"the standby watches {kind}")
    assert until(lambda: pair.space.get("lease", "taskfleet-operator"), "a Lease")["spec"]["leaseDurationSeconds"] == 15


@pytest.mark.timeout(300)
def test_both_are_alive_and_ready_and_their_figures_say_who_leads(pair: Pair, manifest: Manifest) -> None:
    leader, standby = both(pair, manifest)
    for member in (leader, standby):
        until(lambda member=member: member.probe("/readyz") == 200, f"{member.name} is ready")
        assert member.probe("/healthz") == 200
        until(lambda member=member: member.figure("taskfleet_operator_taskqueues") == 1, "it knows the TaskQueue")
        assert member.figure('taskfleet_operator_informer_lists_total{kind="TaskQueue"}') >= 1
    assert leader.figure("taskfleet_operator_leader") == 1
    assert standby.figure("taskfleet_operator_leader") == 0
    assert leader.figure('taskfleet_operator_api_calls_total{code="201",verb="create"}') > 0
    labels = f'{{name="orders",namespace="{pair.space.name}"}}'
    until(lambda: leader.figure("taskfleet_operator_redis_reads_total") > 1, "Redis is read")
    until(lambda: leader.figure(f"taskfleet_operator_desired_replicas{labels}") == 1, "the decision is a figure")
    until(lambda: leader.figure('taskfleet_operator_decision_lag_seconds_bucket{le="+Inf"}') > 0, "and its lag is one")
    pair.space("delete", "tq", "orders")
    until(lambda: "orders" not in _page(leader), "its figures go with it")


def _page(member: Member) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{member.metrics}/metrics", timeout=30) as response:
        text: str = response.read().decode()
    return text


@pytest.mark.timeout(300)
def test_shards_lead_side_by_side_and_serve_their_own_taskqueues(pair: Pair, manifest: Manifest) -> None:
    for name, shard in (("orders", "a"), ("mail", "b")):
        one = copy.deepcopy(manifest)
        one["metadata"] |= {"name": name, "labels": {"shard": shard}}
        one["spec"]["redis"]["keyPrefix"] += shard
        pair.space.apply(one)
    pair.start("op-a", "--watch-selector", "shard=a")
    pair.start("op-b", "--watch-selector", "shard!=a")
    for name in ("orders", "mail"):
        until(lambda name=name: pair.space.get("deployment", f"{name}-worker"), f"{name} is served", seconds=90)
    leases = pair.space.kubectl.json("get", "lease", "--namespace", pair.space.name)["items"]
    assert {one["spec"]["holderIdentity"].partition("_")[0] for one in leases} == {"op-a", "op-b"}
    for write in pair.writes:
        if not write.of_lease and write.method != "POST":
            assert ("orders" in write.path) == (write.by == "op-a"), write
    # A TaskQueue that is given to the other shard is left by one and taken by the other, with its workers.
    uid = pair.space.get("deployment", "orders-worker")["metadata"]["uid"]
    pair.space("label", "tq", "orders", "shard=b", "--overwrite")
    tag = secrets.token_hex(3)
    set_image(pair.space, tag)
    until(lambda: has_image(pair.space, tag), "the other shard acts", seconds=HANGS_SECONDS)
    assert pair.space.get("deployment", "orders-worker")["metadata"]["uid"] == uid
    last = [write for write in pair.writes if "deployments/orders-worker" in write.path][-1]
    assert last.by == "op-b"


@pytest.mark.timeout(300)
def test_a_killed_leader_is_followed(pair: Pair, manifest: Manifest) -> None:
    leader, standby = both(pair, manifest)
    leader.process.kill()
    took = acts(pair.space)
    print(f"killed: the standby acted after {took:.1f} s")
    assert pair.holder() == standby.name


@pytest.mark.timeout(300)
def test_a_leader_that_is_told_to_end_hands_over(pair: Pair, manifest: Manifest) -> None:
    leader, standby = both(pair, manifest)
    leader.process.send_signal(signal.SIGTERM)
    took = acts(pair.space)
    print(f"SIGTERM: the standby acted after {took:.1f} s")
    held = [
        (one.by, one.body["spec"].get("holderIdentity")) for one in pair.writes if one.of_lease and one.status < 300
    ]
    assert (leader.name, None) in held, "nobody had to wait for the end of its Lease"
    assert pair.holder() == standby.name
    assert leader.process.wait(60) == 0


@pytest.mark.timeout(400)
def test_a_leader_that_was_stopped_for_30_seconds_writes_nothing_late(pair: Pair, manifest: Manifest) -> None:
    leader, standby = both(pair, manifest)
    with Churn(pair.space):
        until(lambda: sum(write.by == leader.name for write in pair.writes) > 20, "the leader is at work")
        stopped = time.monotonic()
        leader.process.send_signal(signal.SIGSTOP)
        until(lambda: pair.holder() == standby.name, "the standby leads", seconds=HANGS_SECONDS)
        until(lambda: time.monotonic() > stopped + 30, "30 s", seconds=40)
        leader.process.send_signal(signal.SIGCONT)
        until(lambda: leader.said("no longer leads"), "it knows")
        pair.goes_on(20)
    assert pair.holder() == standby.name


@pytest.mark.timeout(400)
def test_a_leader_that_is_cut_off_stops_before_the_other_begins(pair: Pair, manifest: Manifest) -> None:
    leader, standby = both(pair, manifest)
    with Churn(pair.space):
        until(lambda: sum(write.by == leader.name for write in pair.writes) > 20, "the leader is at work")
        cut = time.monotonic()
        leader.proxy.cut()
        until(lambda: leader.said("no longer leads"), "it stops by itself", seconds=HANGS_SECONDS)
        until(lambda: pair.holder() == standby.name, "the standby leads", seconds=HANGS_SECONDS)
        acquired = dt.datetime.fromisoformat(pair.space.get("lease", "taskfleet-operator")["spec"]["acquireTime"])
        assert leader.said_at("no longer leads") < acquired, "it has stopped before the other began"
        until(lambda: time.monotonic() > cut + 30, "30 s", seconds=40)
        leader.proxy.mend()
        pair.goes_on(20)
    assert pair.holder() == standby.name
    standby.process.send_signal(signal.SIGTERM)
    until(lambda: pair.holder() == leader.name, "the mended one follows", seconds=HANGS_SECONDS)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "edit",
    [
        {"spec": {"holderIdentity": "somebody"}},
        {"spec": {"holderIdentity": None}},
        {"spec": {"leaseDurationSeconds": 1, "renewTime": "2001-01-01T00:00:00.000000Z"}},
        None,
    ],
    ids=["another holder", "no holder", "a short duration", "deleted"],
)
def test_a_hand_on_the_lease_gives_no_two_writers(pair: Pair, manifest: Manifest, edit: dict[str, Any] | None) -> None:
    both(pair, manifest)
    with Churn(pair.space):
        for _ in range(3):
            if edit is None:
                pair.space("delete", "lease", "taskfleet-operator")
            else:
                pair.space("patch", "lease", "taskfleet-operator", "--type=merge", "-p", json.dumps(edit))
            until(lambda: pair.holder() in pair.members, "one of them holds it again", seconds=HANGS_SECONDS)
            pair.goes_on(6)
