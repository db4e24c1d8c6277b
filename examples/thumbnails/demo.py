"""The demo: a burst of real thumbnails on an embedded Valkey, with a fleet of workers that grows and shrinks.

It runs `taskqueue.yaml` as `taskfleet up` does, with shorter waits, enqueues a burst, and checks every result. The
last line is `demo: N tasks done, M lost, workers 0 → P → 0, T s`; the exit code is 0 only when nothing was lost and the
fleet grew and is back at zero. One more task fails on purpose, and there is a schedule for the night, so that the
dashboard has something to tell. On a terminal the fleet and the dashboard stay until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from taskfleet.errors import TaskQueueError
from taskfleet.process.dashboard_process import DashboardProcess
from taskfleet_operator.autoscaler import ScalingDecision
from taskfleet_operator.local import up
from taskfleet_operator.local.manifest_redis import LocalRedis
from taskfleet_operator.local.plan import LocalPlan, plan_of
from taskfleet_operator.local.view import Picture, View, choose
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.resource.manifest import load_manifest
from taskfleet_operator.resource.schedule_spec import CronScheduleSpec

FOLDER = Path(__file__).parent

# Shorter waits than in production: growth in steps of two workers, and zero soon after the last task.
QUICK: dict[str, Any] = {
    "pollIntervalSeconds": 1,
    "cooldownSeconds": 3,
    "maxReplicas": 4,
    "target": {"drainSeconds": 10, "backlogPerReplica": 100},
    "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 2}]}},
}

NIGHTLY = {
    "name": "nightly",
    "schedule": "0 2 * * *",
    "queue": "default",
    "task": "thumbnail",
    "args": ["moon.png", 256],
}
NO_PHOTO = "unicorn.png"
DASHBOARD_SECONDS = 15.0


class Watcher:
    """Forwards all events to a view, and records the peak of the fleet and its return to zero."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.peak = 0
        self.ended_at = 0.0
        self.empty = asyncio.Event()

    def picture(self, picture: Picture) -> None:
        self._view.picture(picture)
        self.peak = max(self.peak, picture.replicas)
        if picture.replicas or picture.workers:
            self.empty.clear()
        else:
            self.empty.set()

    def decided(self, decision: ScalingDecision) -> None:
        self._view.decided(decision)

    def say(self, text: str) -> None:
        self._view.say(text)

    def worker_line(self, name: str, line: str) -> None:
        """Not shown: the view shows the workers already."""

    def close(self) -> None:
        self._view.close()


def quick_plan() -> LocalPlan:
    """The manifest's plan with the demo's waits."""
    manifest = load_manifest(FOLDER / "taskqueue.yaml")
    spec = manifest.spec.model_copy(update={"schedules": (CronScheduleSpec.model_validate(NIGHTLY),)})
    plan = plan_of(manifest.model_copy(update={"spec": spec}), FOLDER)
    queues = tuple(replace(queue, target_latency_seconds=None) for queue in plan.order.queues)
    return replace(plan, order=replace(plan.order, queues=queues, autoscaler=AutoscalerSpec.model_validate(QUICK)))


async def produce(tasks: int, watcher: Watcher, seconds: float, dashboard: DashboardProcess | None) -> Counter[str]:
    """Enqueue the burst from outside the fleet, then wait for each result and for the last worker to end."""
    import enqueue  # reads REDIS_URL at import, which is set only now
    from thumbnails.tasks import make_thumbnail, queue

    await asyncio.sleep(1)  # so that the view shows the fleet at zero
    if dashboard is not None:  # somebody looks: the burst begins when there is something to look at
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DASHBOARD_SECONDS):
                while not dashboard.url:  # noqa: ASYNC110  # what it says comes from a thread
                    await asyncio.sleep(0.1)
    watcher.say(f"enqueue {tasks} thumbnails, and one of a photograph that does not exist")
    await make_thumbnail.enqueue(NO_PHOTO, 256)
    sent = await enqueue.enqueue(tasks)
    outcomes = await enqueue.verify(sent, seconds)
    await queue.close()
    watcher.say(f"{outcomes['succeeded']} of {tasks} thumbnails are there; waiting for the workers to go")
    await watcher.empty.wait()
    watcher.ended_at = time.monotonic()
    return outcomes


async def demo(
    tasks: int,
    plan: LocalPlan,
    redis: LocalRedis,
    folder: Path,
    watcher: Watcher,
    dashboard: DashboardProcess | None,
    *,
    seconds: float,
    stay: bool,
) -> Counter[str]:
    """Run the fleet and the producer together. The fleet is drained at the end in any case."""
    stop = asyncio.Event()
    fleet = asyncio.create_task(up.run(plan, redis, folder, watcher, stop, dashboard))
    producer = asyncio.create_task(produce(tasks, watcher, seconds, dashboard if stay else None))
    await asyncio.wait({fleet, producer}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    if stay and producer.done() and producer.exception() is None and not fleet.done():
        watcher.say("all is done; the fleet and the dashboard stay until Ctrl-C")
        await asyncio.wait({fleet})
    stop.set()
    await fleet
    if not producer.done():
        producer.cancel()
        await asyncio.wait({producer})
        return Counter()
    return producer.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1500, help="number of thumbnails (default: 1500)")
    parser.add_argument("--timeout", type=float, default=180.0, help="give up after this many seconds (default: 180)")
    parser.add_argument("--no-dashboard", action="store_true", help="serve no dashboard")
    parser.add_argument("--dashboard-port", type=int, help="serve it here (default: 8080, or any other)")
    options = parser.parse_args()
    started = time.monotonic()
    plan = quick_plan()
    watcher = Watcher(choose(json_lines=False))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="taskfleet-demo-") as folder,
            up.chosen_redis(plan, up.EMBEDDED, Path(folder), watcher) as redis,
            up.dashboard_of(plan, redis, watcher, options.dashboard_port, wanted=not options.no_dashboard) as dashboard,
        ):
            os.environ["REDIS_URL"] = redis.url
            watcher.say("taskqueue.yaml with the demo's waits: poll 1 s, cooldown 3 s, at most 4 workers")
            outcomes = asyncio.run(
                demo(
                    options.tasks,
                    plan,
                    redis,
                    Path(folder),
                    watcher,
                    dashboard,
                    seconds=options.timeout,
                    stay=dashboard is not None and sys.stdin.isatty() and sys.stdout.isatty(),
                )
            )
    finally:
        watcher.close()
    done = outcomes["succeeded"]
    lost = options.tasks - done
    end = 0 if watcher.empty.is_set() else "?"
    seconds = (watcher.ended_at or time.monotonic()) - started
    print(f"demo: {done} tasks done, {lost} lost, workers 0 → {watcher.peak} → {end}, {seconds:.0f} s", flush=True)
    return 0 if not lost and watcher.peak > 1 and end == 0 else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TaskQueueError as error:
        sys.exit(f"demo: {error}")
