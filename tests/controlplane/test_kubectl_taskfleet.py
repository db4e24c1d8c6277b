"""`kubectl taskfleet` on a real API server: through its proxy, with the rights of who calls it, to a real dashboard.

The chart's roles and accounts are applied as they are rendered. Its pod is a process of this machine, which the API
server reaches at an address other than loopback, since it proxies to no loopback address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.cluster import binaries
from e2e.cluster.kubectl import ClusterCommand, CommandError, wait_until

from taskfleet.child_process import ends_with_this_process
from taskfleet.history import record_decision
from taskfleet.redis.broker import RedisBroker
from taskfleet_operator.kubectl.cluster import ClusterAccess
from taskfleet_operator.scaling.decision_notes import record_of
from tests.controlplane.test_chart import helm, is_allowed, objects, render  # noqa: F401 - a fixture
from tests.engine.test_decision_history import looks
from tests.support import requirements
from tests.support.manifests import GOOD
from tests.support.redis_server import RedisServer

APP = """
from taskfleet import TaskQueue

queue = TaskQueue.from_config(queues=["default", "mail"])

@queue.task
async def work() -> None: ...

@queue.task(max_retries=0)
async def fail() -> None:
    raise ValueError("no such address")
"""
PLUGIN = "from taskfleet_operator.kubectl import main; main()"
NAME = "tf-taskfleet-dashboard"


@dataclass
class Done:
    code: int
    out: str
    err: str


@dataclass
class Place:
    """A dashboard in a namespace, and the kubeconfigs of people."""

    namespace: str
    kubectl: ClusterCommand
    admin: Path
    folder: Path
    environment: dict[str, str]
    kubeconfigs: dict[str, Path] = field(default_factory=dict[str, Path])

    def kubeconfig(self, token: str, name: str) -> Path:
        known = yaml.safe_load(self.admin.read_text())
        known["users"][0]["user"] = {"token": token}
        known["contexts"][0]["context"]["namespace"] = self.namespace
        made = self.folder / f"{name}.kubeconfig"
        made.write_text(yaml.safe_dump(known))
        return made

    def run(self, user: str, *words: str) -> Done:
        """Run the plugin as that person."""
        found = subprocess.run(
            [sys.executable, "-c", PLUGIN, *words], env=self.environment | {"KUBECONFIG": str(self.kubeconfigs[user])},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert "Traceback" not in found.stderr, found.stderr
        assert all(len(line) <= 80 for line in found.stdout.splitlines()) or "-o" in words, found.stdout
        return Done(found.returncode, found.stdout, found.stderr)

    def says(self, user: str, *words: str) -> str:
        done = self.run(user, *words)
        assert done.code == 0, done.err
        return done.out

    def answer(self, user: str, *words: str) -> Any:
        return json.loads(self.says(user, *words, "-o", "json"))


def address_of_this_machine() -> str:
    """One that is not loopback; empty where there is none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # sends nothing
        found = str(probe.getsockname()[0])
        return "" if found.startswith("127.") else found
    return ""


