"""Real topologies on this machine: a replica, three Sentinels, a Cluster."""

from __future__ import annotations

import contextlib
from typing import Any, Self

from tests.support.certificates import Certificates
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, wait_until

SLOTS = 16384
_DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
# Replicas synchronise without waiting for further replicas, and report their offsets.
_AT_ONCE = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
# Another server takes over from one that is silent for so long. On a busy machine each is silent for seconds at times:
# only once a test has stopped one, the others are told to be quick.
_PATIENT_MS, _QUICK_MS = 60_000, 500


class Replica(RedisServer):
    """A replica of `master`, in step with it once started."""

    def __init__(self, master: RedisServer, *options: str, program: str | None = None) -> None:
        super().__init__(*options, "--replicaof", "127.0.0.1", str(master.tls_port or master.port), program=program)

    def start(self, *, wait_for_data: bool = True) -> Self:
        super().start(wait_for_data=wait_for_data)
        wait_until(lambda: self.info("replication")["master_link_status"] == "up", "the replica is in step")
        return self


class Sentinel(RedisServer):
    """One Sentinel that watches `master` under the name `mymaster`."""

    def __init__(
        self, master: RedisServer, *settings: str, program: str | None = None, tls: Certificates | None = None
    ) -> None:
        super().__init__(program=program)
        if tls is not None:
            self.tls_port = free_port()
            self.add(*tls.options(self.tls_port), "--tls-replication", "yes")
        self._file = self.folder / "sentinel.conf"
        lines = [
            f"sentinel monitor mymaster 127.0.0.1 {master.tls_port or master.port} 2",
            f"sentinel down-after-milliseconds mymaster {_PATIENT_MS}",
            "sentinel failover-timeout mymaster 3000",
            *settings,
        ]
        self._file.write_text("\n".join(lines) + "\n")

    def _first_arguments(self) -> list[str]:
        return [str(self._file), "--sentinel"]


