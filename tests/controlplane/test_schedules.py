"""`spec.schedules` on a real API server and a real Redis: added, replaced, suspended, removed, and told in status."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from taskfleet import Schedule, TaskQueue
from taskfleet.settings import RedisSettings, Settings
from tests.support.operator_space import Manifest, Space, until
from tests.support.redis_server import RedisServer

T = TypeVar("T")
NIGHTLY = {
    "name": "nightly",
    "schedule": "0 3 * * *",
    "timeZone": "Europe/Berlin",
    "queue": "default",
    "task": "report",
    "args": ["sales", 3],
    "kwargs": {"deep": {"a": [1, None]}},
    "concurrencyPolicy": "Forbid",
    "startingDeadlineSeconds": 300,
    "jitterSeconds": 30,
}


def at(redis_server: RedisServer, prefix: str, act: Callable[[TaskQueue], Awaitable[T]]) -> T:
    async def run() -> T:
        settings = Settings(redis=RedisSettings(url=redis_server.url, key_prefix=prefix))
        async with TaskQueue(settings=settings) as queue:
            return await act(queue)

    return asyncio.run(run())


def listed(redis_server: RedisServer, prefix: str) -> dict[str, Schedule]:
    return {one.name: one for one in at(redis_server, prefix, lambda queue: queue.list_schedules())}


def with_schedules(manifest: Manifest, *schedules: dict[str, Any], **spec: Any) -> Manifest:
    changed = copy.deepcopy(manifest)
    changed["spec"] |= {"schedules": list(schedules), **spec}
    return changed


def says(space: Space, reason: str) -> str:
    """Wait for the condition; its message."""
    told = until(lambda: (one := space.condition("SchedulesReady")).get("reason") == reason and one, reason, seconds=60)
    return str(told["message"])


def test_schedules_of_the_resource_live_in_redis(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    def there() -> dict[str, Schedule]:
        return listed(redis_server, prefix)

    space.apply(with_schedules(manifest, NIGHTLY))
    assert says(space, "InSync") == "1 schedules are in Redis"
    one = there()["nightly"]
    assert (one.schedule, one.time_zone, one.queue, one.task) == ("0 3 * * *", "Europe/Berlin", "default", "report")
    assert (one.concurrency_policy, one.starting_deadline_seconds, one.paused) == ("Forbid", 300, False)
    (told,) = space.status()["schedules"]
    assert one.next_at is not None
    assert told == {"name": "nightly", "nextScheduleTime": one.next_at.isoformat().replace("+00:00", "Z")}

    hourly = NIGHTLY | {"name": "hourly", "schedule": "@hourly", "suspend": True}
    space.apply(with_schedules(manifest, NIGHTLY | {"schedule": "0 4 * * *"}, hourly))
    until(lambda: there().keys() == {"nightly", "hourly"}, "the second is there", seconds=60)
    until(lambda: there()["nightly"].schedule == "0 4 * * *", "the first is replaced", seconds=60)
    assert there()["hourly"].next_at is None

    space.apply(with_schedules(manifest, NIGHTLY, suspend=True))
    until(lambda: there().keys() == {"nightly"}, "the second is removed", seconds=60)
    until(lambda: there()["nightly"].next_at is None, "a suspended TaskQueue has no ticks", seconds=60)

    space.apply(with_schedules(manifest, NIGHTLY, suspend=False, scheduler={"mode": "Enabled"}))
    until(lambda: there()["nightly"].next_at is not None, "it ticks again", seconds=60)
    space.apply(with_schedules(manifest, NIGHTLY, suspend=False, scheduler={"mode": "Disabled"}))
    until(lambda: there()["nightly"].next_at is None, "without a scheduler there are no ticks", seconds=60)

    space("delete", "tq", "orders")
    until(lambda: not there(), "they go with their TaskQueue", seconds=60)


def test_a_schedule_of_somebody_else_is_never_touched(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    async def add(queue: TaskQueue) -> Schedule:
        return await queue.add_schedule(name="nightly", schedule="@yearly", task="own")

    at(redis_server, prefix, add)
    before = listed(redis_server, prefix)
    space.apply(with_schedules(manifest, NIGHTLY, NIGHTLY | {"name": "other"}))
    message = says(space, "NameTaken")
    assert "nightly (of no TaskQueue)" in message
    until(lambda: "other" in listed(redis_server, prefix), "the other is there")
    assert listed(redis_server, prefix)["nightly"] == before["nightly"]
    space.apply(with_schedules(manifest))
    says(space, "NoSchedules")
    space("delete", "tq", "orders")
    until(lambda: listed(redis_server, prefix) == before, "only the own one is removed", seconds=60)


def test_schedules_that_were_left_by_a_deleted_taskqueue_are_removed_by_a_later_operator(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    from taskfleet_operator import kept_schedules
    from taskfleet_operator.resource.taskqueue import TaskQueueResource

    gone = with_schedules(manifest, NIGHTLY | {"name": "left"})
    gone["metadata"] = {"name": "gone", "namespace": space.name, "uid": "of-the-past"}

    async def leave(queue: TaskQueue) -> None:
        (one,) = kept_schedules.wanted_of(TaskQueueResource.model_validate(gone))
        await queue.broker.schedules.add(one.partition, one.name, one.packed, 4_000_000_000_000)

    at(redis_server, prefix, leave)
    assert listed(redis_server, prefix).keys() == {"left"}
    space.apply(with_schedules(manifest, NIGHTLY))
    until(lambda: listed(redis_server, prefix).keys() == {"nightly"}, "it is removed", seconds=60)


def test_a_redis_that_does_not_answer_is_told_and_tried_again(
    operator: object, space: Space, manifest: Manifest
) -> None:
    changed = with_schedules(manifest, NIGHTLY)
    changed["spec"]["redis"]["url"] = "redis://127.0.0.1:1/0"
    changed["spec"]["redis"]["connectTimeoutSeconds"] = 1
    space.apply(changed)
    assert "127.0.0.1:1" in says(space, "RedisUnreachable")