@pytest.fixture(scope="module")
def place(
    pytestconfig: pytest.Config, crd: None, kubectl: ClusterCommand, control_plane: Path, helm: ClusterCommand,  # noqa: F811
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:  # fmt: skip
    address = address_of_this_machine()
    if not address:
        requirements.cannot_run(pytestconfig, "control plane", "this machine has no address beside loopback")
    folder = tmp_path_factory.mktemp("plugin")
    namespace = f"test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", namespace)
    wait_until(kubectl, "get", "serviceaccount", "default", "--namespace", namespace)
    prefix = f"test-{secrets.token_hex(4)}"
    environment = os.environ | {
        "REDIS_URL": redis_server.url, "TASKFLEET_REDIS__KEY_PREFIX": prefix, "COLUMNS": "80", "NO_COLOR": "1",
        "PYTHONPATH": f"{folder}:{':'.join(map(os.path.abspath, sys.path))}",
    }  # fmt: skip
    place = Place(namespace, kubectl, control_plane, folder, environment)
    people = {
        "viewers": [{"kind": "ServiceAccount", "name": "vera", "namespace": namespace}],
        "editors": [{"kind": "ServiceAccount", "name": "erik", "namespace": namespace}],
    }
    values = {"dashboard": {"enabled": True, "redis": {"url": redis_server.url}, **people}}
    rendered = [one for one in objects(render(helm, namespace, values)) if one["metadata"]["name"].find(NAME) >= 0]
    container = next(one for one in rendered if one["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][
        0
    ]
    kept = [one for one in rendered if one["kind"] != "Deployment"]
    for one in kept:
        if one["kind"] == "Service":
            del one["spec"]["selector"]  # its endpoint is not a pod
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": kept}))
    for person in ("vera", "erik", "nora"):
        kubectl("create", "serviceaccount", person, "--namespace", namespace)
        token = kubectl("create", "token", person, "--namespace", namespace).strip()
        place.kubeconfigs[person] = place.kubeconfig(token, person)
    admin = yaml.safe_load(control_plane.read_text())["users"][0]["user"]["token"]
    place.kubeconfigs["admin"] = place.kubeconfig(admin, "admin")
    own = place.kubeconfig(kubectl("create", "token", NAME, "--namespace", namespace).strip(), "dashboard")
    options = container["args"][container["args"].index("--kubernetes-access") :]
    granted = [
        ("create", "authentication.k8s.io/tokenreviews"),
        ("create", "authorization.k8s.io/subjectaccessreviews"),
    ]
    account = f"system:serviceaccount:{namespace}:{NAME}"
    deadline = time.monotonic() + 60
    while not all(is_allowed(kubectl, account, namespace, verb, what) for verb, what in granted):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with (folder / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", "dashboard", "--host", address, "--port", "0", *options],
            env=environment | {"KUBECONFIG": str(own)}, stdout=subprocess.PIPE, stderr=log,
            preexec_fn=ends_with_this_process(), text=True,
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("dashboard: "), (folder / "dashboard.log").read_text()
        # The API server proxies to nothing but addresses of pods: this one has that of the process, and never runs.
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dashboard", "namespace": namespace},
            "spec": {"containers": [{"name": "dashboard", "image": "none"}]},
        }  # fmt: skip
        kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        status = json.dumps({"status": {"podIP": address, "podIPs": [{"ip": address}]}})
        kubectl("patch", "pod", "dashboard", "--namespace", namespace, "--subresource=status", "-p", status)
        target = {"kind": "Pod", "name": "dashboard", "namespace": namespace}
        ports = [{"name": "http", "port": int(line.strip().rpartition(":")[2])}]
        endpoints = {
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": NAME, "namespace": namespace},
            "subsets": [{"addresses": [{"ip": address, "targetRef": target}], "ports": ports}],
        }  # fmt: skip
        kubectl("apply", "-f", "-", stdin=json.dumps(endpoints))
        (folder / "tasks.py").write_text(APP)
        until = time.monotonic() + 60
        while (done := place.run("admin", "queues")).code:
            assert time.monotonic() < until, done.err
        for queue in ("default", "mail"):
            enqueue(place, "work", "--queue", queue)
        yield place
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
    kubectl("delete", "namespace", namespace, "--wait=false")
    for kind in ("clusterrole", "clusterrolebinding"):
        kubectl("delete", kind, f"{namespace}:{NAME}")


@pytest.fixture
def worker(place: Place) -> Iterator[str]:
    """The name of a worker of `default` and `mail`."""
    name = f"orders-{secrets.token_hex(3)}"
    with subprocess.Popen(
        [sys.executable, "-m", "taskfleet", "worker", "tasks:queue"], cwd=place.folder,
        env=place.environment | {"TASKFLEET_WORKER_NAME": name, "TASKFLEET_WORKERS__HEARTBEAT_INTERVAL": "0.3"},
        preexec_fn=ends_with_this_process(), stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        until = time.monotonic() + 60
        while not (rows := place.answer("admin", "workers")["items"]):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < until
        yield rows[0]["name"]
        process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 60
    while place.answer("admin", "workers")["items"]:
        assert time.monotonic() < until


def enqueue(place: Place, *words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "taskfleet", "enqueue", *words, "--app", "tasks:queue"], cwd=place.folder,
        env=place.environment, check=True, capture_output=True, timeout=120,
    )  # fmt: skip


def test_a_viewer_looks_and_cannot_pause_and_an_editor_can(place: Place, worker: str) -> None:
    assert "default" in place.says("vera", "queues", "--dashboard", NAME)
    assert "1 idle" in place.says("vera", "top", "--dashboard", NAME)
    assert worker in place.says("vera", "workers", "--dashboard", NAME)
    refused = place.run("vera", "pause", "default", "--dashboard", NAME)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"taskfleet: you may not change anything through the dashboard {place.namespace}/{NAME}: ask for the Role "
        f"{NAME}-user-edit, or name another with --dashboard\n"
    )
    assert place.says("erik", "pause", "default", "--dashboard", NAME) == "queue default paused\n"

    def state() -> str:
        rows = place.answer("vera", "queues", "--dashboard", NAME)["items"]
        return next(row["state"] for row in rows if row["name"] == "default")

    until = time.monotonic() + 60
    while state() != "paused":  # the dashboard reads once for all who look
        assert time.monotonic() < until
    assert place.answer("erik", "resume", "default", "--dashboard", NAME)["changed"] is True


