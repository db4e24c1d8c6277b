"""The application of the pods on process nodes: it notes every start and end of a task, in Redis, beside its queues."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets

import redis.asyncio

from taskfleet import TaskQueue

queue = TaskQueue.from_config()

# An image whose name says so fails at its start, as a broken release does.
if "crashing" in os.environ.get("PROCESS_NODE_IMAGE", ""):
    raise SystemExit("this release is broken: no module named shop.prices")


def journal(key_prefix: str) -> str:
    """The list in Redis with an entry for each start and end: `start|end|cut number pod image note`.

    An entry whose reply was lost is written again; the note, a random text, tells the two from two runs.
    """
    return f"journal:{key_prefix}"


def gate(key_prefix: str) -> str:
    """The set in Redis with the numbers of the tasks that may end, of those that run until they may."""
    return f"gate:{key_prefix}"


def _client() -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(os.environ["REDIS_URL"], password=_password(), socket_timeout=1)


async def _note(verb: str, number: int) -> None:
    settings = queue.settings.redis
    who = os.environ.get("TASKFLEET_WORKER_NAME", "?"), os.environ.get("PROCESS_NODE_IMAGE", "?"), secrets.token_hex(8)
    client = _client()
    try:
        while True:
            try:
                await client.rpush(journal(settings.key_prefix), " ".join((verb, str(number), *who)))
                return
            except (redis.asyncio.RedisError, OSError):
                await asyncio.sleep(0.2)  # a test takes Redis away for a while
    finally:
        await client.aclose()


async def _let_go(number: int) -> None:
    """Wait until the test lets this task end."""
    client = _client()
    try:
        while True:
            with contextlib.suppress(redis.asyncio.RedisError, OSError):
                if await client.sismember(gate(queue.settings.redis.key_prefix), str(number)):
                    return
            await asyncio.sleep(0.2)
    finally:
        await client.aclose()


def _password() -> str | None:
    file = queue.settings.redis.password_file
    return file.read_text().strip() if file is not None else None


@queue.task
async def work(number: int, seconds: float | None) -> int:
    """Take `seconds`; None: until its number is in the `gate`."""
    await _note("start", number)
    try:
        await (asyncio.sleep(seconds) if seconds is not None else _let_go(number))
    except asyncio.CancelledError:
        await _note("cut", number)
        raise
    await _note("end", number)
    return number
