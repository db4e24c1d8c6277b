"""The signs of liveness, the probes, and the connections that keep nothing back."""

from __future__ import annotations

import asyncio
import io
import socket

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio import client as kubernetes_client

from taskfleet.errors import ConfigurationError
from taskfleet_operator.control.api.connections import connection
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi, NotLeadingError
from taskfleet_operator.control.monitoring import liveness
from taskfleet_operator.control.monitoring.liveness import Liveness
from taskfleet_operator.control.monitoring.serving import Endpoints
from taskfleet_operator.control.workqueue import WorkQueue
from taskfleet_operator.operator_options import OperatorOptions
from tests.support.ports import free_port


class Watches:
    idle = unheard = 0.0

    def stuck(self) -> tuple[str, float]:
        return "the informer of Pods", self.idle

    def silent(self) -> tuple[str, float]:
        return "the informer of TaskQueues", self.unheard


class Works:
    oldest_seconds = longest_call_seconds = 0.0


async def test_each_sign_says_what_is_wrong() -> None:
    watches, works, dead, refused = Watches(), Works(), set[str](), [0.0]

    async def ends() -> None: ...

    task = asyncio.create_task(ends())
    alive = Liveness()
    alive.add(
        liveness.runs("the election", task),
        liveness.watches(watches),
        liveness.accepted(lambda: refused[0]),
        liveness.works(lambda: works),
        liveness.works(lambda: None),
        liveness.listens(lambda: dead),
    )
    assert alive.problems() == []
    await task
    watches.unheard, works.longest_call_seconds = 301.0, 181.0
    dead.add("redis:6379")
    refused[0] = 121.0
    assert alive.problems() == [
        "the election has ended",
        "the informer of TaskQueues has heard nothing for 301 s",
        "the API server has refused the operator's credentials (401) for 121 s",
        "a reconcile has taken 181 s and has not ended",
        "the listener for work has died: redis:6379",
    ]
    watches.idle, works.longest_call_seconds, works.oldest_seconds = 181.0, 0.0, 200.0
    refused[0] = 0.0
    assert alive.problems()[1:3] == [
        "the informer of Pods has done nothing for 181 s",
        "a TaskQueue has waited for 200 s to be reconciled",
    ]


