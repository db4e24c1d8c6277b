"""The calls of the Kubernetes API, through a proxy that refuses some of them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from e2e.cluster.kubectl import ClusterCommand

from taskfleet_operator.control.api.kubernetes_api import ApiError, KubernetesApi, NotLeadingError
from tests.support.api_proxy import ApiProxy, Call, refusal


@pytest.fixture
def proxy(control_plane: Path, tmp_path: Path) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane, tmp_path) as running:
        yield running


@pytest.fixture
async def api(proxy: ApiProxy) -> AsyncIterator[KubernetesApi]:
    made = await KubernetesApi.connect(str(proxy.kubeconfig))
    yield made
    await made.close()


def config_map(namespace: str, **data: str) -> dict[str, Any]:
    metadata = {"name": "settings", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


class Refusing:
    """Refuses the first calls that are no watch."""

    def __init__(self, *answers: web.Response) -> None:
        self.answers = list(answers)

    def __call__(self, _call: Call) -> web.Response | None:
        return self.answers.pop(0) if self.answers else None


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_refusal_that_passes_is_repeated(
    status: int, api: KubernetesApi, proxy: ApiProxy, namespace: str
) -> None:
    proxy.refuse = Refusing(refusal(status), refusal(status))
    await api.apply(config_map(namespace, a="1"), "someone")
    assert api.calls == {("apply", str(status)): 2, ("apply", "201"): 1}
    proxy.refuse = Refusing(refusal(status))
    assert await api.get("v1", "ConfigMap", namespace, "settings")
    assert api.calls["get", str(status)] == api.calls["get", "200"] == 1


async def test_the_servers_pause_is_kept_by_all_writes(api: KubernetesApi, proxy: ApiProxy, namespace: str) -> None:
    proxy.refuse = Refusing(refusal(429, Retry_After="1"))
    await api.apply(config_map(namespace, a="1"), "someone")
    first, second = proxy.writes()
    assert second.at - first.at >= 1.0
    proxy.refuse = Refusing(refusal(429, Retry_After="60"))
    began = time.monotonic()
    with pytest.raises(ApiError, match="refused by the proxy") as refused:
        await api.apply(config_map(namespace, a="2"), "someone")
    assert refused.value.retry_after == 30.0  # and no longer, whatever the server says
    assert time.monotonic() - began < 25.0, "it does not wait so long"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_a_refusal_for_good_is_not_repeated(
    status: int, api: KubernetesApi, proxy: ApiProxy, namespace: str
) -> None:
    proxy.refuse = lambda _call: refusal(status)
    with pytest.raises(ApiError) as refused:
        await api.apply(config_map(namespace), "someone")
    assert refused.value.status == status
    assert len(proxy.writes()) == 1


async def test_a_malformed_object_is_not_sent_again(api: KubernetesApi, proxy: ApiProxy, namespace: str) -> None:
    with pytest.raises(ApiError) as refused:
        await api.apply(config_map(namespace) | {"dat": {}}, "someone")
    assert refused.value.invalid
    assert len(proxy.writes()) == 1


async def test_a_server_that_is_not_there_is_an_error_in_words(
    api: KubernetesApi, proxy: ApiProxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskfleet_operator.control.api.api_connection._WAIT_SECONDS", 6.0)
    api._api.configuration.host = "http://127.0.0.1:1"
    with pytest.raises(ApiError, match="the API server does not answer") as refused:
        await api.get("v1", "ConfigMap", namespace, "settings")
    assert refused.value.status == 0
    assert api.calls["get", "error"] >= 2


async def test_nothing_is_written_while_another_operator_leads(
    api: KubernetesApi, proxy: ApiProxy, namespace: str
) -> None:
    api.may_write = lambda: False
    with pytest.raises(NotLeadingError):
        await api.apply(config_map(namespace), "someone")
    with pytest.raises(NotLeadingError):
        await api.scale(namespace, "orders-worker", "uid", 1)
    with pytest.raises(NotLeadingError):
        await api.delete("v1", "ConfigMap", namespace, "settings", "uid")
    assert not proxy.writes()


async def test_leadership_is_asked_again_before_a_repetition(
    api: KubernetesApi, proxy: ApiProxy, namespace: str
) -> None:
    proxy.refuse = Refusing(refusal(503))
    api.may_write = lambda: not proxy.writes()
    with pytest.raises(NotLeadingError):
        await api.apply(config_map(namespace), "someone")
    assert len(proxy.writes()) == 1


async def test_a_dry_run_checks_and_changes_nothing(api: KubernetesApi, namespace: str) -> None:
    api.may_write = lambda: False
    assert (await api.dry_run_apply(config_map(namespace, a="1"), "someone"))["data"] == {"a": "1"}
    assert await api.get("v1", "ConfigMap", namespace, "settings") is None
    with pytest.raises(ApiError, match="data"):
        await api.dry_run_apply({**config_map(namespace), "data": {"no key!": "1"}}, "someone")


async def test_credentials_that_were_replaced_are_loaded_again(
    api: KubernetesApi, proxy: ApiProxy, kubectl: ClusterCommand, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    account = f"--user=system:serviceaccount:{namespace}:default"
    kubectl("create", "rolebinding", "admin", "--clusterrole=admin", account, "--namespace", namespace)
    admin = proxy.token
    proxy.log_in_with(kubectl("create", "token", "default", "--namespace", namespace).strip())
    proxy.refuse = lambda call: refusal(401, "Unauthorized") if call.token == admin else None
    await api.get("v1", "ConfigMap", namespace, "settings")
    assert api.unauthorized_for() == 0.0
    assert "have been loaded again" in caplog.text


async def test_credentials_that_stay_refused_are_told(api: KubernetesApi, proxy: ApiProxy, namespace: str) -> None:
    proxy.refuse = lambda _call: refusal(401, "Unauthorized")
    for _ in range(2):
        with pytest.raises(ApiError, match="Unauthorized"):
            await api.get("v1", "ConfigMap", namespace, "settings")
    assert 0.0 < api.unauthorized_for() < 30.0
    proxy.refuse = lambda _call: None
    await api.get("v1", "ConfigMap", namespace, "settings")
    assert api.unauthorized_for() == 0.0


async def test_calls_on_their_way_while_credentials_are_loaded_again_are_repeated(
    api: KubernetesApi, proxy: ApiProxy, namespace: str
) -> None:
    for _ in range(5):
        await api.close()
        api = await KubernetesApi.connect(str(proxy.kubeconfig))  # which loads its configuration once a second at most
        await api.apply(config_map(namespace, a="1"), "someone")
        proxy.refuse = Refusing(refusal(401, "Unauthorized"))
        # Each is at another point on its way when the answer to the first one comes.
        calls: list[asyncio.Task[Any]] = []
        while not api.calls["get", "401"]:
            if len(calls) < 200:  # more would only wait for a connection, and some of them for too long
                calls.append(asyncio.create_task(api.get("v1", "ConfigMap", namespace, "settings")))
            await asyncio.sleep(0)
        assert all(found["data"] == {"a": "1"} for found in await asyncio.gather(*calls))
    await api.close()


def test_nothing_is_left_of_watches_that_are_left_early(control_plane: Path, namespace: str) -> None:
    async def look() -> None:
        api = await KubernetesApi.connect(str(control_plane))
        watches = [api.watch("v1", "ConfigMap", namespace, since="", seconds=60, silence_seconds=60) for _ in range(20)]
        for watch in watches:
            assert (await anext(watch))["type"] == "ADDED"
        for watch in watches:
            await watch.aclose()
        await api.close()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(look())
    loop.close()
    gc.collect()  # a socket that is still open would be a warning now, and so an error
