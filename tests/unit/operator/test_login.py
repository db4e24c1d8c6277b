"""How the operator finds the API server and logs in."""

from __future__ import annotations

import base64
import ssl
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from taskfleet_operator.control.api import login
from taskfleet_operator.control.api.connections import without_late_writes
from taskfleet_operator.control.reconciling.quantity import amount
from tests.support.certificates import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    path = folder / "kubeconfig"
    content = {
        "current-context": "here",
        "contexts": [{"name": "other", "context": {}}, {"name": "here", "context": {"cluster": "one", "user": "me"}}],
        "clusters": [{"name": "one", "cluster": {"server": "https://127.0.0.1:1/", **cluster}}],
        "users": [{"name": "me", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def coded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.fixture
def pod(tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What Kubernetes gives to a pod; the folder of the service account."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(login, "_SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "ca.crt").write_bytes(certificates.ca.read_bytes())
    (tmp_path / "token").write_text("first\n")
    return tmp_path


async def authorization(client: Any) -> str:
    headers: dict[str, str] = {}
    await client.update_params_for_auth(headers, [], ["BearerToken"], "/", "GET", None)
    return headers.get("Authorization", "")


async def test_a_pod_logs_in_with_its_service_account_whose_token_is_rotated(pod: Path) -> None:
    client = await login.client()
    assert client.configuration.host == "https://10.0.0.1:443"
    assert await authorization(client) == "Bearer first"
    (pod / "token").write_text("second")
    assert await authorization(client) == "Bearer second"
    (pod / "token").write_text("")
    assert await authorization(client) == "Bearer second"
    (pod / "token").unlink()
    assert await authorization(client) == "Bearer second"


async def test_an_address_of_version_6_stands_in_brackets(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert (await login.client()).configuration.host == "https://[fd00::1]:443"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
async def test_a_pod_without_a_service_account_uses_a_kubeconfig(
    pod: Path, tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pod / missing).unlink()
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, {}, {"token": "mine"}))
    client = await login.client()
    assert client.configuration.host == "https://127.0.0.1:1"
    assert await authorization(client) == "Bearer mine"


@pytest.mark.parametrize("as_data", [True, False])
async def test_a_kubeconfig_with_certificates_opens_a_connection(
    tmp_path: Path, certificates: Certificates, as_data: bool
) -> None:
    """The files of a kubeconfig may be named relative to it."""
    given = {
        "certificate-authority": certificates.ca,
        "client-certificate": certificates.client,
        "client-key": certificates.client_key,
    }
    if as_data:
        written = {f"{key}-data": coded(path) for key, path in given.items()}
    else:
        written = {key: path.name for key, path in given.items()}
        for path in given.values():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    asks = _server_context(certificates)

    async def serve(request: web.Request) -> web.Response:
        transport = request.transport
        assert transport is not None
        return web.json_response(
            {"certificate": bool(transport.get_extra_info("peercert")), "body": await request.text()}
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=asks).start()
    server = f"https://127.0.0.1:{runner.addresses[0][1]}"
    cluster = {"server": server} | {key: each for key, each in written.items() if key.startswith("certificate-")}
    user = {key: each for key, each in written.items() if key.startswith("client-")}
    client = without_late_writes(await login.client(kubeconfig(tmp_path, cluster, user)))
    assert isinstance(client, login.PlainClient)
    try:
        answer = await client.request("PUT", f"{server}/a", {}, {"b": 1}, 5.0)
        assert await answer.response.json() == {"certificate": True, "body": '{"b": 1}'}
    finally:
        await client.close()
        await runner.cleanup()


def _server_context(certificates: Certificates) -> Any:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.ca))
    context.load_cert_chain(certificates.server, certificates.server_key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_kubeconfig_may_switch_the_check_off(tmp_path: Path) -> None:
    client = await login.client(kubeconfig(tmp_path, {"insecure-skip-tls-verify": True}, {}))
    assert not client.ssl_context.check_hostname
    assert await authorization(client) == ""


@pytest.mark.parametrize(
    ("cluster", "user"),
    [
        ({}, {"username": "me", "password": "p"}),
        ({"tls-server-name": "other.test"}, {"token": "t"}),
        ({"proxy-url": "http://127.0.0.1:2"}, {"token": "t"}),
    ],
)
async def test_for_every_other_way_there_is_the_client_of_kubernetes(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any]
) -> None:
    client = await login.client(kubeconfig(tmp_path, cluster, user))
    assert not isinstance(client, login.PlainClient)
    assert client.configuration.host == "https://127.0.0.1:1"
    await client.close()


def test_the_operator_runs_without_the_kubernetes_client(tmp_path: Path) -> None:
    """It takes 15 MB. kopf imports it, where it is installed."""
    path = kubeconfig(tmp_path, {}, {"token": "t"})
    program = (
        "import asyncio, sys; import taskfleet_operator.handlers; from taskfleet_operator.control.api import login\n"
        f"client = asyncio.run(login.client({path!r}))\n"
        "print(*sorted({'kubernetes', 'requests', 'urllib3', 'grpc', 'uvicorn'} & sys.modules.keys()))\n"
        "import kubernetes; print(kubernetes.client.V1ObjectMeta.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["", "V1ObjectMeta"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1000m", "1"), ("0.5", "0.5"), (2, "2"), ("1024Mi", str(2**30)), ("1.5Gi", "1610612736"), ("1E", "1e18"),
        ("1Ei", str(2**60)), ("1e3", "1000"), ("12E6", "12e6"), ("-3u", "-0.000003"), ("+5n", "5e-9"), ("2k", "2000"),
    ],
)  # fmt: skip
def test_a_quantity_is_a_number(text: Any, number: str) -> None:
    assert amount(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Mi", "1mi", "1K", "one", None])
def test_what_is_no_quantity_is_an_error(text: Any) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        amount(text)