def test_the_dashboard_itself_refuses_a_viewers_token(place: Place, worker: str) -> None:
    """Should the rule of the proxy be too wide: the dashboard asks again."""
    account = ("--service-account", f"{place.namespace}/{NAME}-view", "--dashboard", f"{place.namespace}/{NAME}")
    refused = place.run("erik", "pause", "default", *account)
    assert (refused.code, refused.err) == (1, "taskfleet: you may look and not change anything here\n")


def test_who_has_no_role_is_told_which_one_to_ask_for(place: Place) -> None:
    refused = place.run("nora", "queues", "--dashboard", NAME)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert f"ask for the Role {NAME}-user-view" in refused.err


def test_the_record_of_changes_names_the_account_and_who_says_to_use_it(place: Place, worker: str) -> None:
    place.says("erik", "pause", "mail", "--dashboard", NAME)
    place.says("erik", "resume", "mail", "--dashboard", NAME)
    cluster = ClusterAccess.connect(str(place.kubeconfigs["admin"]))
    from taskfleet_operator.kubectl.dashboard import find

    users = {row["user"] for row in find(cluster, NAME).get("audit")["items"] if row["subject"] == "queue mail"}
    mine = f"system:serviceaccount:{place.namespace}"
    assert users == {f"{mine}:{NAME}-edit, who says to be {mine}:erik"}


def test_a_token_for_the_dashboard_is_of_no_use_at_the_api_server(place: Place) -> None:
    token = place.kubectl(
        "create", "token", f"{NAME}-edit", "--namespace", place.namespace, "--duration=10m",
        f"--audience=taskfleet-dashboard:{place.namespace}/{NAME}",
    ).strip()  # fmt: skip
    stolen = ClusterAccess.connect(str(place.kubeconfig(token, "stolen")))
    assert stolen.call("GET", f"/api/v1/namespaces/{place.namespace}/pods").status == 401
    account = f"system:serviceaccount:{place.namespace}:{NAME}-edit"
    assert is_allowed(place.kubectl, account, place.namespace, "update", "taskfleet.io/taskqueues/dashboard")
    for verb, what in (("get", "taskfleet.io/taskqueues"), ("update", "taskfleet.io/taskqueues"), ("get", "/secrets")):
        assert not is_allowed(place.kubectl, account, place.namespace, verb, what), (verb, what)
    dashboard = f"system:serviceaccount:{place.namespace}:{NAME}"
    for verb, what in (("get", "/secrets"), ("list", "/pods"), ("get", "taskfleet.io/taskqueues")):
        assert not is_allowed(place.kubectl, dashboard, place.namespace, verb, what), (verb, what)


def test_a_token_for_another_dashboard_is_of_no_use_at_this_one(place: Place) -> None:
    admin = ClusterAccess.connect(str(place.kubeconfigs["admin"]))
    path = f"/api/v1/namespaces/{place.namespace}/services/{NAME}:http/proxy/api/session"

    def status(audience: str) -> int:
        token = place.kubectl(
            "create", "token", f"{NAME}-edit", "--namespace", place.namespace, f"--audience={audience}"
        ).strip()
        return admin.call("GET", path, headers={"X-Taskfleet-Token": token}).status

    assert status(f"taskfleet-dashboard:{place.namespace}/{NAME}") == 200
    assert status(f"taskfleet-dashboard:elsewhere/{NAME}") == 401
    # The reason for a header of its own: the administrator's `Authorization` has not come through the proxy.
    without = admin.call("GET", path)
    assert (without.status, without.body["error"][:36]) == (401, "log in with a token of Kubernetes: k")


def test_ones_own_token_gives_ones_own_rights(place: Place, worker: str) -> None:
    name = ("--dashboard", NAME, "--own-token")
    assert "default" in place.says("admin", "queues", *name)
    refused = place.run("vera", "queues", *name)
    assert refused.code == 1
    assert "may not get taskqueues.taskfleet.io" in refused.err


def test_a_worker_is_cordoned_drained_and_uncordoned(place: Place, worker: str) -> None:
    name = ("--dashboard", NAME)
    assert place.says("erik", "drain", f"pod/{worker}", *name) == f"worker {worker} drained\n"
    assert place.answer("vera", "workers", *name)["items"][0]["state"] == "drained"
    assert place.says("erik", "uncordon", worker, *name) == f"worker {worker} uncordoned\n"
    assert place.says("erik", "cordon", worker, *name) == f"worker {worker} cordoned\n"
    assert place.answer("erik", "uncordon", worker, *name)["changed"] is True
    wrong = place.run("erik", "cordon", f"{worker}x", *name)
    assert (wrong.code, wrong.err.count("\n")) == (1, 1)
    assert f"there is no worker '{worker}x'; known: {worker} (did you mean '{worker}'?)" in wrong.err


