"""`taskfleet keda-scaler` as a process, called over gRPC as KEDA calls it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from taskfleet import TaskQueue
from taskfleet.child_process import ends_with_this_process
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.keda import messages
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

MESSAGES: Any = messages._MESSAGES
SERVICE = "/externalscaler.ExternalScaler/"


class Keda:
    """A client with KEDA's calls."""

    def __init__(self, channel: grpc.aio.Channel, metadata: dict[str, str]) -> None:
        self.channel = channel
        self.reference = MESSAGES["ScaledObjectRef"](name="shop", namespace="team", scalerMetadata=metadata)

    async def _call(self, method: str, request: Any, reply: str, *, wait_for_ready: bool = True) -> Any:
        call: Any = self.channel.unary_unary(
            SERVICE + method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES[reply].FromString,
        )
        return await call(request, timeout=60, wait_for_ready=wait_for_ready)

    async def is_active(self, *, wait_for_ready: bool = True) -> bool:
        reply = await self._call("IsActive", self.reference, "IsActiveResponse", wait_for_ready=wait_for_ready)
        return bool(reply.result)

    async def target(self) -> tuple[str, float]:
        (spec,) = (await self._call("GetMetricSpec", self.reference, "GetMetricSpecResponse")).metricSpecs
        assert spec.targetSize == spec.targetSizeFloat
        return spec.metricName, spec.targetSizeFloat

    async def value(self) -> float:
        request = MESSAGES["GetMetricsRequest"](scaledObjectRef=self.reference, metricName="taskfleet-replicas")
        (value,) = (await self._call("GetMetrics", request, "GetMetricsResponse")).metricValues
        return float(value.metricValueFloat)

    def activity(self) -> AsyncIterator[Any]:
        call: Any = self.channel.unary_stream(
            SERVICE + "StreamIsActive",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["IsActiveResponse"].FromString,
        )
        return aiter(call(self.reference, wait_for_ready=True))


METADATA = {"scalerAddress": "scaler.taskfleet:6000", "queues": "default, slow", "concurrency": "4"}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as redis:
        yield redis


@pytest.fixture
def scaler(server: RedisServer) -> Iterator[int]:
    port = free_port()
    with scaling(server.url, port):
        yield port


@contextlib.contextmanager
def scaling(url: str, port: int, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "taskfleet", "keda-scaler", "--redis", url, "--port", str(port), *more],
        preexec_fn=ends_with_this_process(),
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()


async def test_with_a_client_ca_only_its_clients_are_answered(server: RedisServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    certificate, key, ca = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"
    certificate.write_bytes(made.cert_chain_pems[0].bytes())
    key.write_bytes(made.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(ca))
    port = free_port()
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(ca))
    known = grpc.ssl_channel_credentials(ca.read_bytes(), key.read_bytes(), certificate.read_bytes())
    unknown = grpc.ssl_channel_credentials(ca.read_bytes())
    with scaling(server.url, port, *options):
        async with grpc.aio.secure_channel(f"localhost:{port}", known) as channel:
            assert await Keda(channel, METADATA).is_active() is False
        async with grpc.aio.secure_channel(f"localhost:{port}", unknown) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await Keda(channel, METADATA).is_active(wait_for_ready=False)


@contextlib.asynccontextmanager
async def keda(port: int, **metadata: str) -> AsyncIterator[Keda]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Keda(channel, METADATA | metadata)


async def enqueue(url: str, prefix: str, count: int, **options: Any) -> None:
    async with TaskQueue(settings=Settings(redis=RedisSettings(url=url, key_prefix=prefix))) as queue:

        @queue.task(name="noop_of_keda", queue="default")
        async def noop() -> None: ...

        await queue.enqueue_many([noop.options(**options).message() for _ in range(count)])


async def test_an_empty_queue_is_not_active_and_wants_nothing(server: RedisServer, scaler: int) -> None:
    async with keda(scaler, keyPrefix="empty") as client:
        assert await client.is_active() is False
        assert await client.target() == ("taskfleet-replicas", 1.0)
        assert await client.value() == 0.0


async def test_the_first_task_is_pushed_at_once_and_the_value_is_a_number_of_replicas(
    server: RedisServer, scaler: int
) -> None:
    async with keda(scaler, keyPrefix="push", pollIntervalSeconds="600") as client:
        stream = client.activity()
        assert (await anext(stream)).result is False
        await enqueue(server.url, "push", 1000)
        # The poll is ten minutes away: only the announcement of the work can be the reason.
        assert (await asyncio.wait_for(anext(stream), 60)).result is True
        assert await client.is_active() is True
        assert await client.value() >= 2


async def test_a_delayed_task_is_no_work_yet(server: RedisServer, scaler: int) -> None:
    await enqueue(server.url, "delayed", 1000, delay=3600)
    async with keda(scaler, keyPrefix="delayed") as client:
        assert await client.is_active() is False
        assert await client.value() == 0.0


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"queues": ""}, "queues"),
        ({"queues": "default,default"}, "queues"),
        ({"queues": "no spaces inside"}, "name"),
        ({"concurency": "4"}, "concurency"),
        ({"concurrency": "many"}, "concurrency"),
        ({"drainSeconds": "0"}, "drainSeconds"),
        ({"processingTimeSeconds": "soon"}, "processingTimeSeconds"),
    ],
)
async def test_a_mistake_in_the_trigger_is_named(scaler: int, metadata: dict[str, str], named: str) -> None:
    async with keda(scaler, **metadata) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.value()
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    details = caught.value.details() or ""
    assert named in details
    assert details.startswith("team/shop: metadata of the trigger: ")
    assert "\n" not in details


async def test_without_redis_keda_gets_an_error_and_no_number() -> None:
    port = free_port()
    with scaling(f"redis://127.0.0.1:{free_port()}/0", port):
        async with keda(port) as client:
            for call in (client.value, client.is_active):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call()
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert await client.target() == ("taskfleet-replicas", 1.0)  # it needs no Redis


def test_the_bytes_are_those_of_the_protocol() -> None:
    # Written by hand from the field numbers and wire types of KEDA's externalscaler.proto.
    assert messages.is_active(True) == b"\x08\x01"
    assert messages.metric_spec("m", 1) == b"\x0a\x0e" + b"\x0a\x01m\x10\x01\x19" + b"\x00\x00\x00\x00\x00\x00\xf0\x3f"
    assert messages.metric_value("m", 2.0) == b"\x0a\x0e" + b"\x0a\x01m\x10\x02\x19" + b"\x00" * 7 + b"\x40"
    reference = b"\x0a\x01n\x12\x02ns\x1a\x06\x0a\x01k\x12\x01v"
    expected = messages.ScaledObject("n", "ns", {"k": "v"})
    assert messages.scaled_object(reference) == expected
    assert messages.scaled_object_of_metrics(b"\x0a" + bytes([len(reference)]) + reference + b"\x12\x01m") == expected


def test_certificates_that_cannot_be_used_end_the_command_in_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "keda-scaler", "--tls-cert", str(missing), "--tls-key", str(missing)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert str(missing) in done.stderr
    assert "Traceback" not in done.stderr
