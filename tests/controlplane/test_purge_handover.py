"""A purge whose operator is stopped in its middle, is followed by the standby, and wakes up when all is over."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskfleet_operator.control.redis.purging import FINALIZER
from tests.controlplane.test_leadership import HANGS_SECONDS, Member, Pair, acts, pair
from tests.controlplane.test_purging import (
    client,
    delete,
    fill,
    finalizers,
    gone,
    held,
    keys,
    purging,
    stopped_in_its_middle,
)
from tests.support.audited_api import Write
from tests.support.operator_space import Manifest, until
from tests.support.redis_server import RedisServer

__all__ = ["client", "pair"]

MANY = 20_000
Stop = Callable[[Member, Any, set[bytes]], None]


def between_two_calls_to_redis(_leader: Member, client: Any, served: set[bytes]) -> None:
    """Wait until some keys are gone; the next call waits in Redis."""
    stopped_in_its_middle(client, served)


def between_redis_and_the_finalizer(leader: Member, client: Any, served: set[bytes]) -> None:
    """Wait until all keys are gone, and keep the end of the finalizer from the API server."""
    between_two_calls_to_redis(leader, client, served)
    leader.proxy.cut()
    client.client_unpause()
    until(lambda: not client.exists(*served), "all keys are gone")


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("stop", [between_two_calls_to_redis, between_redis_and_the_finalizer])
def test_a_purge_that_is_stopped_in_its_middle_ends_once_and_touches_nothing_of_later_ones(
    stop: Stop, pair: Pair, manifest: Manifest, redis_server: RedisServer, prefix: str, client: Any
) -> None:
    space = pair.space
    fill(redis_server.url, prefix, "default", MANY)
    fill(redis_server.url, prefix, "second", 10)
    fill(redis_server.url, prefix, "neighbour", 10)
    fill(redis_server.url, f"{prefix}2", "default", 10)
    stays = _lasting(client, keys(client, prefix, "neighbour") | keys(client, f"{prefix}2", "default"))
    neighbour = purging(manifest, "neighbour", name="neighbour")
    for name in ("op-a", "op-b"):
        pair.start(name)
    space.apply(neighbour)
    space.apply(purging(manifest, "default", "second"))
    held(space)
    held(space, "neighbour")
    leader = pair.leader()
    standby = pair.other(leader)
    until(lambda: standby.probe("/readyz") == 200, "the standby is warm", seconds=60)
    first = space.get("tq", "orders")["metadata"]["uid"]
    served = keys(client, prefix, "default") | keys(client, prefix, "second")
    client.client_pause(60_000, all=False)
    delete(space)
    stop(leader, client, served)
    with stopped(leader.process):
        client.client_unpause()
        assert finalizers(space) == [FINALIZER], "the TaskQueue stays until all is gone"
        until(lambda: pair.holder() == standby.name, "the standby leads", seconds=HANGS_SECONDS)
        gone(space)
        assert keys(client, prefix, "default") == keys(client, prefix, "second") == set()
        # A TaskQueue of the same name on the same queues: its keys have the names of those that were deleted.
        space.apply(purging(manifest, "default", "second"))
        held(space)
        fill(redis_server.url, prefix, "default", 10)
        fill(redis_server.url, prefix, "second", 10)
        again = space.get("tq", "orders")["metadata"]["uid"]
        until(lambda: space.replicas() > 0, "it has workers", seconds=60)
        stays |= _lasting(client, keys(client, prefix, "default") | keys(client, prefix, "second"))
        deletions, woken = _deletions(client), time.monotonic()
    until(lambda: leader.said("no longer leads"), "the first one knows", seconds=60)
    leader.proxy.mend()
    until(lambda: leader.said("stands by"), "it stands by", seconds=60)
    acts(space)
    assert leader.probe("/healthz") == 200
    leader.process.terminate()
    assert leader.process.wait(60) == 0  # whatever it had to write is written
    assert _contents(client, set(stays)) == stays, "what is not purged is as it was"
    assert _deletions(client) == deletions
    assert finalizers(space) == finalizers(space, "neighbour") == [FINALIZER]
    assert space.get("tq", "orders")["metadata"]["uid"] == again != first
    assert [one.by for one in _releases(pair.writes, first)] == [standby.name]
    assert not _releases(pair.writes, again)
    taken = Counter((one.path, (one.body or {}).get("preconditions", {}).get("uid")) for one in _deletes(pair.writes))
    assert not [one for one, times in taken.items() if times > 1]
    assert not [one for one in pair.writes if one.by == leader.name and one.sent > woken and not one.of_lease]


def _contents(client: Any, names: set[bytes]) -> dict[bytes, bytes]:
    return {name: client.dump(name) for name in names}


def _lasting(client: Any, names: set[bytes]) -> dict[bytes, bytes]:
    """The contents of those that do not end by themselves, such as a list that wakes workers."""
    return _contents(client, {name for name in names if client.pttl(name) == -1})


def _deletions(client: Any) -> int:
    """How many calls to delete keys this Redis has had."""
    found = client.info("commandstats")
    return sum(found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("unlink", "srem"))


def _releases(writes: list[Write], uid: str) -> list[Write]:
    """The writes that took the finalizer from the TaskQueue with this uid."""
    of_it = [one for one in writes if one.path.endswith("/taskqueues/orders") and one.method == "PATCH"]
    named = [(one, (one.body or {}).get("metadata", {})) for one in of_it if one.status < 300]
    return [one for one, body in named if body.get("uid") == uid and body.get("finalizers") == []]


def _deletes(writes: list[Write]) -> list[Write]:
    return [one for one in writes if one.method == "DELETE" and one.status < 300]