def test_dead_letters_are_listed_requeued_discarded_and_brought_back(place: Place, worker: str) -> None:
    name = ("--dashboard", NAME)

    def letters(count: int) -> list[dict[str, Any]]:
        until = time.monotonic() + 60
        while len(items := place.answer("vera", "dead", "list", *name)["items"]) != count:
            assert time.monotonic() < until, items
        return list(items)

    enqueue(place, "fail")
    (letter,) = letters(1)
    assert "no such address" in place.says("vera", "dead", "show", letter["id"], *name)
    assert place.says("erik", "dead", "requeue", letter["id"], *name) == "1 dead letter requeued\n"
    (letter,) = letters(1)
    done = place.run("erik", "dead", "discard", "--queue", letter["queue"], *name)
    assert (done.code, done.out) == (1, "")
    assert "say yes with --yes" in done.err
    done = place.run("erik", "dead", "discard", "--queue", letter["queue"], "--yes", *name)
    assert (done.code, done.out) == (0, "1 dead letter discarded\n")
    letters(0)
    job = done.err.strip().rpartition(" ")[2]
    assert place.says("erik", "dead", "undo", job, *name) == f"job {job}: undone\n"
    letters(1)
    place.says("erik", "dead", "discard", "--yes", *name)


def test_errors_are_one_line_with_what_to_do(place: Place, worker: str) -> None:
    for words, code, line in (
        (("pause", "defualt", "--dashboard", NAME), 1, "(did you mean 'default'?)"),
        (("queues", "--dashboard", "nothing"), 1, "name it with --dashboard NAMESPACE/NAME"),
        (("queues", "--context", "elsewhere"), 2, "there is no context 'elsewhere'; known: "),
        (("queues", "--kubeconfig", "/nothing"), 2, "the kubeconfig cannot be used"),
        (("queue",), 2, "Did you mean 'queues'?"),
        (("dead", "show", "nothing", "--dashboard", NAME), 1, "task nothing is not known"),
        (("explain", "nothing"), 1, "there is no TaskQueue in namespace"),
    ):
        done = place.run("admin", *words)
        assert (done.code, done.err.count("\n"), done.out) == (code, 1, ""), (words, done)
        assert line in done.err, (words, done.err)


def test_explain_answers_from_the_status_when_there_is_no_dashboard(place: Place) -> None:
    manifest = GOOD | {"metadata": {"name": "orders", "namespace": place.namespace}}
    place.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    decided = {
        "time": "2026-01-31T12:00:00Z", "from": 2, "to": 6, "reason": "DrainTime", "message": "12 slots are needed",
        "limitedBy": "TooManyReplicas",
    }  # fmt: skip
    status = {"replicas": 5, "desiredReplicas": 6, "totalBacklog": 1200, "autoscaler": {"lastDecision": decided}}
    place.kubectl(
        "patch", "tq", "orders", "--namespace", place.namespace, "--subresource=status", "--type=merge", "-p",
        json.dumps({"status": status}),
    )  # fmt: skip
    done = place.run("admin", "explain", "orders", "--dashboard", "nothing")
    assert done.code == 0
    assert done.err.startswith("taskfleet: from the status of the TaskQueue alone: there is no dashboard")
    assert done.out.startswith(f"{place.namespace}/orders: 5 workers, 6 wanted (decided ")
    text = " ".join(done.out.split())
    for part in ("from 2 to 6", "(12 slots are needed)", "Limit: maxReplicas does not allow more", "1200 ready tasks",
                 "A larger maxReplicas would allow more."):  # fmt: skip
        assert part in text, text
    answer = place.answer("admin", "explain", "orders", "--dashboard", "nothing")
    assert (answer["source"], answer["desired"]) == ("status", 6)
    assert "did you mean 'orders'?" in place.run("admin", "explain", "ordres").err


