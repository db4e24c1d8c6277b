"""One run of a plan: its Redis, its fleet, and the drain at its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from taskfleet.errors import BrokerConnectionError
from taskfleet.process import requests
from taskfleet.redis.broker import RedisBroker

from .embedded_valkey import EmbeddedValkey
from .loop import ControlLoop
from .plan import LocalPlan
from .process_fleet import LocalFleet
from .view import View

P = ParamSpec("P")

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: the most workers there were, those left, and whether all of them ended by draining."""

    peak: int
    left: int
    drained: bool


@contextlib.contextmanager
def redis_of(plan: LocalPlan, asked: str | None, folder: Path, view: View) -> Generator[str]:
    """The URL of the Redis to use; ends what it started."""
    chosen = asked or os.environ.get("REDIS_URL")
    if chosen and chosen != EMBEDDED:
        asyncio.run(_reach(chosen))
        yield chosen
        return
    if not chosen and plan.manifest_url:
        try:
            asyncio.run(_reach(plan.manifest_url))
        except BrokerConnectionError:
            view.say(f"{plan.manifest_url} cannot be reached from here: using an embedded Valkey, which keeps nothing")
        else:
            yield plan.manifest_url
            return
    with EmbeddedValkey(folder) as server:
        view.say(f"producers: export REDIS_URL={server.url}")
        yield server.url


async def run(plan: LocalPlan, redis_url: str, folder: Path, view: View, stop: asyncio.Event) -> Outcome:
    """Keep the fleet until `stop` is set or a signal comes, then drain it. A second signal ends it at once."""
    hurry = asyncio.Event()
    loop = asyncio.get_running_loop()

    asked = requests.Requests(stop.set, hurry.set)
    for number in requests.signals():
        loop.add_signal_handler(number, asked.heard, number)
    broker = RedisBroker.from_url(redis_url, prefix=plan.key_prefix, pool_size=4)
    fleet = LocalFleet(plan, broker, redis_url, folder)
    fleet.on_line, fleet.on_event = view.worker_line, view.say
    control = ControlLoop(plan, broker, fleet, view, redis_url)
    try:
        await control.run(stop)
    finally:
        left = fleet.replicas
        # What reads us may have gone, which is no reason to leave the workers behind.
        fleet.on_line, fleet.on_event = _if_read(view.worker_line), _if_read(view.say)
        if fleet.workers:
            fleet.on_event(
                f"draining {len(fleet.workers)} workers, at most {plan.drain_timeout_seconds} s; again to end now"
            )
        drained = await _end(fleet, hurry, plan.drain_timeout_seconds + 5.0)
        await broker.close()
    return Outcome(control.peak, left, drained)


def _if_read(tell: Callable[P, None]) -> Callable[P, None]:
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        with contextlib.suppress(OSError):
            tell(*args, **kwargs)

    return told


async def _end(fleet: LocalFleet, hurry: asyncio.Event, seconds: float) -> bool:
    """Drain all workers; kill what is left after `seconds` or when hurried. Whether nothing had to be killed."""
    fleet.terminate()
    deadline = asyncio.get_running_loop().time() + seconds
    killed = False
    while fleet.reap():
        if killed or hurry.is_set() or asyncio.get_running_loop().time() > deadline:
            fleet.kill()
            killed = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait() if killed else hurry.wait(), 0.05)
    return not killed


async def _reach(url: str) -> None:
    broker = RedisBroker.from_url(url, pool_size=1, connect_timeout=2, command_timeout=2)
    try:
        await broker.ping()
    finally:
        await broker.close()
