"""Every field of the resource has an effect, and a test that shows it. A new field fails here until it has both.

Fields that workers read are set in a manifest, and the settings that a worker makes of its pod's environment are looked
at. Fields that shape the children are looked at in the children. For a field of a decision the table names its test.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskfleet import config
from taskfleet.settings import Settings
from taskfleet_operator.children import children_of
from taskfleet_operator.resource.field_tables import fields_below, schema_at
from taskfleet_operator.resource.manifest import parse
from tests.support.manifests import REF, REMOVE, changed

ROOT = Path(__file__).parents[3]
FIELDS = [path for path, _, _ in fields_below(schema_at("spec"))]
Children = dict[str, dict[str, Any]]
R, W, Q = "spec.redis", "spec.worker", "spec.queues.0"
TLS = {"mode": "Enabled", "caSecretRef": REF, "clientCertSecretName": "client", "serverName": "redis.example"}
SENTINEL = {"masterName": "mymaster", "addresses": ["s0:26379", "[::1]:26379"], "passwordSecretRef": REF}
BY_SENTINEL = {R: {"mode": "Sentinel", "sentinel": SENTINEL}}
BY_CLUSTER = {R: {"mode": "Cluster", "cluster": {"addresses": ["c0:6379", "c1:6379"]}}}
LIMIT = {"tasksPerSecond": 5, "burst": 9}


def built(changes: dict[str, Any]) -> Children:
    return {child["kind"]: child for child in children_of(parse(changed(changes), "orders.yaml"))}


def pod(children: Children) -> dict[str, Any]:
    found: dict[str, Any] = children["Deployment"]["spec"]["template"]["spec"]
    return found


def argument(children: Children, option: str) -> str:
    arguments = pod(children)["containers"][0]["args"]
    return str(arguments[arguments.index(option) + 1])


def mounted(children: Children, file: str) -> tuple[str, str]:
    """Secret and key of a file in the container."""
    folder, _, name = file.rpartition("/")
    (mount,) = [one for one in pod(children)["containers"][0]["volumeMounts"] if one["mountPath"] == folder]
    (volume,) = [one for one in pod(children)["volumes"] if one["name"] == mount["name"]]
    assert mount["readOnly"]
    (item,) = [one for one in volume["secret"]["items"] if one["path"] == name]
    return volume["secret"]["secretName"], item["key"]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[Children], Settings]:
    """The settings that a worker makes of the environment of its pod."""

    def settings(children: Children) -> Settings:
        for entry in pod(children)["containers"][0]["env"]:
            if "value" in entry:
                monkeypatch.setenv(entry["name"], entry["value"])
            elif "secretKeyRef" in entry["valueFrom"]:
                monkeypatch.setenv(entry["name"], "redis://of.a.secret:6379/0")
        monkeypatch.setenv("TASKFLEET_QUEUES", children["ConfigMap"]["data"]["queues.json"])
        return config.from_environment()

    return settings


IN_A_WORKER: dict[str, tuple[dict[str, Any], Callable[[Settings], object], object]] = {
    "redis.mode": (BY_CLUSTER, lambda it: it.redis.cluster_addresses, ("c0:6379", "c1:6379")),
    "redis.url": ({f"{R}.url": "redis://r:6380/2"}, lambda it: it.redis.url, "redis://r:6380/2"),
    "redis.urlSecretRef": (
        {f"{R}.url": REMOVE, f"{R}.urlSecretRef": REF},
        lambda it: it.redis.url,
        "redis://of.a.secret:6379/0",
    ),
    "redis.auth.username": ({f"{R}.auth": {"username": "worker"}}, lambda it: it.redis.username, "worker"),
    "redis.sentinel.masterName": (BY_SENTINEL, lambda it: it.redis.sentinel_master, "mymaster"),
    "redis.sentinel.addresses": (
        BY_SENTINEL,
        lambda it: it.redis.sentinel_addresses,
        ("s0:26379", "[::1]:26379"),
    ),
    "redis.cluster.addresses": (BY_CLUSTER, lambda it: it.redis.cluster_addresses, ("c0:6379", "c1:6379")),
    "redis.tls.mode": ({f"{R}.tls": {"mode": "Enabled"}}, lambda it: it.redis.tls, True),
    "redis.tls.serverName": ({f"{R}.tls": TLS}, lambda it: it.redis.tls_server_name, "redis.example"),
    "redis.keyPrefix": ({f"{R}.keyPrefix": "shop"}, lambda it: it.redis.key_prefix, "shop"),
    "redis.poolSize": ({f"{R}.poolSize": 20}, lambda it: it.redis.pool_size, 20),
    "redis.connectTimeoutSeconds": ({f"{R}.connectTimeoutSeconds": 7}, lambda it: it.redis.connection_timeout, 7),
    "redis.commandTimeoutSeconds": ({f"{R}.commandTimeoutSeconds": 8}, lambda it: it.redis.command_timeout, 8),
    "worker.drainTimeoutSeconds": (
        {f"{W}.drainTimeoutSeconds": 99},
        lambda it: it.workers.shutdown_grace_period,
        99,
    ),
    "scheduler.mode": ({"spec.scheduler": {"mode": "Disabled"}}, lambda it: it.scheduler.enabled, False),
}

FILES: dict[str, tuple[dict[str, Any], Callable[[Settings], Path | None], tuple[str, str]]] = {
    "redis.auth.passwordSecretRef": (
        {f"{R}.auth": {"passwordSecretRef": REF}},
        lambda it: it.redis.password_file,
        ("orders-redis", "url"),
    ),
    "redis.sentinel.passwordSecretRef": (
        BY_SENTINEL,
        lambda it: it.redis.sentinel_password_file,
        ("orders-redis", "url"),
    ),
    "redis.tls.caSecretRef": ({f"{R}.tls": TLS}, lambda it: it.redis.tls_ca_file, ("orders-redis", "url")),
    "redis.tls.clientCertSecretName": ({f"{R}.tls": TLS}, lambda it: it.redis.tls_key_file, ("client", "tls.key")),
}

OF_A_QUEUE: dict[str, tuple[str, object, Callable[[Any], object]]] = {
    "name": ("name", "other", lambda it: it.name),
    "priority": ("priority", 3, lambda it: it.priority),
    "weight": ("weight", 3, lambda it: it.weight),
    "leaseSeconds": ("leaseSeconds", 31, lambda it: it.lease_seconds),
    "maxDeliveries": ("maxDeliveries", 3, lambda it: it.max_deliveries),
    "maxLength": ("maxLength", 3, lambda it: it.max_length),
    "partitions": ("partitions", 3, lambda it: it.partitions),
    "rateLimit.tasksPerSecond": ("rateLimit", LIMIT, lambda it: it.rate_limit.tasks_per_second),
    "rateLimit.burst": ("rateLimit", LIMIT, lambda it: it.rate_limit.burst),
    "rateLimitPerKey.tasksPerSecond": ("rateLimitPerKey", LIMIT, lambda it: it.rate_limit_per_key.tasks_per_second),
    "rateLimitPerKey.burst": ("rateLimitPerKey", LIMIT, lambda it: it.rate_limit_per_key.burst),
    "concurrency": ("concurrency", 3, lambda it: it.concurrency),
    "concurrencyPerKey": ("concurrencyPerKey", 3, lambda it: it.concurrency_per_key),
    "deadLetter.maxLength": ("deadLetter", {"maxLength": 3, "ttlSeconds": 4}, lambda it: it.dead_letter.max_length),
    "deadLetter.ttlSeconds": ("deadLetter", {"maxLength": 3, "ttlSeconds": 4}, lambda it: it.dead_letter.ttl_seconds),
}

UPDATE = {"rollingUpdate": {"maxSurge": "30%", "maxUnavailable": 2}}


def _rolling(children: Children) -> Any:
    return children["Deployment"]["spec"]["strategy"]["rollingUpdate"]


def _metadata(what: str) -> Callable[[Children], object]:
    return lambda children: {child["metadata"].get(what, {}).get("team") for child in children.values()}


IN_THE_CHILDREN: dict[str, tuple[dict[str, Any], Callable[[Children], object], object]] = {
    "worker.image": ({f"{W}.image": "other:2"}, lambda it: pod(it)["containers"][0]["image"], "other:2"),
    "worker.app": ({f"{W}.app": "other:queue"}, lambda it: pod(it)["containers"][0]["args"][1], "other:queue"),
    "worker.concurrency": ({f"{W}.concurrency": 3}, lambda it: argument(it, "--concurrency"), "3"),
    "worker.processes": ({f"{W}.processes": 3}, lambda it: argument(it, "--processes"), "3"),
    "worker.updateStrategy.type": (
        {f"{W}.updateStrategy": {"type": "Drain"}},
        lambda it: (_rolling(it), pod(it)["readinessGates"]),
        ({"maxSurge": "100%", "maxUnavailable": 0}, [{"conditionType": "taskfleet.io/admitted"}]),
    ),
    "worker.updateStrategy.rollingUpdate.maxSurge": (
        {f"{W}.updateStrategy": UPDATE},
        lambda it: _rolling(it)["maxSurge"],
        "30%",
    ),
    "worker.updateStrategy.rollingUpdate.maxUnavailable": (
        {f"{W}.updateStrategy": UPDATE},
        lambda it: _rolling(it)["maxUnavailable"],
        2,
    ),
    "worker.podDisruptionBudget.mode": (
        {f"{W}.podDisruptionBudget": {"mode": "Disabled"}},
        lambda it: "PodDisruptionBudget" in it,
        False,
    ),
    "worker.podDisruptionBudget.maxUnavailable": (
        {f"{W}.podDisruptionBudget": {"maxUnavailable": "40%"}},
        lambda it: it["PodDisruptionBudget"]["spec"]["maxUnavailable"],
        "40%",
    ),
    "worker.topologySpread.mode": (
        {f"{W}.topologySpread": {"mode": "Disabled"}},
        lambda it: "topologySpreadConstraints" in pod(it),
        False,
    ),
    "worker.securityProfile": (
        {f"{W}.securityProfile": "ArbitraryUser"},
        lambda it: pod(it)["securityContext"],
        {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    ),
    "worker.metadata.labels": ({f"{W}.metadata.labels": {"team": "shop"}}, _metadata("labels"), {"shop"}),
    "worker.metadata.annotations": (
        {f"{W}.metadata.annotations": {"team": "shop"}},
        _metadata("annotations"),
        {"shop"},
    ),
    "worker.template": (
        {f"{W}.template": {"spec": {"nodeSelector": {"disk": "fast"}}}},
        lambda it: pod(it)["nodeSelector"],
        {"disk": "fast"},
    ),
}

STEPS, RECOMMENDATION = "tests/unit/autoscaler/test_steps.py", "tests/unit/autoscaler/test_recommendation.py"
LOOP, ORDER = "tests/unit/operator/test_scaling_loop.py", "tests/controlplane/test_operator.py"
BY_A_TEST = {
    "suspend": (STEPS, "test_suspend_and_pause_come_before_the_work"),
    "replicas": (STEPS, "test_spec_replicas_is_the_number_unless_suspended"),
    "queues[].targetLatencySeconds": (RECOMMENDATION, "test_a_queue_s_own_target_is_its_drain_time"),
    "autoscaler.mode": (ORDER, "test_modes_suspend_and_pause"),
    "autoscaler.policy": (RECOMMENDATION, "test_threshold_steps_after_equal_signals_in_a_row"),
    "autoscaler.minReplicas": (STEPS, "test_minimum_above_zero_is_kept"),
    "autoscaler.maxReplicas": (STEPS, "test_the_limits_are_the_last_word"),
    "autoscaler.pollIntervalSeconds": (LOOP, "test_looks_between_decisions_only_refresh_the_figures"),
    "autoscaler.cooldownSeconds": (STEPS, "test_only_after_the_cooldown"),
    **dict.fromkeys(
        (
            "autoscaler.threshold.scaleUpThreshold",
            "autoscaler.threshold.scaleDownThreshold",
            "autoscaler.threshold.scaleUpCount",
            "autoscaler.threshold.scaleDownCount",
            "autoscaler.threshold.consecutiveSignals",
        ),
        (RECOMMENDATION, "test_threshold_steps_after_equal_signals_in_a_row"),
    ),
    "autoscaler.target.drainSeconds": (
        RECOMMENDATION,
        "test_slots_keep_up_with_arrivals_and_drain_the_backlog_in_time",
    ),
    "autoscaler.target.utilizationPercent": (RECOMMENDATION, "test_the_message_is_the_formula_with_its_numbers"),
    "autoscaler.target.backlogPerReplica": (
        RECOMMENDATION,
        "test_without_a_history_the_backlog_per_replica_rules_as_in_keda",
    ),
    "autoscaler.target.processingTimeSeconds": (RECOMMENDATION, "test_the_message_is_the_formula_with_its_numbers"),
    "autoscaler.activation.backlog": (STEPS, "test_a_backlog_up_to_the_activation_does_not"),
    **dict.fromkeys(
        ("autoscaler.panic.mode", "autoscaler.panic.windowSeconds", "autoscaler.panic.thresholdPercent"),
        (STEPS, "test_panic_goes_up_at_once_and_holds_until_a_quiet_minute"),
    ),
    **dict.fromkeys(
        ("autoscaler.prewarm.mode", "autoscaler.prewarm.horizonSeconds"),
        (RECOMMENDATION, "test_due_work_counts_like_ready_work_unless_prewarming_is_off"),
    ),
    "autoscaler.behavior.scaleUp.stabilizationWindowSeconds": (
        STEPS,
        "test_the_fleet_grows_only_to_a_number_that_was_wanted_all_through_the_window",
    ),
    "autoscaler.behavior.scaleDown.stabilizationWindowSeconds": (
        STEPS,
        "test_the_fleet_shrinks_only_to_a_number_that_was_enough_all_through_the_window",
    ),
    **dict.fromkeys(
        ("autoscaler.behavior.scaleUp.tolerance", "autoscaler.behavior.scaleDown.tolerance"),
        (STEPS, "test_a_tenth_more_or_less_is_not_worth_moving"),
    ),
    **dict.fromkeys(
        ("autoscaler.behavior.scaleUp.selectPolicy", "autoscaler.behavior.scaleDown.selectPolicy"),
        (STEPS, "test_a_disabled_direction_is_not_taken"),
    ),
    **{
        f"autoscaler.behavior.scaleUp.policies[].{name}": (
            STEPS,
            "test_growth_is_counted_from_the_start_of_the_period",
        )
        for name in ("type", "value", "periodSeconds")
    },
    **{
        f"autoscaler.behavior.scaleDown.policies[].{name}": (
            STEPS,
            "test_shrinking_is_counted_from_the_start_of_the_period",
        )
        for name in ("type", "value", "periodSeconds")
    },
    "autoscaler.scaleDown.victimPolicy": (
        "tests/unit/autoscaler/test_draining.py",
        "test_the_platform_chooses_with_the_default_victim_policy",
    ),
    "autoscaler.scaleDown.drainTimeoutSeconds": (
        "tests/unit/autoscaler/test_draining.py",
        "test_a_draining_worker_is_marked_removed_or_given_up",
    ),
    "autoscaler.maxPendingReplicas": (STEPS, "test_no_more_pods_are_asked_for_than_may_be_pending"),
    "autoscaler.fallback.failureThreshold": (STEPS, "test_nothing_changes_until_the_failure_threshold"),
    "autoscaler.fallback.behavior": (STEPS, "test_then_the_fallback_applies"),
    "autoscaler.fallback.replicas": (STEPS, "test_then_the_fallback_applies"),
}

BY_THE_OPERATOR = ("deletionPolicy", "schedules[].", "worker.evictionProtection.")
"""Fields of which the operator makes something outside of children and decisions: their readers are looked for."""


def test_every_field_is_in_one_table() -> None:
    tables = [
        *IN_A_WORKER, *FILES, *(f"queues[].{name}" for name in OF_A_QUEUE), *IN_THE_CHILDREN, *BY_A_TEST,
        *(path for path in FIELDS if path.startswith(BY_THE_OPERATOR)),
    ]  # fmt: skip
    assert sorted(tables) == sorted(FIELDS)


@pytest.mark.parametrize("path", IN_A_WORKER)
def test_a_worker_reads_the_field(path: str, worker: Callable[[Children], Settings]) -> None:
    changes, probe, expected = IN_A_WORKER[path]
    assert probe(worker(built(changes))) == expected
    assert probe(Settings()) != expected, "the default would show nothing"


@pytest.mark.parametrize("path", FILES)
def test_a_worker_finds_the_file(path: str, worker: Callable[[Children], Settings]) -> None:
    changes, probe, source = FILES[path]
    children = built(changes)
    file = probe(worker(children))
    assert file is not None
    assert mounted(children, str(file)) == source


@pytest.mark.parametrize("name", OF_A_QUEUE)
def test_a_worker_has_the_option_of_the_queue(name: str, worker: Callable[[Children], Settings]) -> None:
    field, value, probe = OF_A_QUEUE[name]
    worker(built({f"{Q}.{field}": value}))
    given = next(iter(config.queue_options().values()))
    leaf = name.rpartition(".")[2]
    assert probe(given) == (value[leaf] if isinstance(value, dict) else value)


@pytest.mark.parametrize("path", IN_THE_CHILDREN)
def test_the_children_show_the_field(path: str) -> None:
    changes, probe, expected = IN_THE_CHILDREN[path]
    assert probe(built(changes)) == expected
    if path != "worker.template":
        assert built({}) != built(changes)


@functools.cache
def _tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@functools.cache
def _code() -> str:
    """The operator's code, without the models and their tables."""
    folder = ROOT / "operator" / "taskfleet_operator"
    return "\n".join(
        path.read_text(encoding="utf-8") for path in folder.rglob("*.py") if path.parent.name != "resource"
    )


def _is_read(path: str) -> bool:
    name = re.sub("([A-Z])", r"_\1", path.rpartition(".")[2]).lower()
    return re.search(rf"\.{name}\b", _code()) is not None


@pytest.mark.parametrize("path", BY_A_TEST)
def test_the_field_is_read_and_its_test_is_there(path: str) -> None:
    file, name = BY_A_TEST[path]
    assert name in _tests(file)
    assert _is_read(path)


@pytest.mark.parametrize("path", [path for path in FIELDS if path.startswith(BY_THE_OPERATOR)])
def test_the_operator_reads_the_field(path: str) -> None:
    assert _is_read(path)
