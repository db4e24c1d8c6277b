"""A fresh Redis Cluster: masters on this machine that share the slots evenly, without replicas."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Self

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from tests.support.ports import free_port

from bench.errors import BenchError
from bench.server import BenchServer, ServerProgram, Usage

_START_SECONDS = 60.0


class BenchCluster:
    """So many masters. Their data is gone with them."""

    def __init__(self, program: ServerProgram, masters: int) -> None:
        self._buses = [free_port() for _ in range(masters)]
        self.nodes = [
            BenchServer(program, "--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in self._buses
        ]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def holder_of(self, key: str) -> BenchServer:
        """The node that holds the slot of a key."""
        return self.nodes[self._number_of(key_slot(key.encode()))]

    def usage(self) -> list[Usage]:
        """The counters of each node."""
        return [node.usage() for node in self.nodes]

    def flush(self) -> None:
        """Delete everything."""
        for node in self.nodes:
            node.flush()

    def _number_of(self, slot: int) -> int:
        return slot * len(self.nodes) // REDIS_CLUSTER_HASH_SLOTS

    def _join(self) -> None:
        for number, node in enumerate(self.nodes):
            slots = [slot for slot in range(REDIS_CLUSTER_HASH_SLOTS) if self._number_of(slot) == number]
            node.call("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                node.call("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self._buses[0])
        deadline = time.monotonic() + _START_SECONDS
        while not all(self._is_whole(node) for node in self.nodes):
            if time.monotonic() > deadline:
                raise BenchError(f"{len(self.nodes)} nodes do not become a Cluster in {_START_SECONDS:g} s")
            time.sleep(0.05)

    def _is_whole(self, node: BenchServer) -> bool:
        """Whether the node has heard of all others and of who holds which slot."""
        with contextlib.suppress(redis.RedisError):
            state: Any = node.call("CLUSTER", "INFO")
            fields = state if isinstance(state, dict) else dict(line.split(":") for line in state.decode().split())
            return fields["cluster_state"] == "ok" and int(fields["cluster_size"]) == len(self.nodes)
        return False