class SentinelTrio:
    """A master, a replica and three Sentinels that agree about them."""

    def __init__(
        self, *options: str, password: str = "", program: str | None = None, tls: Certificates | None = None
    ) -> None:
        """`password` is the Sentinels' own."""
        self._stack = contextlib.ExitStack()
        self._options, self._program = (*_DURABLE, *_AT_ONCE, *options), program
        self._password, self._tls = password, tls

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.master = RedisServer(*self._options, program=self._program)
            self._under_tls(self.master)
            stack.enter_context(self.master)
            self.replica = Replica(self.master, *self._options, program=self._program)
            self._under_tls(self.replica)
            stack.enter_context(self.replica)
            self.sentinels = [
                Sentinel(self.master, *self._secrets(), program=self._program, tls=self._tls) for _ in "123"
            ]
            for sentinel in self.sentinels:
                sentinel.login = {"password": self._password} if self._password else {}
                stack.enter_context(sentinel)
            for sentinel in self.sentinels:
                wait_until(lambda sentinel=sentinel: _knows_all(sentinel), "the Sentinels know each other")
            self._stack = stack.pop_all()
        return self

    def _under_tls(self, server: RedisServer) -> None:
        if self._tls is not None:
            server.tls_port = server.tls_port or free_port()
            server.add(*self._tls.options(server.tls_port), "--tls-replication", "yes")

    def _secrets(self) -> list[str]:
        return [f"requirepass {self._password}", f"sentinel sentinel-pass {self._password}"] if self._password else []

    def wait_for_other_master(self, port: int) -> None:
        """Until another server than that of `port` is the master, because that was stopped or by a failover."""
        if not self.master.running:
            for sentinel in self.sentinels:
                sentinel.call("SENTINEL", "SET", "mymaster", "down-after-milliseconds", _QUICK_MS)
        wait_until(lambda: self.master_port() != port, "another master is named")

    @property
    def addresses(self) -> list[str]:
        return [sentinel.address for sentinel in self.sentinels]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(self.addresses)}/mymaster/0"

    def master_port(self) -> int:
        """Where the Sentinels say that the master is."""
        _, port = self.sentinels[0].call("SENTINEL", "get-master-addr-by-name", "mymaster")
        return int(port)

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _knows_all(sentinel: RedisServer) -> bool:
    reply = sentinel.call("SENTINEL", "master", "mymaster")
    state: dict[str, Any] = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    fields = {_text(name): _text(value) for name, value in state.items()}
    return (
        fields["num-other-sentinels"] == "2"
        and fields["num-slaves"] == "1"
        and fields["flags"] in ("master", "{'master'}")
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class RedisCluster:
    """Three masters that share the slots, each with `replicas` (0 or 1) replicas."""

    def __init__(
        self, *options: str, replicas: int = 0, program: str | None = None, tls: Certificates | None = None
    ) -> None:
        self._options = (*_AT_ONCE, *options)
        self._tls = tls
        self._replicas, self._program = replicas, program
        self._stack = contextlib.ExitStack()
        self.masters: list[RedisServer] = []
        self.replicas: list[RedisServer] = []

    def _node(self) -> RedisServer:
        node = RedisServer(
            "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
            *self._options, program=self._program,
        )  # fmt: skip
        if self._tls is not None:
            node.tls_port = free_port()
            node.add(*self._tls.options(node.tls_port), "--tls-cluster", "yes", "--tls-replication", "yes")
        return node

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.masters = [stack.enter_context(self._node()) for _ in range(3)]
            self.replicas = [stack.enter_context(self._node()) for _ in range(3 * self._replicas)]
            self._join()
            self._take_over_after(_PATIENT_MS)
            self._stack = stack.pop_all()
        return self

    def _take_over_after(self, milliseconds: int) -> None:
        for node in (*self.masters, *self.replicas):
            if node.running:
                node.call("CONFIG", "SET", "cluster-node-timeout", milliseconds)

    def _join(self) -> None:
        every = [*self.masters, *self.replicas]
        for n, node in enumerate(self.masters):
            first, after = SLOTS * n // 3, SLOTS * (n + 1) // 3
            node.call("CLUSTER", "ADDSLOTS", *range(first, after))
        for n, node in enumerate(every):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            if n:
                node.call("CLUSTER", "MEET", "127.0.0.1", every[0].tls_port or every[0].port)
        for node in every:
            wait_until(lambda node=node: len(self._known(node)) == len(every), "the nodes know each other")
        for node, master in zip(self.replicas, self.masters, strict=False):
            node.call("CLUSTER", "REPLICATE", _text(master.call("CLUSTER", "MYID")))
        for node in every:
            wait_until(lambda node=node: _state(node) == "ok", "the Cluster is ok")
        for node in self.replicas:
            wait_until(lambda node=node: node.info("replication")["master_link_status"] == "up", "replicas are in step")
        for node in every:
            wait_until(lambda node=node: self._replicas_seen(node) == len(self.replicas), "all know the replicas")

    @staticmethod
    def _known(node: RedisServer) -> list[str]:
        reply = node.call("CLUSTER", "NODES")
        return list(reply) if isinstance(reply, dict) else _text(reply).splitlines()

    @staticmethod
    def _replicas_seen(node: RedisServer) -> int:
        return sum(len(entry) - 3 for entry in _slots(node))

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.masters]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(self.addresses)}"

    def holder_of(self, key: str) -> RedisServer:
        """The server that holds the slot of `key` now."""
        asked = next(node for node in (*self.masters, *self.replicas) if node.running)
        slot = int(asked.call("CLUSTER", "KEYSLOT", key))
        port = next(int(entry[2][1]) for entry in _slots(asked) if int(entry[0]) <= slot <= int(entry[1]))
        return next(node for node in (*self.masters, *self.replicas) if node.port == port)

    def wait_for_replicas(self) -> None:
        """Until the replicas have all that the masters have."""
        for node in self.masters:
            wait_until(lambda node=node: node.call("WAIT", 1, 1000) >= 1, "the replicas have all")

    def wait_for_other_holder(self, key: str, holder: RedisServer) -> None:
        """Wait until another server holds the slot of `key` and reports the Cluster as ok."""
        if not holder.running:
            self._take_over_after(2 * _QUICK_MS)

        def held() -> bool:
            now = self.holder_of(key)
            return now is not holder and _state(now) == "ok"

        wait_until(held, "a replica has taken over")

    def move_slot(self, key: str, target: RedisServer, *, between: Any = None) -> None:
        """Move the slot of `key` and all its keys to `target`; `between()` is called half way."""
        source = self.holder_of(key)
        slot = int(source.call("CLUSTER", "KEYSLOT", key))
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", _text(source.call("CLUSTER", "MYID")))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", _text(target.call("CLUSTER", "MYID")))
        if between is not None:
            between()
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        owner = _text(target.call("CLUSTER", "MYID"))
        target.call("CLUSTER", "SETSLOT", slot, "NODE", owner)
        source.call("CLUSTER", "SETSLOT", slot, "NODE", owner)

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _slots(node: RedisServer) -> list[Any]:
    import redis

    client = redis.Redis(host="127.0.0.1", port=node.port, protocol=2, socket_timeout=30)
    try:
        client.response_callbacks.clear()
        found: list[Any] = client.execute_command("CLUSTER", "SLOTS")
        return found
    finally:
        client.close()


def _state(node: RedisServer) -> str:
    reply = node.call("CLUSTER", "INFO")
    if isinstance(reply, dict):
        return str(reply["cluster_state"])
    return dict(line.split(":") for line in _text(reply).split())["cluster_state"]
