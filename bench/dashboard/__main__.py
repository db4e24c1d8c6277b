"""The load test of the dashboard, in two parts.

Live: workers that are full with about 5,000 tasks a second, among 1,000 queues, by turns without and with a dashboard
that 20 browsers watch. Then 1,000,000 tasks in Redis: how long the first answer of each page takes, and when a browser
has painted it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from dataclasses import dataclass

import httpx
from tests.support.redis_server import RedisServer

from bench.dashboard import paints
from bench.dashboard.programs import Browsers, Dashboard, Program, first_answer, workers
from bench.errors import BenchError

SECONDS_OF_A_TASK = 0.02
_SETTLE_SECONDS = 4.0
_CHUNK = 5000


@dataclass(frozen=True)
class Window:
    """Figures of one stretch of time, all per second; `dashboard_*` are 0 without one."""

    tasks: float
    redis_cpu: float
    workers_cpu: float
    dashboard_cpu: float = 0.0
    dashboard_commands: float = 0.0
    dashboard_mb: float = 0.0
    events: float = 0.0


def pages(queues: list[str], browsers: int) -> list[str]:
    """The topics of the pages that are open: half look at the overview, the others at all the rest."""
    others = [
        f"queue:{queues[0]}", f"queue:{queues[len(queues) // 2]}", "workers", "dead", "schedules", "overview,workers",
    ]  # fmt: skip
    return ["overview" if number % 2 == 0 else others[number // 2 % len(others)] for number in range(browsers)]


class Load:
    """The queues of the bench, and their workers."""

    def __init__(self, server: RedisServer, running: list[Program]) -> None:
        from bench.dashboard.application import BUSY, QUEUES, nap, queue

        self._server = server
        self._workers = running
        self._nap = nap
        self._queue = queue
        self.queues = QUEUES
        self._busy = BUSY

    async def finished(self) -> int:
        return sum(stats.finished_total for stats in (await self._queue.get_metrics()).values())

    async def waiting(self) -> int:
        return sum(stats.ready for stats in (await self._queue.get_metrics()).values())

    async def top_up(self, tasks: int) -> None:
        """So many tasks wait, spread evenly over the busy queues."""
        missing = tasks - await self.waiting()
        messages = [
            self._nap.message(SECONDS_OF_A_TASK).to(self._busy[number % len(self._busy)])
            for number in range(max(0, missing))
        ]
        for start in range(0, len(messages), _CHUNK):
            await self._queue.enqueue_many(messages[start : start + _CHUNK])

    async def fill(self) -> None:
        """Each queue has a few tasks that wait for their time."""
        later = self._nap.options(delay=86_400).message(SECONDS_OF_A_TASK)
        await self._queue.enqueue_many([later.to(name) for name in self.queues for _ in range(5)])

    async def runs(self, tasks: int) -> None:
        """Wait until so many tasks have ended: the workers are there."""
        while await self.finished() < tasks:  # noqa: ASYNC110 - other processes tell nobody
            await asyncio.sleep(0.2)

    async def window(
        self, seconds: float, dashboard: Dashboard | None = None, browsers: Browsers | None = None
    ) -> Window:
        """Measure for so long. Whoever is to run runs already."""
        async with httpx.AsyncClient(timeout=60) as client:
            commands = await dashboard.commands(client) if dashboard is not None else 0.0
            asked = time.monotonic()
            cpu = self._cpu(dashboard)
            events = browsers.events if browsers is not None else 0
            before, began = await self.finished(), time.monotonic()
            await asyncio.sleep(seconds)
            after, ended = await self.finished(), time.monotonic()
            took = ended - began
            spent = [(now - then) / took for now, then in zip(self._cpu(dashboard), cpu, strict=True)]
            if dashboard is not None:
                # The second scrape reads queues as well, and the first one's were counted before.
                commands = (await dashboard.commands(client) - commands) / (time.monotonic() - asked)
        if not await self.waiting():
            raise BenchError("the tasks ran out before the end of a window: give shorter --seconds")
        return Window(
            (after - before) / took,
            *spent,
            dashboard_commands=commands,
            dashboard_mb=dashboard.memory_mb if dashboard is not None else 0.0,
            events=(browsers.events - events) / took if browsers is not None else 0.0,
        )

    def _cpu(self, dashboard: Dashboard | None) -> tuple[float, float, float]:
        redis = self._server.info("cpu")
        return (
            float(redis["used_cpu_user"]) + float(redis["used_cpu_sys"]),
            sum(each.cpu_seconds for each in self._workers),
            dashboard.cpu_seconds if dashboard is not None else 0.0,
        )


async def live(server: RedisServer, options: argparse.Namespace) -> None:
    busy = [f"bench-{number:04}" for number in range(options.busy)]
    with workers(server.url, options.processes, options.slots, busy) as running:
        load = Load(server, running)
        await load.fill()
        backlog = (
            int((options.seconds + _SETTLE_SECONDS) * options.processes * options.slots / SECONDS_OF_A_TASK * 1.5)
            + 20_000
        )
        await load.top_up(backlog)
        async with asyncio.timeout(120):
            await load.runs(options.processes * options.slots * 10)
        without: list[Window] = []
        beside: list[Window] = []
        for pair in range(options.pairs):
            # By turns, and each first as often as second: what changes on the machine falls on both alike.
            for watched in (False, True) if pair % 2 == 0 else (True, False):
                if not watched:
                    await load.top_up(backlog)
                    await asyncio.sleep(_SETTLE_SECONDS)
                    without.append(await load.window(options.seconds))
                    continue
                dashboard, browsers = await asyncio.to_thread(Dashboard, server.url), Browsers()
                try:
                    async with browsers.watching(dashboard.address, pages(load.queues, options.browsers)):
                        await load.top_up(backlog)
                        await asyncio.sleep(_SETTLE_SECONDS)
                        beside.append(await load.window(options.seconds, dashboard, browsers))
                finally:
                    await asyncio.to_thread(dashboard.end)
            print(f"pair {pair + 1}: {without[-1].tasks:,.0f} and {beside[-1].tasks:,.0f} tasks/s", flush=True)
    _report(without, beside, options)


def _report(without: list[Window], beside: list[Window], options: argparse.Namespace) -> None:
    def middle(windows: list[Window], name: str) -> float:
        return statistics.median(getattr(each, name) for each in windows)

    ratios = sorted(with_.tasks / plain.tasks for plain, with_ in zip(without, beside, strict=True))
    ratio = statistics.median(ratios)
    print(
        f"{options.browsers} browsers, {options.queues} queues, {options.busy} of them busy, "
        f"{options.processes} workers with {options.slots} slots each; "
        f"medians of {options.pairs} pairs of {options.seconds:g} s"
    )
    print(f"tasks a second without a dashboard  {middle(without, 'tasks'):10,.0f}")
    print(f"tasks a second with one             {middle(beside, 'tasks'):10,.0f}")
    print(f"ratio of a pair, and the range      {ratio:10.3f}  {ratios[0]:.3f} to {ratios[-1]:.3f}")
    print(f"its commands to Redis a second      {middle(beside, 'dashboard_commands'):10.0f}")
    print(f"its processor time, % of a core     {middle(beside, 'dashboard_cpu') * 100:10.1f}")
    print(f"its memory, MB                      {middle(beside, 'dashboard_mb'):10.0f}")
    print(f"events a second, to all browsers    {middle(beside, 'events'):10.0f}")
    for name, told in (("redis_cpu", "Redis"), ("workers_cpu", "the workers")):
        plain, with_ = middle(without, name) * 100, middle(beside, name) * 100
        print(f"processor time of {told + ', % of a core':17} {plain:10.1f}  and with it {with_:.1f}")


PAGES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("overview", "overview", {"sort": "ready"}),
    ("a queue", "queues/{queue}", {}),
    ("… its history", "queues/{queue}/history", {"span": "24h"}),
    ("tasks of all queues", "tasks", {}),
    ("tasks of a queue, delayed", "tasks", {"queue": "{queue}", "state": "delayed"}),
    ("search for an id", "tasks", {"q": "{id}"}),
    ("search for a text that is nowhere", "tasks", {"queue": "{queue}", "q": "nowhere-to-be-found"}),
    ("one task", "tasks/{id}", {}),
    ("dead letters", "dead", {}),
    ("schedules", "schedules", {}),
    ("workers", "workers", {}),
    ("limit and fair keys", "keys", {}),
    ("record of changes", "audit", {}),
)


async def many(server: RedisServer, options: argparse.Namespace) -> None:
    """The first answer of each page of a dashboard that has just started, with many tasks in Redis."""
    from bench.dashboard.application import QUEUES, nap, queue

    began = time.monotonic()
    one = ""
    heavy = QUEUES[0]
    for start in range(0, options.tasks, _CHUNK):
        # Half of all tasks are in one queue.
        messages = [
            (nap.options(delay=3600) if number % 10 == 0 else nap)
            .message(SECONDS_OF_A_TASK)
            .to(heavy if number % 2 else QUEUES[number // 2 % len(QUEUES)])
            for number in range(start, min(options.tasks, start + _CHUNK))
        ]
        one = (await queue.enqueue_many(messages))[1].id
    total = sum(stats.ready + stats.delayed for stats in (await queue.get_metrics()).values())
    print(f"{total:,} tasks in {len(QUEUES)} queues, {time.monotonic() - began:.0f} s to send them", flush=True)
    found: dict[str, list[float]] = {name: [] for name, _, _ in PAGES}
    sizes: dict[str, int] = {}
    for _ in range(options.starts):
        dashboard = await asyncio.to_thread(Dashboard, server.url)
        try:
            async with httpx.AsyncClient(timeout=120) as client:
                for name, path, params in PAGES:
                    given = {key: value.format(queue=heavy, id=one) for key, value in params.items()}
                    path = path.format(queue=heavy, id=one)
                    seconds, sizes[name] = await first_answer(client, dashboard.address, path, **given)
                    found[name].append(seconds)
        finally:
            await asyncio.to_thread(dashboard.end)
    print(f"first answer of each page after a start, ms, median and longest of {options.starts} starts")
    for name, values in found.items():
        middle, longest = statistics.median(values) * 1000, max(values) * 1000
        print(f"{name:34} {middle:7.0f} {longest:7.0f}   {sizes[name] / 1024:6.1f} KB")
    await asyncio.to_thread(paint, server.url, heavy)


def paint(url: str, queue: str) -> None:
    """The first paint of some pages in a real browser, from a dashboard that has just started."""
    program = paints.browser()
    if program is None:
        print("no Chromium: the first paint is not measured")
        return
    dashboard = Dashboard(url)
    try:
        paths = ["/", "/", "/tasks", "/dead", f"/queues/{queue}"]
        found = paints.first_paints(program, dashboard.address, paths)
    finally:
        dashboard.end()
    print("in a new browser with an empty cache, ms: first paint, and its figures")
    for path, painted, figures in found:
        print(f"{path:34} {painted:7.0f} {figures:7.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one window")
    parser.add_argument("--browsers", type=int, default=20)
    parser.add_argument("--queues", type=int, default=1000)
    parser.add_argument("--busy", type=int, default=20, help="queues with the tasks that run")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--slots", type=int, default=75, help="of each worker; its tasks take 20 ms")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="0: leave that part out")
    parser.add_argument("--starts", type=int, default=3)
    options = parser.parse_args()
    os.environ["BENCH_QUEUES"], os.environ["BENCH_BUSY"] = str(options.queues), str(options.busy)
    with RedisServer() as server:
        os.environ["REDIS_URL"] = server.url
        if options.pairs:
            asyncio.run(live(server, options))
        if options.tasks:
            server.call("FLUSHALL")
            asyncio.run(many(server, options))


if __name__ == "__main__":
    main()
