"""One run: start everything, let faults happen while tasks flow, wait for the end, judge."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from redis import exceptions as redis_exceptions

from taskfleet.redis import keys
from tests.chaos import audit, faults, old_version
from tests.chaos.fleet import PREFIX, ChaosFleet
from tests.chaos.kinds import LEASE_SECONDS
from tests.chaos.ledger import now
from tests.chaos.old_version import FIRST, PREVIOUS, OldVersion
from tests.chaos.reconcile import Judgement, Rules, judge
from tests.chaos.slow_calls import SlowCalls
from tests.chaos.stories import slot_of
from tests.chaos.workload import KIND_OF_PART

Sabotage = Literal["lose", "double", "orphan"]

_REPORT_SECONDS = 5.0
# The longest that nothing may change at the end: a lease, its takeover, the longest handler, the longest backoff, and
# a worker that starts again on a busy machine.
_STILL_SECONDS = 60.0
_HANGING_SECONDS = 15.0  # after which the worker of a version that hangs is started again
_SPOIL_SECONDS = 120.0  # the longest wait for a task that a sabotage can break


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a run. Tasks are sent and faults happen during `seconds`."""

    tasks: int = 200_000
    faults: int = 210
    seconds: float = 270.0
    seed: int = 1
    workers: int = 2
    producers: int = 3
    versions: tuple[OldVersion, ...] = (FIRST, PREVIOUS)  # whose workers take part beside those of this version
    sabotage: tuple[Sabotage, ...] = ()  # break something in Redis, to see that it is found
    keep: Path | None = None


@dataclass(slots=True)
class Result:
    """The findings of a run; `good` when nothing is wrong."""

    plan: Plan
    verdict: Judgement
    remains: audit.Remains
    faults: Counter[str]
    hits: Counter[str]  # connections cut, replies lost, requests torn or delayed
    seconds: float = 0.0
    skipped: str = ""  # why an earlier version did not take part
    restarts: int = 0
    by_version: dict[str, int] = field(default_factory=dict[str, int])  # executions of the earlier versions
    hung: int = 0
    slow_calls: SlowCalls = field(default_factory=SlowCalls)
    defects: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.verdict.good and not (self.defects or self.remains.orphans or self.remains.strangers)


