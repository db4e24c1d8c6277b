"""A real dashboard beside a real Valkey, a worker and a scheduler, on a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Awaitable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from taskfleet import QueueOptions, Retry, TaskQueue, chain
from taskfleet.runtime.worker import Worker
from taskfleet.settings import RedisSettings, Settings, WorkerSettings
from taskfleet_dashboard import dashboard
from taskfleet_dashboard.access.visitor import OpenAccess
from taskfleet_dashboard.app import application
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.serving import Serving


class RealFleet:
    """`call(coroutine)` runs one on the fleet's loop. `gate` keeps the task `shop.pack` running until it is set."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._problem: BaseException | None = None
        self.url = ""
        self.mounted_url = ""
        self.tasks: dict[str, Any] = {}

    def call(self, coroutine: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await coroutine

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    def open_gate(self) -> None:
        self._loop.call_soon_threadsafe(self.gate.set)

    @contextlib.contextmanager
    def running(self) -> Iterator[RealFleet]:
        thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        thread.start()
        assert self._started.wait(60), "the fleet did not start"
        if self._problem:
            raise self._problem
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._end.set)
            thread.join(60)
            assert not thread.is_alive()
            self._loop.close()

    async def _run(self) -> None:
        self._end = asyncio.Event()
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._start(stack)
                self._started.set()
                await self._end.wait()
                self.gate.set()
        except BaseException as problem:
            self._problem = problem
            self._started.set()
            raise

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        settings = Settings(
            redis=RedisSettings(url=self._url, key_prefix=f"browser-{secrets.token_hex(4)}"),
            workers=WorkerSettings(max_concurrent_tasks=4, heartbeat_interval=0.5, shutdown_grace_period=5),
        )
        queue = self.queue = TaskQueue(
            settings=settings, queues=[QueueOptions(name="default"), QueueOptions(name="mail")]
        )
        stack.push_async_callback(queue.close)
        self.gate = asyncio.Event()
        self._define(queue)
        worker = Worker(queue, name="shop-1")
        working = asyncio.create_task(worker.run())

        async def stop_worker() -> None:
            worker.drain()
            await working

        stack.push_async_callback(stop_worker)
        serving = Serving(queue, OpenAccess(), masks=Masks(("password",)), records=True)
        self.url = await self._serve(stack, application(serving, hosts=["127.0.0.1"]))
        mounted = Starlette(routes=[Mount("/ops/queues", dashboard(queue, access=lambda _: True))])
        self.mounted_url = await self._serve(stack, mounted) + "/ops/queues"

    async def _serve(self, stack: contextlib.AsyncExitStack, app: Any) -> str:
        config = uvicorn.Config(app, "127.0.0.1", 0, log_config=None, lifespan="on", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        serves = asyncio.create_task(server.serve())

        async def stop() -> None:
            server.should_exit = True
            await serves

        stack.push_async_callback(stop)
        while not server.started:
            assert not serves.done(), "the dashboard does not serve"
            await asyncio.sleep(0.01)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    def _define(self, queue: TaskQueue) -> None:
        gate = self.gate

        @queue.task(name="shop.charge", queue="default", max_retries=0)
        async def charge(order: str, password: str = "", note: str = "") -> str:
            raise ValueError(f"card declined for {order} {note}")

        @queue.task(name="shop.pack", queue="default", max_retries=0, timeout=120)
        async def pack(order: str) -> str:
            from taskfleet import current_task

            await current_task().progress(1, 2, "packing")
            await gate.wait()
            return f"packed {order}"

        @queue.task(name="shop.send", queue="mail", max_retries=1, retry=Retry.fixed(60))
        async def send(text: str) -> str:
            return f"sent {text}"

        self.tasks = {"charge": charge, "pack": pack, "send": send}

    def workflow(self) -> Any:
        """A chain whose first task runs until the gate opens."""
        return self.queue.enqueue(chain(self.tasks["pack"].message("o-2"), self.tasks["send"].partial()))
