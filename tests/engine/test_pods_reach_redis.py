"""A worker with the arguments, variables and files of the pod that the operator makes reaches its Redis, however it is
reached, and serves the queues of the resource."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskfleet import config
from taskfleet.child_process import ends_with_this_process
from taskfleet.queue import TaskQueue
from taskfleet_operator.children import children_of
from taskfleet_operator.resource.manifest import parse
from tests.engine.conftest import until
from tests.support import requirements
from tests.support.certificates import Certificates
from tests.support.manifests import changed
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, binary_with_tls
from tests.support.redis_topologies import RedisCluster, SentinelTrio
from tests.support.sleeping_app import nap

ROOT = Path(__file__).parents[2]
Start = Callable[[dict[str, Any], dict[str, bytes]], TaskQueue]


def in_pod(redis: dict[str, Any], queues: list[str]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The pod's spec, its container, and the options of the queues."""
    manifest = changed(
        {
            "spec.redis": redis,
            "spec.queues": [{"name": name} for name in queues],
            "spec.worker.app": "tests.support.sleeping_app:queue",
            "spec.worker.drainTimeoutSeconds": 5,
        }
    )
    children = {child["kind"]: child for child in children_of(parse(manifest, "naps.yaml"))}
    pod = children["Deployment"]["spec"]["template"]["spec"]
    return pod, pod["containers"][0], children["ConfigMap"]["data"]["queues.json"]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """`start(redis, secrets)`: a worker process as in a pod, and a queue with the same settings. `secrets` are by
    `name/key`."""
    processes: list[subprocess.Popen[bytes]] = []
    queues: list[TaskQueue] = []

    def started(redis: dict[str, Any], values: dict[str, bytes], served: list[str] | None = None) -> TaskQueue:
        pod, container, options = in_pod(redis, served or ["default"])
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for mount in container["volumeMounts"]:
            secret = volumes[mount["name"]].get("secret")
            folder = tmp_path / mount["mountPath"].lstrip("/")
            folder.mkdir(parents=True)
            for item in secret["items"] if secret else ():
                (folder / item["path"]).write_bytes(values[f"{secret['secretName']}/{item['key']}"])
        for entry in container["env"]:
            value = str(entry.get("value", "")).replace("/etc/taskfleet", f"{tmp_path}/etc/taskfleet")
            if value:
                monkeypatch.setenv(entry["name"], value)
        monkeypatch.setenv("TASKFLEET_QUEUES", options)
        arguments = [*container["args"][:-1], str(free_port())]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", *container["command"], *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
                preexec_fn=ends_with_this_process(),
            )
        )
        queue = TaskQueue(settings=config.from_environment())
        queues.append(queue)
        return queue

    yield started
    for process in processes:
        process.terminate()
    for process in processes:
        await asyncio.to_thread(process.wait, 60)
    for queue in queues:
        await queue.close()


async def runs(queue: TaskQueue) -> None:
    handle = await queue.enqueue(nap.message(0.0))
    assert await handle.result(timeout=60) == 0.0


async def test_sentinels_with_a_password_of_their_own(start: Start) -> None:
    with SentinelTrio(password="watch") as trio:
        redis = {
            "mode": "Sentinel",
            "sentinel": {
                "masterName": "mymaster",
                "addresses": trio.addresses,
                "passwordSecretRef": {"name": "sentinel", "key": "pw"},
            },
        }
        await runs(start(redis, {"sentinel/pw": b"watch\n"}))


async def test_a_cluster(start: Start) -> None:
    with RedisCluster() as cluster:
        await runs(start({"mode": "Cluster", "cluster": {"addresses": cluster.addresses}}, {}))


@pytest.fixture
def tls(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[tuple[RedisServer, Certificates]]:
    program = binary_with_tls()
    if program is None:
        requirements.cannot_run(pytestconfig, "engine", "no Redis with TLS is here")
    certificates = Certificates(tmp_path, names=("redis.test",))
    server = RedisServer(program=program)
    server.tls_port = free_port()
    server.add(*certificates.options(server.tls_port))
    with server:
        yield server, certificates


async def test_tls_with_a_client_certificate_and_the_name_of_the_server(
    tls: tuple[RedisServer, Certificates], start: Start
) -> None:
    server, certificates = tls
    files = certificates.settings()
    redis = {
        "url": f"rediss://127.0.0.1:{server.tls_port}/0",
        "tls": {
            "mode": "Enabled",
            "caSecretRef": {"name": "ca", "key": "root.pem"},
            "clientCertSecretName": "client",
            "serverName": "redis.test",
        },
    }
    secrets = {
        "ca/root.pem": Path(str(files["tls_ca_file"])).read_bytes(),
        "client/tls.crt": Path(str(files["tls_cert_file"])).read_bytes(),
        "client/tls.key": Path(str(files["tls_key_file"])).read_bytes(),
    }
    await runs(start(redis, secrets))


async def test_a_password_of_an_acl_user(start: Start) -> None:
    with RedisServer() as server:
        server.call("ACL", "SETUSER", "worker", "on", ">s3cret", "~*", "&*", "+@all")
        server.call("ACL", "SETUSER", "default", "off")
        server.login = {"username": "worker", "password": "s3cret"}
        auth = {"username": "worker", "passwordSecretRef": {"name": "redis", "key": "pw"}}
        await runs(start({"url": server.url, "auth": auth}, {"redis/pw": b"s3cret\n"}))


async def test_only_the_queues_of_the_resource_are_served(server: RedisServer, start: Any) -> None:
    queue: TaskQueue = start({"url": server.url, "keyPrefix": "only-mine"}, {}, ["mine", "tenant:42"])
    other = await queue.enqueue(nap.message(0.0))  # `default`, which the application has and the resource has not
    mine = [await queue.enqueue(nap.options(queue=name).message(0.0)) for name in ("mine", "tenant:42")]
    assert [await handle.result(timeout=60) for handle in mine] == [0.0, 0.0]

    async def waits() -> bool:
        return (await queue.queue_stats("default")).ready == 1

    await until(waits, "the task of the other queue waits")
    assert await other.status() == "ready"