async def run(plan: Plan, say: Callable[[str], None]) -> Result:
    """Carry out a plan. The folder of the ledgers is deleted, unless it is to be kept."""
    folder = plan.keep or Path(tempfile.mkdtemp(prefix="taskfleet-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    skipped = ""
    old: dict[OldVersion, Path] = {}
    for version in plan.versions:
        try:
            old[version] = old_version.folder(version.commit)
        except old_version.NoOldVersionError as error:
            skipped = f"the version {version.commit} is not here: {error}"
            say(f"NOT TESTED: old and new workers on one Redis: {skipped}")
    began = now()
    fleet = ChaosFleet(
        folder, workers=plan.workers, producers=plan.producers, tasks=plan.tasks, seconds=plan.seconds,
        seed=plan.seed, old=old,
    )  # fmt: skip
    try:
        await fleet.start()
        scene = faults.schedule(plan.seed, plan.faults, plan.seconds, fleet.worker_names, fleet.producer_names)
        reporter = asyncio.create_task(_report(fleet, began, say))
        try:
            await asyncio.gather(
                _disturb(fleet, scene),
                fleet.producers_complete(),
                *(_spoil(fleet, sabotage) for sabotage in plan.sabotage),
            )
            stuck = await _settle(fleet)
        finally:
            reporter.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporter  # one that has failed says why
        await fleet.end_workers()
        result = await _judge(plan, fleet, folder)
        if stuck:
            result.defects.append(f"the queues did not drain: {stuck}")
        result.skipped = skipped
        result.seconds = now() - began
        return result
    finally:
        await fleet.close()
        if plan.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


async def _disturb(fleet: ChaosFleet, scene: Sequence[faults.Fault]) -> None:
    """Let the faults happen, from the first task that has ended: on a busy machine processes take long to start."""
    while not fleet.sent and not any(ended for _, ended, _, _ in (await _counts(fleet)).values()):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await fleet.run(scene)


async def _counts(fleet: ChaosFleet) -> dict[str, tuple[int, int, int, int]]:
    """(enqueued, finished, tasks in Redis, ids in the ready list) of each queue."""
    pipeline = fleet.redis.pipeline(transaction=False)
    for name in audit.PARTITIONS:
        of = keys.of_partition(PREFIX, name)
        pipeline.hmget(of.stat, "enqueued", "finished")
        pipeline.hlen(of.task)
        pipeline.llen(of.ready)
    replies = await pipeline.execute()
    counts: dict[str, tuple[int, int, int, int]] = {}
    for i, name in enumerate(audit.PARTITIONS):
        (enqueued, finished), held, listed = replies[3 * i : 3 * i + 3]
        counts[name] = (int(enqueued or 0), int(finished or 0), held, listed)
    return counts


async def _report(fleet: ChaosFleet, began: float, say: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        try:
            counts = (await _counts(fleet)).values()
            await fleet.slow_calls.read(fleet.redis)  # often, since the log keeps only the latest entries
            figures = f"{sum(c[0] for c in counts):7d} accepted  {sum(c[1] for c in counts):7d} ended"
        except (redis_exceptions.RedisError, OSError):
            figures = "   (Redis does not answer now)       "
        starts = sum(slot.starts - 1 for slot in fleet.slots.values())
        done = fleet.done.total()
        say(f"{now() - began:6.0f} s  {figures}  {done:4d} faults  {starts:4d} restarts  {len(fleet.defects)} defects")


async def _settle(fleet: ChaosFleet) -> str:
    """Wait until every queue is empty; when nothing changes any more, return the tasks that are left."""
    last, since, hanging = None, now(), False
    while True:
        counts = await _counts(fleet)
        if not any(held or listed for _, _, held, listed in counts.values()):
            return ""
        if counts != last:
            last, since, hanging = counts, now(), FIRST.name in fleet.slots  # each restart must change something
        elif (
            hanging
            and now() - since > _HANGING_SECONDS
            and all(name in FIRST.queues for name, c in counts.items() if c[2])
        ):
            hanging = False
            await fleet.restart(FIRST)
        elif now() - since > _STILL_SECONDS:
            left = {
                name: f"{held} tasks, {listed} ready" for name, (_, _, held, listed) in counts.items() if held or listed
            }
            return str(left)
        await asyncio.sleep(0.1)


async def _judge(plan: Plan, fleet: ChaosFleet, folder: Path) -> Result:
    stories, around, defects, hits = audit.read_ledgers(folder, LEASE_SECONDS)
    await audit.read_outcomes(fleet.redis, PREFIX, stories)
    remains = await audit.read_remains(fleet.redis, PREFIX, audit.PARTITIONS, set(stories))
    rules = {
        part: Rules(kind.name, kind.judge, kind.together, kind.judge_together) for part, kind in KIND_OF_PART.items()
    }
    verdict = judge(stories.values(), around, rules)
    await fleet.slow_calls.read(fleet.redis)
    defects += [*fleet.defects, *fleet.slow_calls.defects]
    for queue, counters in remains.counters.items():
        enqueued, finished = counters.get("enqueued", 0), counters.get("finished", 0)
        ended = verdict.ended[queue]
        if not enqueued == finished == ended:
            defects.append(
                f"queue {queue}: {enqueued} enqueued, {finished} finished by its counters; {ended} tasks ended"
            )
        if verdict.takeovers[queue] > counters.get("taken_over", 0):
            defects.append(
                f"queue {queue}: {verdict.takeovers[queue]} duplicates that take a takeover each, "
                f"and {counters.get('taken_over', 0)} takeovers by its counter"
            )
        if counters.get("removed", 0):
            defects.append(f"queue {queue}: its counter of removed ids is {counters['removed']}, the list is empty")
    traces = {slot.name: n for slot in fleet.slots.values() if (n := slot.traces())}
    if traces:
        defects.append(f"tracebacks in the logs: {traces}")
    by_version = Counter(slot_of(run.process) for story in stories.values() for run in story.executions)
    earlier = {version.name: by_version[version.name] for version in plan.versions if version.name in fleet.slots}
    defects += [f"the worker of the {name} version ran nothing" for name, count in earlier.items() if not count]
    restarts = sum(slot.starts - 1 for slot in fleet.slots.values())
    return Result(
        plan,
        verdict,
        remains,
        fleet.done,
        hits,
        restarts=restarts,
        by_version=earlier,
        hung=fleet.hung,
        slow_calls=fleet.slow_calls,
        defects=defects,
    )


async def _spoil(fleet: ChaosFleet, sabotage: Sabotage) -> None:
    """Break one thing in Redis, as soon as there is one to break."""
    names = keys.of_partition(PREFIX, "default")
    began = now()
    slow: dict[bytes, bytes] = {}
    while now() - began < _SPOIL_SECONDS:
        with contextlib.suppress(redis_exceptions.RedisError, OSError):
            if sabotage == "orphan":
                await fleet.redis.set(f"{PREFIX}:{{default}}:stray", 1)
                return
            if sabotage == "lose" and await _loses_a_delayed_task(fleet.redis, names):
                return
            if sabotage == "double" and await _runs_a_slow_task_again(fleet.redis, names, slow):
                return
        await asyncio.sleep(0.01)
    raise RuntimeError(f"nothing to {sabotage} came by in {_SPOIL_SECONDS:g} s; send more tasks")


# In one step, or a worker may have it between two. Not a task that its sender cancels or replaces: that is an outcome.
_LOSE_A_DELAYED_TASK = """
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local blob = redis.call('HGET', KEYS[2], id)
  if blob and string.find(blob, 'delayed', 1, true) then
    return redis.call('ZREM', KEYS[1], id) + redis.call('HDEL', KEYS[2], id)
  end
end
return 0
"""


async def _loses_a_delayed_task(redis: Any, names: keys.QueueKeys) -> bool:
    return bool(await redis.eval(_LOSE_A_DELAYED_TASK, 2, names.delayed, names.task))


async def _runs_a_slow_task_again(redis: Any, names: keys.QueueKeys, slow: dict[bytes, bytes]) -> bool:
    """Put a task back that has ended, as it was before. While it runs, its worker or its id may go first.

    `slow` has the slow tasks that were seen while they ran.
    """
    ended = [task_id for task_id, held in zip(slow, await _blobs(redis, names, slow), strict=True) if held is None]
    if ended:
        await redis.hset(names.task, ended[0], slow[ended[0]])
        await redis.lpush(names.ready, ended[0])
        return True
    running = await redis.zrange(names.lease, 0, -1)
    for task_id, blob in zip(running, await _blobs(redis, names, running), strict=True):
        if blob and b"slow" in blob:
            slow[task_id] = blob
    return False


async def _blobs(redis: Any, names: keys.QueueKeys, ids: Collection[bytes]) -> list[bytes | None]:
    return await redis.hmget(names.task, list(ids)) if ids else []