async def test_a_work_queue_knows_how_long_its_keys_wait_and_its_calls_take() -> None:
    going, began, last = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(key: tuple[str, str]) -> float | None:
        began.set()
        await going.wait()
        if key[1] == "c":
            last.set()
        return None

    work = WorkQueue(handle, workers=1)
    assert (work.depth, work.oldest_seconds, work.longest_call_seconds) == (0, 0.0, 0.0)
    running = asyncio.create_task(work.run())
    for name in ("a", "b", "b", "c"):
        work.add(("shop", name))
    await began.wait()
    assert work.depth == 2
    assert work.longest_call_seconds > 0
    assert work.oldest_seconds > 0
    going.set()
    async with asyncio.timeout(30):
        await last.wait()
    assert (work.depth, work.oldest_seconds) == (0, 0.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert work.longest_call_seconds == 0


async def test_a_key_is_not_lost_while_the_leader_does_not_know_whether_it_leads(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = 0
    done = asyncio.Event()

    async def handle(key: tuple[str, str]) -> float | None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise NotLeadingError("PATCH")
        done.set()
        return None

    work = WorkQueue(handle, workers=1)
    running = asyncio.create_task(work.run())
    work.add(("shop", "orders"))
    async with asyncio.timeout(30):
        await done.wait()
    assert not caplog.records
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_the_probes_answer_on_both_families(host: str) -> None:
    if host == "[::1]" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    problems: list[str] = []
    unready = ["the cluster's objects have not been listed yet"]
    port = free_port()
    endpoints = Endpoints(
        lambda: problems,
        lambda: unready,
        lambda accept: (f"figures for {accept}".encode(), "text/plain; charset=utf-8"),
    )
    await endpoints.start(port, port)
    try:
        async with aiohttp.ClientSession() as client:

            async def get(path: str) -> tuple[int, str]:
                async with client.get(f"http://{host}:{port}{path}") as response:
                    return response.status, await response.text()

            assert await get("/healthz") == (200, "alive\n")
            assert await get("/metrics") == (200, "figures for */*")
            assert await get("/readyz") == (503, "the cluster's objects have not been listed yet\n")
            unready.clear()
            problems.append("the informer of TaskQueues has heard nothing for 301 s")
            assert await get("/readyz") == (200, "ready\n")
            assert await get("/healthz") == (503, "the informer of TaskQueues has heard nothing for 301 s\n")
    finally:
        await endpoints.close()


async def test_a_port_that_is_taken_is_one_line() -> None:
    port = free_port()
    first, second = (Endpoints(list, list, bytes) for _ in range(2))
    await first.start(port, 0)
    try:
        with pytest.raises(ConfigurationError, match=f"--metrics-port {port}: cannot listen: .*; choose another port"):
            await second.start(0, port)
    finally:
        await second.close()
        await first.close()


async def test_a_write_that_was_given_up_does_not_arrive_when_the_network_comes_back() -> None:
    """A server that reads nothing stands for the dead network: the kernel holds what does not fit its window."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the smallest that there is
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    connector = aiohttp.TCPConnector(socket_factory=connection)
    size = 12 * 1024
    async with aiohttp.ClientSession(connector=connector) as client:
        with pytest.raises(TimeoutError):
            async with client.put(
                # Given up in the middle of the body, even if this process stands still before it begins.
                f"http://127.0.0.1:{port}/",
                data=io.BytesIO(b"x" * size),
                timeout=aiohttp.ClientTimeout(total=4.0),
            ):
                pass
    accepted, _ = listener.accept()
    with listener, accepted:
        accepted.settimeout(10)
        with pytest.raises(ConnectionResetError):
            _read_all(accepted)


async def test_a_write_asks_again_when_it_leaves() -> None:
    """Who waits for a connection or a turn may be stopped meanwhile. A read and a dry run never ask."""
    served: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        served.append(f"{request.method} {request.query_string}")
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = kubernetes_client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    api = KubernetesApi(kubernetes_client.ApiClient(configuration))
    answers = iter([True, False, False, True, True])  # a call without an answer is tried again
    api.may_write = lambda: next(answers)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "orders"}}
    try:
        await api.get("v1", "ConfigMap", "shop", "orders")
        await api.dry_run_apply(dict(body), "operator")
        with pytest.raises(NotLeadingError):
            await api.apply(dict(body), "operator")
        assert [line.split()[0] for line in served] == ["GET", "PATCH"]
        await api.apply(dict(body), "operator")
        assert served[2].startswith("PATCH")
        assert "timeout=" in served[2]
        assert not list(answers)
    finally:
        await api.close()
        await runner.cleanup()


def _read_all(connected: socket.socket) -> None:
    while connected.recv(65536):
        pass


@pytest.mark.parametrize(
    "selector",
    ["shard=a", "shard==a", "shard!=a", "shard in (a, b),team", "!team", "example.com/shard notin (a)", "shard="],
)
def test_a_label_selector_is_accepted(selector: str) -> None:
    options = OperatorOptions(watch_selector=selector)
    assert options.lease.startswith("taskfleet-operator-")


@pytest.mark.parametrize("selector", ["shard=a b", "=a", "shard in a", "shard in ()x", "a,,b", "-a=b", "a=b;c"])
def test_a_wrong_label_selector_is_named(selector: str) -> None:
    with pytest.raises(ConfigurationError, match="--watch-selector"):
        OperatorOptions(watch_selector=selector)


def test_each_selector_has_a_lease_of_its_own() -> None:
    leases = {OperatorOptions(watch_selector=selector).lease for selector in ("", "shard=a", "shard=b")}
    assert len(leases) == 3
    assert OperatorOptions(watch_selector="shard=a", lease_name="mine").lease == "mine"


def test_a_webhook_needs_its_certificate() -> None:
    with pytest.raises(ConfigurationError, match="--webhook-cert-dir"):
        OperatorOptions(webhook_port=9443)
