"""A worker's memory is bounded by its slots and limits, for any payloads: docs/explanation/bytes.md."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskfleet import TaskQueue
from taskfleet.child_process import ends_with_this_process
from tests.engine import app
from tests.engine.conftest import until
from tests.engine.test_sealing import push

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MB = 1_000_000
Start = Callable[..., int]


def highest_mb(pid: int) -> int:
    """The peak memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) // 1000 for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.fixture
def start_worker(queue: TaskQueue) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(slots: int, most_mb: int = 4000, **settings: str) -> int:
        end_with_this_process = ends_with_this_process()

        def limited() -> None:
            end_with_this_process()
            resource.setrlimit(resource.RLIMIT_DATA, (most_mb * MB, most_mb * MB))

        environment = {"REDIS_URL": queue.url, "TASKFLEET_REDIS__KEY_PREFIX": queue.broker.prefix, **settings}
        process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", "worker", "tests.engine.app:queue", "--concurrency", str(slots)],
            env=os.environ | environment,
            stderr=subprocess.DEVNULL,
            preexec_fn=limited,
        )
        started.append(process)
        return process.pid

    yield start
    for process in started:
        process.terminate()
        process.wait(60)


async def test_a_worker_holds_so_many_bytes_for_each_slot_and_no_more(queue: TaskQueue, start_worker: Start) -> None:
    slots, tasks = 64, 400
    small = await queue.enqueue(app.mirror.message(b"first"))
    pid = start_worker(slots)
    assert await small.result(timeout=60) == b"first"
    before = highest_mb(pid)
    data = os.urandom(MB)
    # All tasks of a round end at the same time.
    await queue.enqueue_many([app.mirror.options(result_ttl=5).message(data, 0.3) for _ in range(tasks)])

    async def done() -> bool:
        return (await queue.queue_stats("default")).finished_total == tasks + 1

    await until(done, "all are done", seconds=120)
    # Each slot holds a payload, its decoded arguments and a result. A few calls and replies are added.
    assert highest_mb(pid) - before < 3 * slots * 1.05 + 200


@pytest.mark.parametrize("security", [{}, {"TASKFLEET_SECURITY__SIGNING_KEYS": "k" * 32}], ids=["plain", "signed"])
async def test_a_worker_of_half_a_gigabyte_survives_payloads_made_to_kill_it(
    queue: TaskQueue, start_worker: Start, security: dict[str, str]
) -> None:
    stamp = struct.pack(">d", time.time() * 1000)
    maps = b"\xdd\x00\x98\x96\x80" + b"\x80" * 10_000_000
    nested = b"\x91" * 900_000
    million = b"\xdd" + struct.pack(">I", 1_000_000) + b"\x80" * 1_000_000
    hostile = [
        *(
            head + maps
            for head in (b"", b"\x95\x02", b"\x94\x01\xa4work", b"\x93\x07", b"\x95\x02\x02\xc4\x04abcd\xc4\x20")
        ),
        *(head + nested for head in (b"", b"\x95\x02", b"\x94\x01\xa4note")),
        *(b"\x94\x01\xa4note" + million + b"\x80" for _ in range(8)),
        bytes(70 * MB),
    ]
    for number, data in enumerate(hostile):
        await push(queue, f"hostile{number}", stamp + data)
    pid = start_worker(16, most_mb=512, **security)

    async def empty() -> bool:
        stats = await queue.queue_stats("default")
        return stats.dead == len(hostile) and not (stats.ready or stats.in_flight or stats.delayed)

    await until(empty, "all are dead letters", seconds=60)
    assert {letter.id for letter in await queue.dead_letters("default")} == {f"hostile{n}" for n in range(len(hostile))}
    assert highest_mb(pid) < 512
    assert Path(f"/proc/{pid}/status").read_text().count("State:\tZ") == 0
