"""Draws docs/images/top.svg: the view of `taskfleet top` of a real Redis with real workers.

python -m tests.support.top_picture docs/images/top.svg
"""

from __future__ import annotations

import asyncio
import io
import random
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from taskfleet import QueueOptions, TaskQueue
from taskfleet.cli.top.choices import Choices
from taskfleet.cli.top.drawing import ScreenNotes, draw
from taskfleet.runtime.worker import Worker
from taskfleet.settings import RedisSettings, Settings, WorkerSettings
from taskfleet.watching.reading import FleetReading
from tests.support.redis_server import RedisServer

_COLUMNS, _ROWS = 100, 26
_SECONDS = 12


async def _picture(url: str) -> str:
    settings = Settings(redis=RedisSettings(url=url), workers=WorkerSettings(heartbeat_interval=0.5))
    options = [
        QueueOptions(name="orders", priority=10, concurrency=12), QueueOptions(name="mail", priority=5),
        QueueOptions(name="thumbnails"), QueueOptions(name="reports"),
    ]  # fmt: skip
    queue = TaskQueue(settings=settings, queues=options)

    @queue.task(name="charge", queue="orders", max_retries=0)
    async def charge(order: int) -> None:
        await asyncio.sleep(random.uniform(0.1, 0.5))
        if order % 97 == 42:
            raise ValueError(f"order {order} has no card")

    @queue.task(name="send_mail", queue="mail", max_retries=0)
    async def send_mail(n: int) -> None:
        await asyncio.sleep(0.05)
        if n % 150 == 99:
            raise ConnectionError("smtp.example does not answer")

    @queue.task(name="thumbnail", queue="thumbnails")
    async def thumbnail(n: int) -> None:
        await asyncio.sleep(random.uniform(2, 20))

    @queue.task(name="monthly_report", queue="reports")
    async def monthly_report() -> None:
        await asyncio.sleep(600)

    async def send() -> None:
        for n in range(10_000):
            await charge.enqueue(n)
            await send_mail.enqueue(2 * n)
            await send_mail.enqueue(2 * n + 1)
            await asyncio.sleep(0.04)

    await monthly_report.enqueue()
    for n in range(120):
        await thumbnail.enqueue(n)
        await thumbnail.options(delay=3600).enqueue(n)
    workers = [
        Worker(queue, name=f"shop-{n}", queues=names, concurrency=slots)
        for n, (names, slots) in enumerate([(["orders", "mail"], 12), (["thumbnails"], 6), (["reports"], 2)])
    ]
    work = [asyncio.create_task(worker.run()) for worker in workers] + [asyncio.create_task(send())]
    reading = FleetReading(queue)
    for _ in range(_SECONDS):
        snapshot = await reading.snapshot()
        await asyncio.sleep(1)
    console = Console(record=True, file=io.StringIO(), width=_COLUMNS, force_terminal=True, highlight=False)
    around = ScreenNotes("redis.example:6379")
    console.print(draw(snapshot, Choices(), around, _COLUMNS, _ROWS))
    for task in work:
        task.cancel()
    await asyncio.wait(work)
    await queue.close()
    svg = console.export_svg(title="taskfleet top --app shop.tasks:queue", theme=MONOKAI, unique_id="top")
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # it would load fonts from another site


def main(path: str) -> None:
    with RedisServer() as server:
        svg = asyncio.run(_picture(server.url))
    Path(path).write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
