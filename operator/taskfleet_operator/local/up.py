"""`taskfleet up FILE`: a TaskQueue manifest on this machine, without a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from taskfleet.cancellation import end
from taskfleet.embedded_valkey import EmbeddedValkey
from taskfleet.errors import BrokerConnectionError, TaskQueueError
from taskfleet.history import Recorder
from taskfleet.process import dashboard_process, requests
from taskfleet.process.dashboard_process import DashboardProcess
from taskfleet.protocol import stats
from taskfleet.redis import urls
from taskfleet.redis.broker import RedisBroker
from taskfleet.settings import RedisSettings
from taskfleet.supervising import supervise

from ..resource.manifest import load_manifest
from ..scaling.loop import ScalingLoop
from ..scaling.shared_redis import SharedRedis
from . import view
from .local_schedules import LocalSchedules
from .local_workers import LocalWorkers
from .manifest_redis import LocalRedis
from .plan import LocalPlan, plan_of
from .process_fleet import ProcessFleet
from .view import View

P = ParamSpec("P")

EMBEDDED = "embedded"
_TEND_SECONDS = 0.2
_REACH_SECONDS = 2
_DRAIN_MARGIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run: the most workers at a time, the number left, and whether all of them ended by draining."""

    peak: int
    left: int
    drained: bool


def up(
    file: Path,
    *,
    redis_url: str | None,
    json_lines: bool,
    dashboard: bool = True,
    dashboard_port: int | None = None,
) -> int:
    """Run a TaskQueue manifest on this machine until Ctrl-C or SIGTERM; returns the exit code.

    `redis_url` is a URL or "embedded". Without it `REDIS_URL` is used, then the manifest's own URL. If that one cannot
    be reached from this machine, such as the address of a cluster's Service, an embedded Valkey is started. With
    `dashboard` a process serves it on `dashboard_port`, or on 8080 or any other. Raises ConfigurationError for an
    invalid manifest, BrokerConnectionError for a requested Redis that does not answer.
    """
    plan = plan_of(load_manifest(file), file.parent)
    shown = view.choose(json_lines=json_lines)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="taskfleet-up-") as folder,
            chosen_redis(plan, redis_url, Path(folder), shown) as redis,
            dashboard_of(plan, redis, shown, dashboard_port, wanted=dashboard) as beside,
        ):
            for line in plan.only_in_a_cluster:
                shown.say(line)
            outcome = asyncio.run(run(plan, redis, Path(folder), shown, asyncio.Event(), beside))
    finally:
        shown.close()
    return 0 if outcome.drained else 1


@contextlib.contextmanager
def chosen_redis(plan: LocalPlan, asked: str | None, folder: Path, shown: View) -> Generator[LocalRedis]:
    """The Redis to use. A Valkey that was started for it ends with the block."""
    chosen = asked or os.environ.get("REDIS_URL")
    if chosen and chosen != EMBEDDED:
        redis = LocalRedis(chosen)
        _reach(redis, shown)
        yield redis
        return
    if not chosen:
        missing = plan.redis.missing(os.environ)
        for line in missing:
            shown.say(line)
        redis = plan.redis.here
        try:
            if not missing:
                _reach(redis, shown)
        except BrokerConnectionError:
            shown.say(f"{redis.url} cannot be reached from here: using an embedded Valkey, which keeps nothing")
        else:
            if not missing:
                yield redis
                return
    shown.say("starting an embedded Valkey")
    with EmbeddedValkey(folder) as server:
        shown.say(f"producers: export REDIS_URL={server.url}")
        yield LocalRedis(server.url, settings=RedisSettings(), kept=False)


def dashboard_of(
    plan: LocalPlan, redis: LocalRedis, shown: View, port: int | None = None, *, wanted: bool = True
) -> contextlib.AbstractContextManager[DashboardProcess | None]:
    """The dashboard of this fleet, for the time of the block; None when nobody wants it or a package is missing."""
    environment = {**os.environ, **plan.environment, **redis.environment, "REDIS_URL": redis.url}
    return dashboard_process.beside(plan.app, port, shown.say, wanted=wanted, environment=environment)


