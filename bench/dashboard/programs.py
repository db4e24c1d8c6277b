"""The processes of the bench: workers, the dashboard, and browsers as far as the server sees them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.errors import BenchError
from taskfleet.child_process import ends_with_this_process

APP = "bench.dashboard.application:queue"
_COMMANDS = "taskfleet_dashboard_redis_commands_total"


class Program:
    """A command of ours that runs."""

    def __init__(self, url: str, *arguments: str, **environment: str) -> None:
        self._stopping = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "REDIS_URL": url, "TASKFLEET_LOG_LEVEL": "WARNING", **environment},
            preexec_fn=ends_with_this_process(),
        )

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mb(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1_048_576

    def stop(self) -> None:
        """Ask it to end. A second time would cut it short."""
        if not self._stopping:
            self._stopping = True
            self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """End it, and wait until it has."""
        self.stop()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def workers(url: str, processes: int, slots: int, queues: list[str]) -> Iterator[list[Program]]:
    """Workers that serve these queues."""
    started = [
        Program(url, "worker", APP, "--queues", ",".join(queues), "--concurrency", str(slots), "--number", str(number))
        for number in range(processes)
    ]
    try:
        yield started
    finally:
        for each in started:
            each.stop()
        for each in started:
            each.end()


class Dashboard(Program):
    """`taskfleet dashboard` with its default options."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "dashboard", "--app", APP, "--port", "0")
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("dashboard: "):
            raise BenchError("the dashboard does not start")
        self.address = line.removeprefix("dashboard: ").strip()

    async def commands(self, client: httpx.AsyncClient) -> float:
        """The commands that it has sent to Redis so far, for whatever purpose."""
        text = (await client.get(f"{self.address}/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == _COMMANDS
        )


class Browsers:
    """Open pages: each is a stream, whose events are read and thrown away."""

    def __init__(self) -> None:
        self.events = 0
        self.began: set[int] = set()

    @contextlib.asynccontextmanager
    async def watching(self, address: str, pages: list[str]) -> AsyncIterator[None]:
        """All pages are open, and each has had its first event."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            open_ones = [
                asyncio.create_task(self._watch(client, address, number, topics)) for number, topics in enumerate(pages)
            ]
            try:
                async with asyncio.timeout(60):
                    while len(self.began) < len(pages):
                        for each in open_ones:
                            if each.done():
                                each.result()
                        await asyncio.sleep(0.05)
                yield
            finally:
                for each in open_ones:
                    each.cancel()
                await asyncio.gather(*open_ones, return_exceptions=True)

    async def _watch(self, client: httpx.AsyncClient, address: str, number: int, topics: str) -> None:
        async with client.stream("GET", f"{address}/api/events", params={"topics": topics}) as response:
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                self.events += chunk.count(b"event: ")
                if b"event: " in chunk:
                    self.began.add(number)


async def first_answer(client: httpx.AsyncClient, address: str, path: str, **params: Any) -> tuple[float, int]:
    """Seconds until the whole answer is there, and its bytes."""
    began = asyncio.get_running_loop().time()
    response = await client.get(f"{address}/api/{path}", params=params)
    if response.status_code != 200:
        raise BenchError(f"{path}: {response.status_code} {response.text[:200]}")
    return asyncio.get_running_loop().time() - began, len(response.content)
