"""Judges what is around the keys: the servers, the workers, and queues that nobody works on. All functions are pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from taskfleet.doctor.finding import Diagnosis, Severity
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet.redis.doctor.servers import RedisFacts

OLDEST_REDIS, OLDEST_VALKEY = (6, 2), (7, 2)
CLOCK_SECONDS = 2.0  # a difference of clocks that delays and times to live do not notice
WORKER_CLOCK_SECONDS = 10.0  # a heartbeat may be on its way for some seconds
NEARLY_FULL = 0.9
LAG_SECONDS, BEHIND_BYTES = 10, 10_000_000
_NUMBER = re.compile(r"\d+")


def _warning(
    code: str, subject: str, what: str, repair: str, *, queue: str = "", severity: Severity = "warning"
) -> Diagnosis:
    return Diagnosis(code, severity, queue, subject, what, repair)


def of_servers(servers: Iterable[RedisFacts]) -> list[Diagnosis]:
    """What is dangerous about the servers."""
    return [finding for server in servers for finding in (*_memory(server), *_persistence(server), *_others(server))]


def _memory(server: RedisFacts) -> Iterable[Diagnosis]:
    if server.policy != "noeviction" and server.policy:
        lost = "results" if server.policy.startswith("volatile") else "tasks"
        yield _warning(
            "eviction", server.address, f"maxmemory-policy is {server.policy}: a full Redis drops {lost}",
            "CONFIG SET maxmemory-policy noeviction",
        )  # fmt: skip
    if server.most_bytes and server.used_bytes >= NEARLY_FULL * server.most_bytes:
        share = 100 * server.used_bytes // server.most_bytes
        yield _warning(
            "memory", server.address, f"{share}% of maxmemory is used, of {server.most_bytes} bytes",
            "raise maxmemory, drain or purge queues, or keep results for a shorter time",
        )  # fmt: skip


def _persistence(server: RedisFacts) -> Iterable[Diagnosis]:
    if not server.appends and server.saves is not True:
        snapshots = "snapshots are off" if server.saves is False else "it does not tell whether it writes snapshots"
        yield _warning(
            "persistence", server.address, f"AOF is off, and {snapshots}: a restart may lose all tasks",
            "CONFIG SET appendonly yes",
        )  # fmt: skip
    elif not server.appends:
        yield _warning(
            "persistence", server.address, "AOF is off: a restart loses the tasks since the last snapshot",
            "CONFIG SET appendonly yes",
        )  # fmt: skip
    if not server.appends_well or not server.saves_well:
        yield _warning(
            "persistence-fails", server.address, "the last write to its disk has failed", "look at its log and its disk"
        )


def _others(server: RedisFacts) -> Iterable[Diagnosis]:
    numbers = tuple(int(number) for number in _NUMBER.findall(server.version)[:2])
    oldest = OLDEST_VALKEY if server.is_valkey else OLDEST_REDIS
    if numbers and numbers < oldest:
        kind, least = "Valkey" if server.is_valkey else "Redis", ".".join(map(str, oldest))
        yield _warning(
            "old-server",
            server.address,
            f"{kind} {server.version} is older than {least}",
            f"upgrade it to {least} or later",
        )
    if abs(server.clock_seconds) - server.clock_error_seconds > CLOCK_SECONDS:
        yield _warning(
            "clock", server.address, f"its clock is {_apart(server.clock_seconds)} this machine's",
            "synchronize both clocks (NTP)",
        )  # fmt: skip
    for replica in server.replicas:
        if not replica.online or replica.lag_seconds > LAG_SECONDS or replica.bytes_behind > BEHIND_BYTES:
            state = "" if replica.online else "not online, "
            yield _warning(
                "replica-behind", replica.address,
                f"the replica is {state}{replica.bytes_behind} bytes behind, silent for {replica.lag_seconds} s",
                "look at its log and the network: a failover would lose what it lacks",
            )  # fmt: skip


def of_workers(workers: Sequence[WorkerInfo], cordons: Iterable[str], version: str) -> list[Diagnosis]:
    """What is odd about the workers. `version` is that of this program."""
    found: list[Diagnosis] = []
    for worker in sorted(workers, key=lambda each: each.worker_id):
        if worker.version and worker.version != version:
            what = f"it runs version {worker.version}, and this program is {version}"
            found.append(
                _warning("worker-version", worker.worker_id, what, "restart it with the version of the others")
            )
        if abs(worker.clock_skew_seconds) > WORKER_CLOCK_SECONDS:
            what = f"its clock is {_apart(worker.clock_skew_seconds)} that of Redis"
            found.append(_warning("clock", worker.worker_id, what, "synchronize both clocks (NTP)"))
    names = {worker.name for worker in workers}
    found += [
        _warning(
            "cordon-left", name, "a worker of this name is cordoned, and none lives", "nothing: a cordon ends by itself"
        )
        for name in sorted(set(cordons) - names)
    ]
    return found


def of_queues(stats: Mapping[str, QueueStats], workers: Sequence[WorkerInfo], known: Iterable[str]) -> list[Diagnosis]:
    """Queues with work that nobody does. `known` are those that the settings here, or a worker, name."""
    served = {queue for worker in workers for queue in worker.queues}
    named = served | set(known)
    found: list[Diagnosis] = []
    for queue, figures in sorted(stats.items()):
        work = figures.ready + figures.in_flight + figures.delayed + figures.blocked
        if not work:
            continue
        tasks = f"{work} task{'' if work == 1 else 's'}"
        if queue not in named:
            what = f"{tasks}, and neither a worker nor the settings here know this queue"
            found.append(
                _warning("queue-unknown", queue, what, "start a worker of its application, or purge it", queue=queue)
            )
        elif queue not in served:
            found.append(_warning("queue-unserved", queue, f"{tasks}, and no worker", "start a worker", queue=queue))
        if figures.paused:
            what = f"it is paused, with {tasks}"
            found.append(_warning("queue-paused", queue, what, f"taskfleet resume {queue}", queue=queue))
    return found


def _apart(seconds: float) -> str:
    return f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'}"