async def test_explain_has_the_terms_of_the_last_decision(place: Place) -> None:
    broker = RedisBroker.from_url(
        place.environment["REDIS_URL"], prefix=place.environment["TASKFLEET_REDIS__KEY_PREFIX"]
    )
    for look in looks(3):
        record = record_of(look, look.decision, with_state=True)
        await record_decision(broker, f"{place.namespace}/mails", record, busy=1)
        await asyncio.sleep(0.002)
    await broker.close()
    text = " ".join(place.says("vera", "explain", "mails", "--dashboard", NAME).split())
    assert text.startswith(f"{place.namespace}/mails: ")
    for part in (
        "workers",
        "wanted (decided ",
        "ready tasks",
        "tasks that arrive in a second",
        "Limit: ",
        "maxReplicas 20",
    ):
        assert part in text, text
    answer = place.answer("vera", "explain", "mails", "--dashboard", NAME)
    assert (answer["source"], answer["name"]) == ("dashboard", f"{place.namespace}/mails")
    assert {line["name"] for line in answer["lines"]} >= {"backlog", "arrivals_per_second"}


def test_kubectl_finds_the_command_and_its_completion(place: Place, worker: str) -> None:
    folder = place.folder / "bin"
    folder.mkdir(exist_ok=True)
    for name, function in (("kubectl-taskfleet", "main"), ("kubectl_complete-taskfleet", "complete")):
        script = folder / name
        script.write_text(f"#!{sys.executable}\nfrom taskfleet_operator.kubectl import {function}\n{function}()\n")
        script.chmod(0o755)
    environment = place.environment | {
        "KUBECONFIG": str(place.kubeconfigs["admin"]), "PATH": f"{folder}:{os.environ['PATH']}",
    }  # fmt: skip
    kubectl = str(binaries.ensure("kubectl")["kubectl"])

    def run(*words: str) -> str:
        return subprocess.run([kubectl, *words], env=environment, capture_output=True, text=True, check=True).stdout

    assert "default" in run("taskfleet", "queues", "--dashboard", NAME)
    assert "pause\n" in run("__complete", "taskfleet", "pa")
    assert "default\n" in run("__complete", "taskfleet", "pause", "--dashboard", NAME, "")
    assert f"{worker}\n" in run("__complete", "taskfleet", "cordon", "--dashboard", NAME, "")


def test_without_a_grant_of_the_chart_there_is_none(helm: ClusterCommand, namespace: str) -> None:  # noqa: F811
    """By default nobody but administrators reaches it: the roles for people are bound to nobody."""
    values = {"dashboard": {"enabled": True, "redis": {"url": "redis://redis"}}}
    bound = [
        one["metadata"]["name"] for one in objects(render(helm, namespace, values)) if one["kind"] == "RoleBinding"
    ]
    assert not [name for name in bound if "-user-" in name]
    assert [name for name in bound if NAME in name]


@pytest.mark.parametrize(
    ("redis", "line"),
    [
        ({}, "give the url of the Redis, or urlSecretRef"),
        ({"url": "redis://a", "urlSecretRef": {"name": "a", "key": "b"}}, "give url or urlSecretRef, not both"),
        ({"urlSecretRef": {"name": "a"}}, "give the name of the secret and its key"),
        ({"url": "redis://u:secret@redis"}, "a password belongs into a secret"),
    ],
)
def test_a_dashboard_without_a_usable_redis_is_refused(
    helm: ClusterCommand,  # noqa: F811
    namespace: str,
    redis: dict[str, Any],
    line: str,
) -> None:
    with pytest.raises(CommandError, match=line):
        render(helm, namespace, {"dashboard": {"enabled": True, "redis": redis}})


def test_the_api_server_takes_the_dashboard_with_every_value_set(
    helm: ClusterCommand,  # noqa: F811
    kubectl: ClusterCommand,
    namespace: str,
) -> None:
    ref = {"name": "redis", "key": "x"}
    values = {
        "enabled": True, "replicas": 2, "namespace": "default", "viewers": [{"kind": "Group", "name": "developers"}],
        "editors": [{"kind": "User", "name": "erik"}], "readOnly": True, "mask": ["password"],
        "redis": {"urlSecretRef": ref, "username": "u", "passwordSecretRef": ref, "caSecretRef": ref, "keyPrefix": "p"},
        "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}], "egress": [{"ports": [{"port": 6379}]}]},
        "podAnnotations": {"a": "b"}, "podLabels": {"a": "b"}, "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}], "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical", "extraEnv": [{"name": "A", "value": "b"}],
        "service": {"port": 8080, "annotations": {"a": "b"}},
    }  # fmt: skip
    applied = kubectl("apply", "--dry-run=server", "-f", "-", stdin=render(helm, namespace, {"dashboard": values}))
    for name in (f"deployment.apps/{NAME}", f"service/{NAME}", f"networkpolicy.networking.k8s.io/{NAME}",
                 f"rolebinding.rbac.authorization.k8s.io/{NAME}-user-edit", f"serviceaccount/{NAME}-view"):  # fmt: skip
        assert name in applied
