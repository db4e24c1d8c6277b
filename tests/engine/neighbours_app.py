"""Tasks whose actions would end the loop of a careless worker, and neighbours that only wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from taskfleet import TaskQueue, current_task

queue = TaskQueue.from_config(queues=[{"name": "default", "lease_seconds": 30}])

_kept: list[Any] = []


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


async def _exit() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


async def _exit_group() -> None:
    raise BaseExceptionGroup("several", [SystemExit(1), KeyboardInterrupt()])


async def _generator_exit() -> None:
    raise GeneratorExit


def _in_future_of_loop(loop: asyncio.AbstractEventLoop) -> None:
    future = loop.create_future()
    future.add_done_callback(_interrupt)
    future.set_result(None)
    _kept.append(future)


def _cancel_all(mine: asyncio.Task[Any] | None) -> None:
    for task in asyncio.all_tasks() - {mine}:
        task.cancel()


def _from_thread(loop: asyncio.AbstractEventLoop) -> None:
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(sys.exit, 6))
    thread.start()
    thread.join()


MISCHIEF: dict[str, Callable[[asyncio.AbstractEventLoop], Any]] = {
    "sys.exit in a child task": lambda loop: _kept.append(loop.create_task(_exit())),
    "sys.exit in a callback": lambda loop: loop.call_soon(sys.exit, 4),
    "sys.exit in a timer": lambda loop: loop.call_later(0.01, sys.exit, 4),
    "sys.exit from another thread": _from_thread,
    "KeyboardInterrupt in a callback": lambda loop: loop.call_soon(_interrupt),
    "KeyboardInterrupt in a done-callback": _in_future_of_loop,
    "a group of both in a child task": lambda loop: _kept.append(loop.create_task(_exit_group())),
    "GeneratorExit in a child task": lambda loop: _kept.append(loop.create_task(_generator_exit())),
    "loop.stop()": lambda loop: loop.stop(),
    "cancelling all tasks": lambda _: _cancel_all(asyncio.current_task()),
    "cancelling all tasks later": lambda loop: loop.call_later(0.01, _cancel_all, asyncio.current_task()),
    "shutting down the generators": lambda loop: _kept.append(loop.create_task(loop.shutdown_asyncgens())),
    "no executor any more": lambda loop: _kept.append(loop.create_task(loop.shutdown_default_executor())),
    "closing the queue": lambda loop: _kept.append(loop.create_task(queue.close())),
    "closing the loop": lambda loop: loop.close(),
    "a task factory": lambda loop: loop.set_task_factory(lambda *_, **__: sys.exit(7)),
    "another loop for the thread": lambda _: asyncio.set_event_loop(asyncio.new_event_loop()),
    "handlers of signals": lambda _: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGTERM, signal.SIGINT)],
    "another directory": lambda _: os.chdir("/"),
}


# Actions that fail the task that tries them.
REFUSED = {"closing the loop", "a task factory"}


@queue.task(max_retries=0)
async def mischief(what: str) -> None:
    await asyncio.sleep(0.1)  # time for the neighbours to start
    MISCHIEF[what](asyncio.get_running_loop())
    await asyncio.sleep(0.1)


@queue.task(max_retries=0)
def mischief_in_thread(what: str) -> None:
    if what == "sys.exit":
        sys.exit(5)
    if what == "KeyboardInterrupt":
        raise KeyboardInterrupt

    async def main() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 2)
        await asyncio.sleep(1)

    asyncio.run(main())


async def _note(text: str) -> None:
    await queue.broker.client.redis.rpush(f"{queue.broker.prefix}:ledger", text)  # type: ignore[attr-defined]


@queue.task(max_retries=0)
async def neighbour(n: int) -> list[int]:
    await _note(f"began {n}")
    with contextlib.suppress(ValueError):
        await asyncio.sleep(0.5)
    return [current_task().attempt, current_task().delivery]


@queue.task(max_retries=0)
async def neighbour_with_children(n: int) -> int:
    await asyncio.gather(*(asyncio.sleep(0.5) for _ in range(n)))
    await asyncio.create_task(asyncio.sleep(0.1))
    return current_task().attempt


@queue.task(max_retries=0)
def asks_in_a_loop_of_its_own(n: int) -> str:
    async def main() -> str:
        await queue.queue_stats("default")
        await queue.health_check()
        return (await neighbour.enqueue(n)).id

    return asyncio.run(main())


@queue.task(max_retries=0)
def neighbour_in_thread(n: int) -> list[int]:
    threading.Event().wait(0.5)
    return [current_task().attempt, current_task().delivery]


async def main(seconds: float) -> None:
    """An application that runs workers on its own event loop."""
    async with queue:
        await queue.start_workers(1)
        await asyncio.sleep(seconds)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
