"""The cache of secrets: one read for all, later reads in the background, and a change wakes those that use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from taskfleet_operator.control.api.kubernetes_api import ApiError, KubernetesApi
from taskfleet_operator.control.redis.secrets import SecretCache
from taskfleet_operator.control.store.cluster_store import Key

A, B, ELSEWHERE = ("shop", "a"), ("shop", "b"), ("other", "a")


class Secrets:
    """The secrets of a cluster. `reads` counts the calls; `refusal` is raised by them."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[str, Any]] = {}
        self.reads: list[tuple[str, str]] = []
        self.refusal: Exception | None = None
        self.has_read = asyncio.Event()

    async def get(self, _version: str, _kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        self.reads.append((namespace, name))
        self.has_read.set()
        if self.refusal is not None:
            raise self.refusal
        return self.found.get((namespace, name))

    def put(self, value: str, namespace: str = "shop", **metadata: str) -> None:
        self.found[namespace, "redis"] = {"metadata": metadata, "data": {"url": value}}


class Woken:
    def __init__(self) -> None:
        self.keys: list[Key] = []
        self._event = asyncio.Event()

    def __call__(self, key: Key) -> None:
        self.keys.append(key)
        self._event.set()

    async def next(self) -> None:
        await asyncio.wait_for(self._event.wait(), 20)
        self._event.clear()


@pytest.fixture
def cluster() -> Secrets:
    return Secrets()


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
async def cache(cluster: Secrets, woken: Woken) -> AsyncIterator[SecretCache]:
    made = SecretCache(cast("KubernetesApi", cluster), woken, seconds=0.02)
    yield made
    await made.close()


async def reads(cluster: Secrets, more: int) -> None:
    for _ in range(more):
        cluster.has_read.clear()
        await asyncio.wait_for(cluster.has_read.wait(), 20)


async def test_one_read_serves_all_who_ask_at_once(cluster: Secrets, cache: SecretCache) -> None:
    cluster.put("x")
    found = await asyncio.gather(*(cache.get(key, "redis") for key in (A, B, A)))
    assert [one.data["url"] for one in found if one is not None] == ["x", "x", "x"]
    assert cluster.reads == [("shop", "redis")]
    assert await cache.get(ELSEWHERE, "redis") is None


async def test_a_change_wakes_those_that_use_the_secret(cluster: Secrets, cache: SecretCache, woken: Woken) -> None:
    cluster.put("x")
    cluster.put("x", "other")
    for key in (A, B, ELSEWHERE):
        await cache.get(key, "redis")
    cluster.put("x", resourceVersion="2")  # another label: no news
    await reads(cluster, 6)
    assert woken.keys == []
    cluster.put("y")
    await woken.next()
    assert sorted(woken.keys) == [A, B]
    found = await cache.get(A, "redis")
    assert found is not None
    assert found.data["url"] == "y"


async def test_a_secret_that_comes_and_goes(cluster: Secrets, cache: SecretCache, woken: Woken) -> None:
    assert await cache.get(A, "redis") is None
    cluster.put("x")
    await woken.next()
    assert await cache.get(A, "redis") is not None
    cluster.found.clear()
    await woken.next()
    assert await cache.get(A, "redis") is None


async def test_what_was_read_last_counts_while_the_api_server_fails(
    cluster: Secrets, cache: SecretCache, woken: Woken
) -> None:
    cluster.put("x")
    await cache.get(A, "redis")
    cluster.refusal = ApiError(503, "later")
    await reads(cluster, 3)
    assert await cache.get(A, "redis") is not None
    cluster.refusal = None
    cluster.put("y")
    await woken.next()


async def test_a_first_read_that_fails_is_told_and_made_again(cluster: Secrets, cache: SecretCache) -> None:
    cluster.put("x")
    cluster.refusal = ApiError(403, "no")
    with pytest.raises(ApiError):
        await cache.get(A, "redis")
    cluster.refusal = None
    assert await cache.get(A, "redis") is not None


async def test_a_secret_that_nobody_uses_is_read_no_more(cluster: Secrets, cache: SecretCache) -> None:
    cluster.put("x")
    for key in (A, B):
        await cache.get(key, "redis")
    cache.keep(A, ())
    await reads(cluster, 2)  # B still uses it
    cache.keep(B, ("another",))
    await asyncio.sleep(0)
    before = len(cluster.reads)
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert len(cluster.reads) <= before + 1  # one may have been on its way