async def run(
    plan: LocalPlan,
    redis: LocalRedis,
    folder: Path,
    shown: View,
    stop: asyncio.Event,
    dashboard: DashboardProcess | None = None,
) -> Outcome:
    """Keep the fleet until `stop` is set or a signal comes, then drain it. A second signal ends it at once.

    The `dashboard` is tended meanwhile; who started it ends it.
    """
    hurry = asyncio.Event()
    asked = requests.Requests(stop.set, hurry.set)
    for number in requests.signals():
        asyncio.get_running_loop().add_signal_handler(number, asked.heard, number)
    broker = redis.broker(prefix=plan.key_prefix, pool_size=4)
    workers = LocalWorkers(
        dataclasses.replace(plan, environment={**plan.environment, **redis.environment}), redis.url, folder
    )
    workers.on_line, workers.on_event, workers.on_start = shown.worker_line, shown.say, shown.say
    fleet = ProcessFleet(f"{plan.name}  {redis.url}", plan.order, workers, shown)
    schedules = LocalSchedules(
        plan.owner, plan.schedules, {target.name for target in plan.order.queues}, broker, shown.say
    )
    try:
        await _keep(fleet, workers, broker, schedules, stop, dashboard, scaler=f"local/{plan.name}")
    finally:
        left = workers.wanted
        # The reader of stdout may be gone. The workers are drained all the same.
        workers.on_start = _if_read(shown.say)
        workers.on_line, workers.on_event = _if_read(shown.worker_line), _if_read(shown.say)
        if workers.all:
            workers.on_event(
                f"draining {len(workers.all)} workers, at most {plan.drain_timeout_seconds} s; again to end now"
            )
        drained = await _end(workers, hurry, plan.drain_timeout_seconds + _DRAIN_MARGIN_SECONDS)
        await schedules.remove()
        workers.on_event(await _left(plan, redis, broker))
        await broker.close()
    return Outcome(workers.peak, left, drained)


async def _left(plan: LocalPlan, redis: LocalRedis, broker: RedisBroker) -> str:
    """A sentence about the tasks that have not ended."""
    try:
        async with asyncio.timeout(_REACH_SECONDS):
            left = stats.left_over(await broker.stats_many([queue.name for queue in plan.order.queues]))
    except (TaskQueueError, TimeoutError, OSError) as error:
        return f"ended; what is left cannot be read: {error or 'Redis does not answer'}"
    if not left:
        return "ended; no task is left"
    return f"ended; left in Redis: {left}" if redis.kept else f"ended; gone with the embedded Valkey: {left}"


async def _keep(
    fleet: ProcessFleet,
    workers: LocalWorkers,
    broker: RedisBroker,
    schedules: LocalSchedules,
    stop: asyncio.Event,
    dashboard: DashboardProcess | None,
    *,
    scaler: str,
) -> None:
    """Keep the fleet at its size until `stop` is set. Raises the error that ends it."""
    redis = SharedRedis("Redis", broker, lambda _queue: loop.wake(work=True), recording=broker)
    loop = ScalingLoop(fleet, redis, scaler=scaler)
    tasks = [
        asyncio.create_task(loop.run()),
        asyncio.create_task(_tend(fleet, workers, dashboard)),
        asyncio.create_task(schedules.keep()),
        asyncio.create_task(supervise("the recorder of figures over time", Recorder(broker).run)),
        asyncio.create_task(stop.wait()),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
        await redis.close()
    for task in done:
        task.result()


async def _tend(fleet: ProcessFleet, workers: LocalWorkers, dashboard: DashboardProcess | None) -> None:
    while True:
        if dashboard is not None:
            dashboard.tend()
        try:
            workers.tend()
        except Exception as error:
            fleet.failed(error)
        await asyncio.sleep(_TEND_SECONDS)


def _if_read(tell: Callable[P, None]) -> Callable[P, None]:
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        with contextlib.suppress(OSError):
            tell(*args, **kwargs)

    return told


async def _end(workers: LocalWorkers, hurry: asyncio.Event, seconds: float) -> bool:
    """Drain all workers; kill those left after `seconds` or when hurried. Returns whether none had to be killed."""
    workers.terminate()
    deadline = asyncio.get_running_loop().time() + seconds
    killed = False
    while workers.reap():
        if killed or hurry.is_set() or asyncio.get_running_loop().time() > deadline:
            workers.kill()
            killed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await (asyncio.Event().wait() if killed else hurry.wait())
    return not killed


def _reach(redis: LocalRedis, shown: View) -> None:
    """Raises BrokerConnectionError after a while. What it waits for is shown before it waits."""
    shown.say(f"waiting for Redis at {urls.address(redis.url)}, at most {_REACH_SECONDS} s")
    asyncio.run(_ping(redis))


async def _ping(redis: LocalRedis) -> None:
    broker = redis.broker(pool_size=1, connection_timeout=_REACH_SECONDS, command_timeout=_REACH_SECONDS)
    try:
        await broker.ping()
    finally:
        await broker.close()
