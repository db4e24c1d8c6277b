"""The worker's loop: one script call records what has finished and claims what fits."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from redis import exceptions as redis_exceptions

from taskfleet import background, checks, showing
from taskfleet.cancellation import end
from taskfleet.context import CURRENT
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.protocol.claim import Claim, StepReply
from taskfleet.protocol.clock import ClockUnknownError
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import queue_of
from taskfleet.redis import connection, redis_errors, replies
from taskfleet.runtime import selection
from taskfleet.runtime.deadlines import Deadlines
from taskfleet.runtime.execution import Execution
from taskfleet.runtime.isolation import Isolation
from taskfleet.runtime.job import Interruption, Job
from taskfleet.runtime.leases import LeaseKeeper
from taskfleet.runtime.outbox import Outbox
from taskfleet.runtime.process_executor import Processes
from taskfleet.runtime.stopping import NOTICE_SECONDS, Stopping, Stuck
from taskfleet.runtime.threads import Threads
from taskfleet.runtime.turns import Turns
from taskfleet.runtime.wakeups import Listeners
from taskfleet.supervising import supervise
from taskfleet.version import __version__

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

logger = showing.logger("taskfleet.worker")

R = TypeVar("R")

_LOOK_FOR_PARTITIONS_SECONDS = 30.0
_SHORT_TASK_SECONDS = 0.05  # only work this short is worth claiming ahead of a free slot
_SHORT_OF_SEVERAL_SECONDS = 0.005
_MOST_PREFETCHED = 4000
_PREFETCH_SECONDS = 0.003
_PREFETCH_BYTES = 8 * 1_048_576
_MEASURE_SECONDS = 0.02
_BEAT_SECONDS = 0.5
_MOST_FAULTS = 20  # about a minute
_LEAVE_SECONDS = 5.0  # how long signals to tasks of other queues may take at the end
_SAME_ID_DELAY_MS = 200


def _name_of_its_own() -> str:
    # Containers share a host's name and are process 1 each, and a process may have several workers.
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class Worker:
    """Runs the tasks of a `TaskQueue`.

    Args:
        queue: whose tasks and connection.
        queues: names, or `name:weight`; without them the queues that the `TaskQueue` lists and its tasks name.
        concurrency: slots; default `workers.max_concurrent_tasks`.
        name: unique in the fleet; default `TASKFLEET_WORKER_NAME` or the host's name, the process id and a tag.
        stall_limit: seconds that the event loop may be still before its leases are given up.
        notice: seconds that a cancelled handler may take to end, before its task's end is recorded without it.
    """

    def __init__(
        self,
        queue: TaskQueue,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        name: str | None = None,
        number: int = 0,
        stall_limit: float = 300.0,
        notice: float = NOTICE_SECONDS,
    ) -> None:
        self.queue = queue
        if concurrency is None:
            concurrency = queue.settings.workers.max_concurrent_tasks
        self.slots = checks.whole("concurrency", concurrency, least=1, most=10_000)
        if name is None:
            name = os.environ.get("TASKFLEET_WORKER_NAME") or _name_of_its_own()
        self.name = checks.text("name", name)
        self.worker_id = f"{self.name}/{checks.whole('number', number)}"
        if queues is not None:
            queues = [checks.text("queues: a name", each) for each in checks.several("queues", queues, "queue names")]
            if not queues:
                raise ConfigurationError("queues=[] names no queue; leave it out to serve all of the application")
        # The fencing token's first half: another start of the same worker is another owner.
        self.incarnation = secrets.token_urlsafe(6)
        self.selection = selection.Selection(selection.tiers_of(queue, queues))
        self.usable = self.slots  # all but those of handlers that cannot be stopped
        self.running: dict[str, Job] = {}
        self.held: dict[str, tuple[str, int]] = {}  # every lease we have: id → (queue, delivery)
        self.loop_beat = time.monotonic()
        self.connected = False
        self.failing_since: float | None = None
        self.state = "starting"
        self.cordoned = False
        self.draining = False
        self.stopped = False
        self._faults = 0  # turns in a row that ended with an error of ours
        self.unhealthy = ""  # why it leaves of its own accord
        self._in_grace = False
        self.lost_acks = 0
        self.memory_full = False
        self._stall_limit = checks.positive_seconds("stall_limit", stall_limit)
        self._started_ms = int(time.time() * 1000)
        self._idle_since_ms = self._started_ms
        self._prefetched: deque[Claim] = deque()
        self.isolation = Isolation(self)
        self._starting = False
        self._outbox = Outbox()
        self._namesakes = False  # tasks of one id in two queues have been seen
        self._claimable: dict[str, int] = {}  # queue → how many claims, where the reply of more was too large to read
        self._payload_bytes = 1  # of the last claim
        self.unsure: set[str] = set()  # queues of which a call that claims got no reply
        self._relays: dict[str, asyncio.Task[None]] = {}
        self._wanted = asyncio.Event()
        self.turns = Turns(self)
        self._listeners = Listeners(self)
        self.failures = 0
        self._step_seconds = 0.0
        self._rate = 0.0  # tasks finished per second, smoothed
        self._rate_mark = (0.0, 0, 0.0)
        self._task_seconds = 0.0  # how long a task takes, of late
        self._loop: asyncio.AbstractEventLoop | None = None
        # What the application has set up before it starts the worker: every run begins in a copy of it.
        self.context = contextvars.Context()
        self.threads = Threads()
        self.stopping = Stopping(self, checks.seconds("notice", notice))
        self.processes = Processes(queue.registry, queue.seal.expanded_limit)
        self.execution = Execution(self)
        self.batches = self.execution.batches

    # What others see.

    def now(self) -> float:
        """Loop time in seconds; safe from other threads."""
        return self._loop.time() if self._loop is not None else 0.0

    def redis_seconds(self, queue: str) -> float:
        """Seconds since 1970 by the clock of a queue's Redis: what limits a task's age goes by no other."""
        try:
            return self.queue.broker.clock.now_ms(queue) / 1000
        except ClockUnknownError:
            return time.time()

    def describe(self) -> dict[str, str | int]:
        """The heartbeat's fields. Called on the lease thread."""
        busy = len(self.running)
        return {
            "name": self.name,
            "pid": os.getpid(),
            "slots": self.slots,
            "busy": busy,
            "stuck": len(self.stopping),
            "queues": ",".join(self.selection.queues),
            "state": self._state(),
            "started_ms": self._started_ms,
            "idle_since_ms": 0 if self.held else self._idle_since_ms,
            "version": __version__,
        }

    def _state(self) -> str:
        if self.draining:
            return "draining"
        if self.cordoned:
            return "cordoned" if self.held else "drained"
        return self.state

    @property
    def ready(self) -> bool:
        """Whether it can take work. A full worker is ready; a draining one, or one without Redis, is not."""
        unreachable = self.failing_since is not None and time.monotonic() - self.failing_since > 10.0
        return self.connected and not self.draining and not unreachable

    def why_not_ready(self) -> str:
        if self.draining:
            return "draining"
        return f"no answer from Redis at {connection.address(self.queue.url)}"

    @property
    def alive(self) -> bool:
        """Whether it does what it is there for; when not, it is better started anew."""
        return self.stopped or not self.why_not_alive()

    def why_not_alive(self) -> str:
        if self.unhealthy:
            return self.unhealthy
        return "the event loop stands still" if time.monotonic() - self.loop_beat > self._stall_limit else ""

    # Control.

    def drain(self) -> None:
        """Claim nothing more, hand back what has not started, give running tasks the grace period, then end."""
        if not self._in_grace:
            self._in_grace = True
            loop = asyncio.get_running_loop()
            loop.call_later(self.queue.settings.workers.shutdown_grace_period, self._end_grace)
        self.retire()

    def retire(self) -> None:
        """Drain, but let what runs take as long as it wants. `drain()` can still set a limit."""
        if not self.draining:
            self.draining = True
            logger.info("draining: %d running, %d prefetched", len(self.running), len(self._prefetched))
            if self._loop is not None:
                self.keeper.poke()  # the fleet learns of it now, not with the next heartbeat
        self.look()

    def leave(self, why: str) -> None:
        """Report itself unhealthy, and drain: whoever has started this worker is to start another."""
        self.unhealthy = self.unhealthy or why
        logger.error("worker %s is unhealthy and leaves: %s", self.worker_id, why)
        self.drain()

    def _end_grace(self) -> None:
        for job in list(self.running.values()):
            self.stopping.stop(job, "shutdown")

    def interrupt(self, ids: Sequence[str], why: Interruption) -> None:
        """Stop these tasks if they are still ours."""
        for task_id in ids:
            job = self.running.get(task_id)
            if job is None and self.batches.interrupt(task_id, why):
                continue
            if why == "lost" and job is None:
                # Prefetched, or finished and not yet recorded: an outcome would change nothing any more.
                self.held.pop(task_id, None)
            elif job is not None:
                if why == "lost":
                    self.execution.reports.lost(job)
                self.stopping.stop(job, why)

    def runs(self, job: Job) -> bool:
        """Whether this very run is still ours."""
        return self.running.get(job.id) is job or self.batches.runs(job)

    def _lost(self, deliveries: Mapping[str, int]) -> None:
        # One that has ended and come back to us in the meantime is another delivery, and ours.
        lost = [task_id for task_id, delivery in deliveries.items() if self.held.get(task_id, ("", 0))[1] == delivery]
        self.interrupt(lost, "lost")

    def _set_cordoned(self, cordoned: bool) -> None:
        if cordoned != self.cordoned:
            logger.info("cordoned" if cordoned else "no longer cordoned")
            self.cordoned = cordoned
            self.selection.all_hot()
            self.look()

    # The loop.

    def spawn(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Run something of the worker's own beside its loop, in no task's context and out of every task's reach."""
        return background.start(work, context=self.context.copy())

    async def run(self) -> None:
        """Work until `drain()`; returns when nothing is left that is ours."""
        with self.queue.session().held():
            await self._run()

    async def _run(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(loop, self.running, lambda job: self.stopping.stop(job, "timeout"))
        CURRENT.set(None)  # should a task have started us: we are not part of it
        self.context = contextvars.copy_context()
        await self.execution.startup()
        self.context = contextvars.copy_context()  # with what the middleware has set up
        leases = [self.queue.options_of(name).lease_seconds for name in self.selection.names]
        lease, self._longest_lease = min(leases), max(leases)
        keeper = LeaseKeeper(
            self,
            interval=min(lease / 3, self.queue.settings.workers.heartbeat_interval),
            stall_limit=self._stall_limit,
            on_lost=lambda deliveries: _call(loop, self._lost, deliveries),
            on_cancel=lambda ids: _call(loop, self.interrupt, ids, "cancel"),
            on_cordon=lambda flag: _call(loop, self._set_cordoned, flag),
        )
        self.keeper = keeper
        beat = self.spawn(supervise("the beat of the loop", self._beat))
        self._listeners.start()
        control = self.spawn(supervise("the control listener", self._listen_for_control))
        partitions = self.spawn(supervise("looking for partitions", self._find_partitions))
        keeper.start()
        logger.info(
            "worker %s: %d slots, queues %s, %d tasks",
            self.worker_id,
            self.slots,
            self.selection,
            len(self.queue.registry),
        )
        try:
            while not (self.draining and self._drained()):
                await self._turn_or_rest()
        except BaseException:
            await self._let_go()
            raise
        finally:
            self.draining = True
            if self._relays:
                await asyncio.wait(set(self._relays.values()), timeout=_LEAVE_SECONDS)
            await end({*self._listeners.tasks, control, beat, partitions, *self._relays.values()})
            await self._settle()
            self.deadlines.close()
            await self.execution.shutdown()
            stuck = self.stopping.close()
            self.threads.close()
            await self.processes.close()
            keeper.stop()
            await keeper.ended(10.0)
            await self._deregister()
            self.stopped = True
            self._say_end(stuck)

    def _say_end(self, stuck: list[Stuck]) -> None:
        if stuck:
            some = ", ".join(str(one) for one in stuck[:10])
            logger.error(
                "worker %s: ended; %d handlers could not be stopped: %s", self.worker_id, len(stuck), some
            )  # fmt: skip
        elif self.held:
            logger.warning("worker %s: ended; %d leases run out by themselves", self.worker_id, len(self.held))
        else:
            logger.info("worker %s: ended, nothing held", self.worker_id)

    async def _let_go(self) -> None:
        """Cancelled, most likely with its loop: what runs goes back as if its grace period were over."""
        self.draining = True
        self._hand_back()
        for job in list(self.running.values()):
            self.stopping.stop(job, "shutdown")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                while self.running or self._outbox:
                    if name := next(iter(self._outbox), None):
                        await self._call(name, 0)
                    else:
                        self._wanted.clear()
                        await self._wanted.wait()

    async def _turn_or_rest(self) -> None:
        """A turn. An error that nobody expects is a fault of ours: said, and no reason to drop all that runs."""
        try:
            await self._turn()
        except Exception:
            self._faults += 1
            logger.exception("the worker met an error and goes on (%d of %d in a row)", self._faults, _MOST_FAULTS)
            if self._faults >= _MOST_FAULTS:
                raise
            await asyncio.sleep(connection.backoff_seconds(self._faults))
        else:
            self._faults = 0

    async def _turn(self) -> None:
        self._wanted.clear()
        if self.draining or self.cordoned:
            self._hand_back()
        await self.turns.run()
        self.start_claimed()
        if self._prefetched and self._task_seconds > _SHORT_TASK_SECONDS:
            self._give_up_prefetched()
        if self._outbox or self.turns.worth_claiming():
            # One round of the loop: what was started may end at once, and its outcome goes with the next call.
            await asyncio.sleep(0)
            return
        if self.draining and not self.running:
            return  # what was left has just been recorded: nothing would wake us
        if self.room() > 0:
            self._listeners.wait_for_calls()
        elif self._listeners.claiming:
            await self._listeners.take_back()
        if self.cordoned and not self.held:
            self.keeper.poke()
        if not self.held and not self.running:
            self._rate = 0.0  # what comes after a rest may be of another kind
            self._idle_since_ms = self._idle_since_ms or int(time.time() * 1000)
        timeout = self.turns.next_look()
        if not self._wanted.is_set():
            # Not asyncio.wait_for: before Python 3.12 it costs a task, and a round of the loop for each call.
            timer = None if timeout is None else asyncio.get_running_loop().call_later(timeout, self._wanted.set)
            await self._wanted.wait()
            if timer is not None:
                timer.cancel()
        self._listeners.rest()

    def room(self) -> int:
        """How many tasks to claim now."""
        return self.turns.room()

    def _prefetch(self) -> int:
        """Claim ahead what a call's round trip would leave idle; only for work that is short anyway.

        With several queues it must be shorter still: what is claimed gets the next slot, whatever comes meanwhile.
        """
        short = _SHORT_TASK_SECONDS if self.selection.is_one_queue else _SHORT_OF_SEVERAL_SECONDS
        if self._task_seconds > short:
            return 0
        most = min(_MOST_PREFETCHED, _PREFETCH_BYTES // self._payload_bytes)
        return min(most, int(self._rate * (3.0 * self._step_seconds + _PREFETCH_SECONDS)))

    async def _call(self, name: str, slots: int) -> None:
        """Record what has ended of a queue, and claim up to `slots` tasks."""
        outcomes = self._outbox.take(name)
        if name in self._outbox.behind:
            slots = 0
        elif name in self._claimable:
            slots = min(slots, self._claimable[name])
        began = self.now()
        try:
            if name in self.unsure and slots:
                await self._hand_back_unheard(name)
            reply = await self.queue.broker.step(name, self.queue.options_of(name), self.incarnation, slots, outcomes)
        except Exception as error:
            closed = self._outbox.failed(outcomes, error)
            self.selection.unheard(name)
            if slots:
                self.claim_failed(name, slots, error)
            if outcomes and not redis_errors.is_about_redis(error) and await self.isolation.answers(name):
                # It is for one of them: that one must not keep the others from being recorded.
                await self.isolation.record(name, outcomes, error)
                return
            if closed and await self.isolation.answers(name) and self._outbox.refused(name):
                outcomes = self.isolation.replaced(name, outcomes[0], error)
            self._outbox.put_back(name, outcomes)
            if not isinstance(error, (redis_exceptions.RedisError, OSError)):
                raise
            await self._failed(error)
            return
        except BaseException as error:
            # Cancelled, with the loop perhaps: what was sent is sent again, and what may have been claimed is found.
            self._outbox.put_back(name, outcomes)
            if slots:
                self.claim_failed(name, slots, error)
            raise
        took = self.now() - began
        self._step_seconds = took if not self._step_seconds else 0.8 * self._step_seconds + 0.2 * took
        resent = self.failures > 0
        self._succeeded()
        self._outbox.succeeded(name)
        if slots and name in self._claimable:
            self._claimable[name] *= 2
            if self._claimable[name] >= self.slots:
                del self._claimable[name]
        self.recorded(name, outcomes)
        if reply.stale and not resent:
            # A resent outcome is stale when the first sending had arrived; then nothing is wrong.
            self.lost_acks += reply.stale
            logger.warning("queue %s: %d outcomes came too late; their tasks have another owner", name, reply.stale)
        self.take(name, reply)
        if outcomes:
            self._measure()

    def recorded(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """Redis has these: their leases are no longer ours."""
        for outcome in outcomes:
            if self._namesakes and self.held.get(outcome[0], (name, 0))[0] != name:
                continue  # what was handed back, while a task of that id in another queue goes on
            self.held.pop(outcome[0], None)

    def claim_failed(self, name: str, slots: int, error: BaseException) -> None:
        """A call that claims got no reply that can be read: what it has claimed is found before the next."""
        self.unsure.add(name)
        if isinstance(error, replies.TooLongError):
            self._claimable[name] = max(1, slots // 2)

    def take(self, name: str, reply: StepReply) -> None:
        """What a call has claimed is ours now."""
        self._set_memory_full(reply.memory_full)
        for gone in reply.taken_over:
            say = self.execution.reports.died if gone.dead else self.execution.reports.taken_over
            say(queue_of(name), gone.id, gone.name, gone.attempt, gone.crashes)
        horizon = reply.horizon_ms / 1000 if reply.horizon_ms >= 0 else None
        self.selection.seen(name, reply.left, horizon, self.now())
        claims = reply.claims
        held = {claim[1]: (name, claim[4]) for claim in claims}
        if not self.held.keys().isdisjoint(held):
            claims = [claim for claim in claims if not self._is_namesake(claim)]
            held = {claim[1]: (name, claim[4]) for claim in claims}
        self.held.update(held)
        if claims:
            self.turns.add_claims(claims)
            self._payload_bytes = len(claims[-1][2]) or 1
        if reply.signals and name not in self._relays:
            self._relays[name] = self.spawn(self._relay(name))

    def _is_namesake(self, claim: Claim) -> bool:
        """Whether a task of this id in another queue is here: all that we keep goes by the id, so this one waits."""
        queue, task_id, delivery = claim[0], claim[1], claim[4]
        if self.held.get(task_id, (queue, 0))[0] == queue:
            return False
        self._namesakes = True
        back = self.execution.handed_back(queue, task_id, delivery, _SAME_ID_DELAY_MS)
        self._outbox.setdefault(queue, []).append(back)
        return True

    async def _hand_back_unheard(self, name: str) -> None:
        """A call without a reply may have claimed tasks: they go back at once, instead of when their leases end."""
        async with self._listeners.claim(name):
            known = self.held.copy()
            owned = await self.queue.broker.owned(name, self.incarnation)
            unheard = [(task_id, delivery) for task_id, delivery in owned if known.get(task_id) != (name, delivery)]
            # One that would make every reply too large must not go back for ever.
            ids = [task_id for task_id, _ in unheard] if name in self._claimable else []
            unreadable = await self.queue.broker.unreadable(name, ids)
            for task_id, delivery in unheard:
                if task_id in unreadable:
                    self.execution.bury_unread(name, task_id, delivery)
                else:
                    self._outbox.add(name, self.execution.handed_back(name, task_id, delivery))
            self.unsure.discard(name)

    async def _settle(self) -> None:
        """At the end, when nothing claims any more: a listener's last claim may have crossed with its end."""
        with contextlib.suppress(redis_exceptions.RedisError, OSError):
            for name in sorted(self.unsure):
                await self._hand_back_unheard(name)
                if back := self._outbox.pop(name, None):
                    await self.queue.broker.step(name, self.queue.options_of(name), self.incarnation, 0, back)

    async def _relay(self, name: str) -> None:
        """Tell tasks of other queues what they wait for. What fails stays in Redis, and the next call says so."""
        try:
            await self.queue.broker.relay(name)
        except TaskQueueError as error:
            logger.warning("queue %s: signals of workflows wait: %s", name, error)
            await asyncio.sleep(connection.backoff_seconds(3))
        except Exception:
            logger.exception("queue %s: signals of workflows wait", name)
            await asyncio.sleep(connection.backoff_seconds(3))
        finally:
            del self._relays[name]

    def _set_memory_full(self, full: bool) -> None:
        if full and not self.memory_full:
            logger.warning(
                "Redis at %s is out of memory: outcomes are recorded, nothing is claimed; raise maxmemory, or purge",
                connection.address(self.queue.url),
            )
        elif self.memory_full and not full:
            logger.info("Redis has memory again")
        self.memory_full = full

    def _measure(self) -> None:
        began, done, busy = self._rate_mark
        now, total = self.now(), self.execution.finished
        if now - began > _MEASURE_SECONDS and total > done:
            rate = (total - done) / (now - began)
            seconds = sum(self.execution.busy_seconds.values())
            self._task_seconds = (seconds - busy) / (total - done)
            # Up at once, down slowly: a start on a far Redis is over before an average would have noticed.
            self._rate = rate if rate > self._rate else 0.8 * self._rate + 0.2 * rate
            self._rate_mark = (now, total, seconds)

    def _give_up_prefetched(self) -> None:
        """What was claimed ahead has turned out to be long: others may have slots for it."""
        self._rate = 0.0
        self._return_prefetched()
        self.look()

    def _return_prefetched(self) -> None:
        # Last first, so that the head of the queue is what it was.
        while self._prefetched:
            queue, task_id, _, _, delivery, _ = self._prefetched.pop()
            self._outbox.setdefault(queue, []).append(self.execution.handed_back(queue, task_id, delivery))

    def start_claimed(self) -> None:
        if self._starting:
            return  # a task that ended while it was being started frees its slot for the loop below
        self._starting = True
        try:
            if self.batches.asked and not self.draining and not self.cordoned:
                self._gather_claimed()
            if self.batches.waiting:
                self.batches.start_waiting()
            while self._prefetched and len(self.running) < self.usable and not self.draining and not self.cordoned:
                claim = self._prefetched.popleft()
                if self.held.get(claim[1]) == (claim[0], claim[4]):
                    self._idle_since_ms = 0
                    self.execution.start(*claim)
        finally:
            self._starting = False

    def _gather_claimed(self) -> None:
        claims = list(self._prefetched)
        self._prefetched.clear()
        if claims:
            self._idle_since_ms = 0
        kept, excess = self.batches.start_claimed(claims, self._prefetch())
        self._prefetched.extend(kept)
        for queue, task_id, _, _, delivery, _ in reversed(excess):
            self._outbox.setdefault(queue, []).append(self.execution.handed_back(queue, task_id, delivery))

    def finished(self, outcome: Outcome, queue: str) -> None:
        """An outcome to record with the next call. The slot is free."""
        box = self._outbox.get(queue)
        if box is None:
            self._outbox[queue] = [outcome]
            self.look()
        else:
            box.append(outcome)
        if (self._prefetched or self.batches.waiting) and not self._starting:
            # We are called in the context of the task that has ended.
            self.context.copy().run(self.start_claimed)

    # Draining.

    def _hand_back(self) -> None:
        self._return_prefetched()
        for job in self.batches.hand_back():
            self._outbox.setdefault(job.queue, []).append(self.execution.handed_back(job.queue, job.id, job.delivery))

    def look(self) -> None:
        """There is something to do."""
        self._wanted.set()

    def _drained(self) -> bool:
        return not self.running and not self._outbox and not self._prefetched and not len(self.batches)

    async def _deregister(self) -> None:
        with contextlib.suppress(redis_exceptions.RedisError, OSError):
            await self.queue.broker.deregister(self.worker_id)

    # Listening.

    async def _find_partitions(self) -> None:
        """Our queues may have had more partitions than they are given now; nothing may be forgotten there."""
        while True:
            with contextlib.suppress(TaskQueueError):
                for name in await self.queue.broker.partitions():
                    if self.selection.add(name):
                        self._listeners.add(name)
            await asyncio.sleep(_LOOK_FOR_PARTITIONS_SECONDS)

    async def _beat(self) -> None:
        finished, last = -1, ""
        while True:
            self.loop_beat = time.monotonic()
            if self._prefetched and finished == self.execution.finished:
                # Not one has ended since the last beat: that is no work to claim ahead.
                self._task_seconds = max(self._task_seconds, _BEAT_SECONDS)
                self._give_up_prefetched()
            elif self._prefetched and self._prefetched[-1][1] == last:
                # Higher tiers go before it all the time: another worker may have slots for it.
                self._give_up_prefetched()
            finished = self.execution.finished
            self.execution.reports.flush()
            last = self._prefetched[-1][1] if self._prefetched else ""
            await asyncio.sleep(_BEAT_SECONDS)

    async def _listen_for_control(self) -> None:
        async for message in self.queue.broker.control():
            verb, _, target = message.partition(" ")
            if verb == "cancel":
                self.interrupt([target], "cancel")
            elif not verb or target == self.name:
                self.keeper.poke()

    # Redis comes and goes.

    async def _failed(self, error: Exception) -> None:
        """A call has failed for what Redis is, or how it is reached: wait before the next."""
        self.failures += 1
        if self.failing_since is None:
            self.failing_since = time.monotonic()
        if self.failures == 1 or self.failures % 20 == 0:
            logger.warning(
                "%s (trying again, %d so far)", connection.connection_error(self.queue.url, error), self.failures
            )
        with contextlib.suppress(redis_exceptions.RedisError, OSError):
            await self.queue.broker.dropped(error)
        self.selection.all_hot()
        if self.draining and time.monotonic() - self.keeper.last_success > self._longest_lease:
            # Others may have the tasks by now, and nobody waits for us for ever.
            given_up = sum(len(box) for box in self._outbox.values())
            logger.warning("Redis is away for longer than a lease: %d outcomes are given up", given_up)
            self._outbox.clear()
            self.held.clear()
            return
        await asyncio.sleep(connection.backoff_seconds(self.failures))

    def _succeeded(self) -> None:
        if self.failures:
            logger.info("Redis answers again")
        self.failures = 0
        self.failing_since = None
        if not self.connected:
            self.connected = True
            self.state = "running"
            self.keeper.poke()


def _call(loop: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    # The loop may be gone while the lease thread still winds down.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
