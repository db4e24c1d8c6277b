"""Watches that fall silent: the connection stays open, and not even a bookmark comes. A whole operator in this process,
with the limits of silence in seconds in place of minutes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from taskfleet_operator import handlers
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi
from taskfleet_operator.control.leading.leadership import Leadership
from taskfleet_operator.control.monitoring import liveness
from taskfleet_operator.control.store import informer
from taskfleet_operator.control.store.informer import Informers
from taskfleet_operator.operator_options import OperatorOptions
from tests.controlplane.test_informer import PLURALS, until
from tests.support.api_proxy import ApiProxy, Silence
from tests.support.operator_space import NAME, Manifest, Space
from tests.support.operator_space import until as until_sync
from tests.support.ports import free_port

# The API server sends a bookmark once a minute, and nobody can tell it to send more. So that it is heard every few
# seconds, it is asked to end each watch so soon.
WATCH_SECONDS, SILENCE_SECONDS, SILENT_SECONDS = (2.0, 3.0), 5.0, 15.0
IMAGE = "registry.example/shop:silent"


@pytest.fixture
def proxy(control_plane: Path, tmp_path: Path) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane, tmp_path) as running:
        yield running


class Probed:
    """An operator, and what its liveness probe has said."""

    def __init__(self, operator: handlers.Operator, port: int) -> None:
        self.operator = operator
        self._url = f"http://127.0.0.1:{port}/healthz"
        self.problems: list[str] = []
        self.failing = False

    async def probe(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(self._url) as answer:
                    self.failing = answer.status == 503
                    if self.failing:
                        self.problems.append(await answer.text())
                await asyncio.sleep(0.1)


@pytest.fixture
async def probed(crd: None, proxy: ApiProxy, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Probed]:
    monkeypatch.setattr(handlers, "Informers", functools.partial(Informers, silence_seconds=SILENCE_SECONDS))
    monkeypatch.setattr(informer, "_WATCH_SECONDS", WATCH_SECONDS)
    monkeypatch.setattr(liveness, "SILENT_SECONDS", SILENT_SECONDS)
    port = free_port()
    api = await KubernetesApi.connect(str(proxy.kubeconfig))
    operator = handlers.Operator(api, Leadership(None, "alone"), None, OperatorOptions(namespaces=(namespace,)))
    await operator.endpoints.start(port, 0)
    found = Probed(operator, port)
    probing = asyncio.create_task(found.probe())
    yield found
    proxy.silent = lambda _call: False
    probing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await probing
    await operator.close()


async def served(probed: Probed, proxy: ApiProxy, space: Space, manifest: Manifest) -> None:
    await asyncio.to_thread(space.apply, manifest)
    await until(lambda: probed.operator.store.children["Deployment"].get((space.name, "orders")), "it is served", 60)
    assert not probed.problems


def image(space: Space) -> str:
    return str(space.get("deployment", NAME)["spec"]["template"]["spec"]["containers"][0]["image"])


async def set_image(space: Space) -> None:
    patch = json.dumps({"spec": {"worker": {"image": IMAGE}}})
    await asyncio.to_thread(space, "patch", "tq", "orders", "--type=merge", "-p", patch)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("let_through", ["nothing", "half an event"])
async def test_what_happens_during_a_silence_is_acted_upon(
    let_through: Silence, probed: Probed, proxy: ApiProxy, space: Space, manifest: Manifest
) -> None:
    """All watches are silent at once, as when a firewall forgets the connections. New ones work."""
    await served(probed, proxy, space, manifest)
    lists = [one.lists for one in probed.operator.informers.all]
    silenced = time.monotonic()
    proxy.let_through, proxy.silent = let_through, lambda call: call.at < silenced
    await set_image(space)
    await asyncio.to_thread(space, "delete", "configmap", NAME)
    done = functools.partial(
        until_sync, lambda: image(space) == IMAGE and space.get("configmap", NAME), "both are seen"
    )
    await asyncio.to_thread(done, seconds=SILENCE_SECONDS + 25)
    assert not probed.problems, "a silence that heals is no reason for a restart"
    assert [one.lists for one in probed.operator.informers.all] == lists, "each goes on where it was"


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("kind", "let_through"), [("TaskQueue", "nothing"), ("Deployment", "head"), ("Pod", "half an event")]
)
async def test_a_silence_that_no_new_watch_ends_fails_the_liveness_probe_until_it_ends(
    kind: str, let_through: Silence, probed: Probed, proxy: ApiProxy, space: Space, manifest: Manifest
) -> None:
    await served(probed, proxy, space, manifest)
    (silent,) = (one for one in probed.operator.informers.all if one.watched.kind == kind)
    heard, watches = silent.last_answer, silent.watches
    proxy.let_through, proxy.silent = let_through, lambda call: call.path.endswith(f"/{PLURALS[kind]}")
    await until(lambda: probed.failing, "the probe fails", 60)
    assert time.monotonic() - heard > SILENT_SECONDS
    assert silent.watches > watches, "it has tried new ones"
    assert f"the informer of {kind}s in {space.name} has heard nothing for" in probed.problems[-1]
    proxy.silent = lambda _call: False
    await set_image(space)
    await until(lambda: not probed.failing, "it is well again", 40)
    await asyncio.to_thread(until_sync, lambda: image(space) == IMAGE, "the change is seen", seconds=30)
