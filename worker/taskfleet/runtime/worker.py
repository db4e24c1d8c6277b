"""`Worker`: the root of the runtime. It makes the parts, runs the loop, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from redis import exceptions as redis_exceptions

from taskfleet import checks, showing
from taskfleet.backoff import backoff_seconds
from taskfleet.cancellation import end
from taskfleet.errors import ConfigurationError
from taskfleet.middleware import Middleware, WorkerContext
from taskfleet.runtime.claiming.claimer import Claimer
from taskfleet.runtime.claiming.dispatcher import Dispatcher
from taskfleet.runtime.claiming.isolation import Isolation
from taskfleet.runtime.claiming.outage import Outage
from taskfleet.runtime.claiming.receiver import Receiver
from taskfleet.runtime.claiming.relays import Relays
from taskfleet.runtime.claiming.step_calls import StepCalls
from taskfleet.runtime.claiming.turns import Turns
from taskfleet.runtime.claiming.unheard import UnheardClaims
from taskfleet.runtime.claiming.wakeups import Listeners
from taskfleet.runtime.executors.threads import Threads
from taskfleet.runtime.fleet.background_loops import BackgroundLoops
from taskfleet.runtime.fleet.drain import Drain
from taskfleet.runtime.fleet.heartbeat import Heartbeat
from taskfleet.runtime.fleet.leases import LeaseKeeper
from taskfleet.runtime.recording.endings import Endings
from taskfleet.runtime.recording.hook_calls import HookCalls
from taskfleet.runtime.recording.outbox import Outbox
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.recording.rejections import Rejections
from taskfleet.runtime.recording.reporting import Reports
from taskfleet.runtime.recording.unstarted import Unstarted
from taskfleet.runtime.running.batches import Batches
from taskfleet.runtime.running.calls import Calls
from taskfleet.runtime.running.deadlines import Deadlines
from taskfleet.runtime.running.execution import Execution
from taskfleet.runtime.running.injection import WorkerScope
from taskfleet.runtime.running.interrupts import Interrupts
from taskfleet.runtime.running.launcher import Launcher
from taskfleet.runtime.running.progress_reporter import ProgressReporter
from taskfleet.runtime.running.runner import OutsideCancellations, Runner
from taskfleet.runtime.running.stopping import NOTICE_SECONDS, Stopping, Stuck
from taskfleet.runtime.state import selection
from taskfleet.runtime.state.batch_job import BatchJob
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.identity import Identity
from taskfleet.runtime.state.job import Job
from taskfleet.runtime.state.ports import WorkerQueue
from taskfleet.runtime.state.prefetch import Prefetch
from taskfleet.runtime.state.result_waits import ResultWaits
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots
from taskfleet.runtime.state.tally import Tally
from taskfleet.runtime.state.upcalls import Upcalls
from taskfleet.tasks.namespace import CLASS_TASKS

if TYPE_CHECKING:
    from taskfleet.runtime.executors.process_executor import Processes
    from taskfleet.runtime.running.batch_runs import BatchRuns

logger = showing.logger("taskfleet.worker")

_MOST_FAULTS = 20  # about a minute
_LEAVE_SECONDS = 5.0  # how long the last outcomes may take when the worker's loop is cancelled
_LEASES_END_SECONDS = 10.0


class Worker:
    """Runs the tasks of a `TaskQueue`.

    Args:
        queue: provides the tasks and the connections.
        queues: names, or `name:weight`; by default the queues of the `TaskQueue`'s options and of its tasks.
        concurrency: the number of slots; by default `workers.max_concurrent_tasks`.
        name: unique in the fleet; by default `TASKFLEET_WORKER_NAME`, or the host's name, the process id and a tag.
        stall_limit: seconds for which the event loop may stall before the worker gives up its leases.
        notice: seconds that a cancelled handler may take to end, before the end of its task is recorded without it.
    """

    endings_class = Endings
    threads_class = Threads

    def __init__(
        self,
        queue: WorkerQueue,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        name: str | None = None,
        number: int = 0,
        stall_limit: float = 300.0,
        notice: float = NOTICE_SECONDS,
    ) -> None:
        self.application = queue.application
        self.sessions = queue.sessions
        if concurrency is None:
            concurrency = self.application.settings.workers.max_concurrent_tasks
        self.slots = Slots(checks.whole("concurrency", concurrency, least=1, most=10_000))
        self.identity = Identity.of(name, number)
        self.selection = selection.Selection(selection.tiers_of(self.application, _checked(queues)))
        self.health = Health(checks.positive_seconds("stall_limit", stall_limit), self.sessions.url)
        self._faults = 0  # consecutive turns that ended with an error of the worker itself
        self._make_state()
        self._make_ends(checks.seconds("notice", notice))
        self._make_runs()
        self._make_claims()
        self._make_control()

    # The parts, from the bottom up. Each part gets the parts that it uses.

    def _make_state(self) -> None:
        """The state that most parts share."""
        self.context = RunContext()
        self.wanted = asyncio.Event()  # set when the loop has something to do
        self.held = Held()
        self.tally = Tally()
        self.outbox = Outbox(self.wanted)
        self.prefetch = Prefetch(self.selection, self.tally)
        self.reports = Reports(context=self.context.copy)
        self._upcalls = Upcalls()

    def _make_ends(self, notice: float) -> None:
        """The parts between the end of a task and its outcome."""
        application, context, slots, held, health = (
            self.application, self.context, self.slots, self.held, self.health,
        )  # fmt: skip
        self.stopping = Stopping(slots, health, context, self.wanted, self._upcalls, notice)
        self.hook_calls = HookCalls(application.middleware, context)
        self.rejections = Rejections(application.seal)
        self.outcomes = Outcomes(
            application, self.identity, self.outbox, self.tally, slots, self.prefetch, self._upcalls
        )
        self.unstarted = Unstarted(self.outcomes, self.rejections, self.reports, self.hook_calls)
        self.endings = self.endings_class(
            application, context, slots, held, self.outcomes, self.tally, self.reports, self.hook_calls, self.wanted
        )

    def _make_runs(self) -> None:
        """The parts between a claim and a run."""
        application, context, slots, held, health = (
            self.application, self.context, self.slots, self.held, self.health,
        )  # fmt: skip
        for definition in (*application.registry, *CLASS_TASKS):
            if definition.options.executor == "process":
                from taskfleet.runtime.executors import import_path  # only here: most workers run no such task

                import_path.check(definition)
        self.threads = self.threads_class()
        self.scope = WorkerScope(context)
        self.deadlines = Deadlines(context, slots.running, self.stopping.time_out)
        self.launcher = Launcher(context, slots, self.stopping, self.deadlines)
        self._processes = functools.cache(functools.partial(_make_processes, application.seal.expanded_limit))
        calls = Calls(application, self.outcomes, self.scope, self.threads, self._processes)
        cancellations = OutsideCancellations(health)
        runner = Runner(application, calls, self.endings, cancellations)
        parts = (context, slots, self.launcher, calls, self.endings, self.outcomes, cancellations, self.tally)
        batch_runs = functools.cache(functools.partial(_make_batch_runs, parts))
        self.batches = Batches(application, slots, held, health, batch_runs, self.outcomes, self.stopping)
        self.interrupts = Interrupts(slots, held, self.batches, self.stopping, self.reports)
        self.progress = ProgressReporter(context, self.identity, slots, self.interrupts)
        self.execution = Execution(
            application, context, slots, held, self.launcher, runner, self.batches, self.endings, self.outcomes,
            self.rejections, self.unstarted, self.progress.report, self.tally,
        )  # fmt: skip
        self.dispatcher = Dispatcher(
            context, slots, held, health, self.prefetch, self.batches, self.execution, self.outcomes, self.wanted
        )
        self._upcalls.slot_free = self.dispatcher.start_soon
        self._upcalls.given_up = functools.partial(_give_up, batch_runs, self.endings)

    @property
    def processes(self) -> Processes:
        """The processes of tasks with `executor="process"`, none of which starts before it is needed."""
        return self._processes()

    def _make_claims(self) -> None:
        """The parts between a call of Redis and its claims."""
        context, held, outbox = self.context, self.held, self.outbox
        calls = StepCalls(self.application, context, self.identity)
        self.outage = Outage(context, self.health, self.selection, outbox, held)
        self.relays = Relays(context)
        self.receiver = Receiver(
            context, self.health, self.selection, held, self.prefetch, self.outcomes, self.reports, self.relays,
            self.tally,
        )  # fmt: skip
        self.unheard = UnheardClaims(calls, context, self.slots, held, outbox, self.outcomes, self.unstarted)
        isolation = Isolation(calls, held, outbox, self.outcomes, self.receiver, self.outage)
        self.claimer = Claimer(
            calls, context, self.selection, held, outbox, self.prefetch, self.tally, self.receiver,
            self.unheard, isolation, self.outage,
        )  # fmt: skip
        self.turns = Turns(
            context, self.selection, self.slots, self.health, self.prefetch, outbox, self.batches, self.claimer,
            self.unheard,
        )  # fmt: skip
        self.listeners = Listeners(
            calls, context, self.selection, self.turns, self.receiver, self.unheard, self.outage,
            self.dispatcher, self.wanted,
        )  # fmt: skip

    def _make_control(self) -> None:
        """The parts that watch the worker and tell it to end."""
        self._drain = Drain(
            self.identity, self.health, self.slots, self.prefetch, self.selection, self.stopping, self.wanted,
            self.application.settings.workers.shutdown_grace_period,
        )  # fmt: skip
        self.background = BackgroundLoops(
            self.context, self.identity, self.health, self.selection, self.prefetch, self.tally, self.reports,
            self.dispatcher, self.interrupts, self.listeners,
        )  # fmt: skip
        self.heartbeat = Heartbeat(
            self.context, self.identity, self.health, self.slots, self.held, self.selection, self.stopping
        )
        self._upcalls.too_many_stuck = self._drain.leave

    # Control.

    @property
    def draining(self) -> bool:
        return self.health.draining

    def drain(self) -> None:
        """Claim no more tasks, return tasks that have not started, give running tasks the grace period, then end."""
        self._drain.drain()

    def retire(self) -> None:
        """Drain without a limit on the running tasks. `drain()` can still set a limit."""
        self._drain.retire()

    def end_grace(self) -> None:
        """Stop all running tasks now instead of at the end of the grace period."""
        self._drain.end_grace()

    # The loop.

    async def run(self) -> None:
        """Work until `drain()`; returns when the worker holds no lease any more."""
        session = self.sessions.current()
        with session.held():
            self.context.begin(session.broker, ResultWaits(self.slots), self.identity.worker_id)
            await self._run()

    async def _run(self) -> None:
        started = await self._start()
        try:
            while not (self.health.draining and self._is_empty()):
                await self._turn_or_rest()
        except BaseException:
            await self._let_go()
            raise
        finally:
            await self._end(started)

    async def _start(self) -> list[Middleware]:
        """Start the parts. Returns the middleware that has started and has to be shut down at the end."""
        self.batches.prepare()
        started = await self.application.middleware.startup(self._about())
        self.context.take_variables()  # including those that the middleware has set
        leases = [self.application.options_of(partition).lease_seconds for partition in self.selection.names]
        self.outage.longest_lease = max(leases)
        self._keeper = LeaseKeeper(
            self.application, self.context, self.identity, self.slots, self.held, self.health,
            self.heartbeat, self.interrupts, self._drain,
            renewer=self.sessions.new_renewer(),
            interval=min(min(leases) / 3, self.application.settings.workers.heartbeat_interval),
        )  # fmt: skip
        self.listeners.start()
        self.background.start()
        self._keeper.start()
        self._unwatch = self.context.broker.clock.when_moved(
            functools.partial(_move, self.context, (self.deadlines.move, self.batches.move))
        )
        tasks = len(self.application.registry) + len(CLASS_TASKS)
        logger.info(
            "worker %s: %d slots, queues %s, %d tasks",
            self.identity.worker_id, self.slots.total, self.selection, tasks,
        )  # fmt: skip
        return started

    def _about(self) -> WorkerContext:
        return WorkerContext(self.identity.name, tuple(self.selection.names), self.slots.total)

    async def _end(self, started: list[Middleware]) -> None:
        self.health.draining = True
        self._unwatch()
        await end(self.listeners.tasks)  # before all that takes time: nobody would start or return what they claim now
        await self.relays.close()
        await end(self.background.tasks)
        await self.unheard.settle()
        self.deadlines.close()
        self.reports.flush(all_of_them=True)
        await self.progress.close()
        await self.hook_calls.close()
        await self.scope.close()
        await self.application.middleware.shutdown(started, self._about())
        stuck = self.stopping.close()
        self.threads.close()
        if self._processes.cache_info().currsize:
            await self.processes.close()
        self._keeper.stop()
        await self._keeper.ended(_LEASES_END_SECONDS)
        with contextlib.suppress(redis_exceptions.RedisError, OSError):
            await self.context.broker.deregister(self.identity.worker_id)
        self.health.stopped = True
        self._log_end(stuck)

    def _log_end(self, stuck: list[Stuck]) -> None:
        worker_id = self.identity.worker_id
        if stuck:
            some = ", ".join(str(one) for one in stuck[:10])
            logger.error("worker %s: ended; %d handlers could not be stopped: %s", worker_id, len(stuck), some)
        elif self.held:
            logger.warning("worker %s: ended; %d leases run out by themselves", worker_id, len(self.held))
        else:
            logger.info("worker %s: ended, nothing held", worker_id)

    async def _let_go(self) -> None:
        """Return all tasks, as at the end of a grace period: the worker was cancelled, most likely with its loop."""
        self.health.draining = True
        self.dispatcher.hand_back()
        self.end_grace()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                while not self._is_empty():
                    self.dispatcher.hand_back()  # a listener can have claimed what has just been returned
                    if partition := next(iter(self.outbox), None):
                        await self.claimer.call(partition, 0)
                    else:
                        self.wanted.clear()
                        await self.wanted.wait()

    async def _turn_or_rest(self) -> None:
        """A turn. An unhandled error in it is a fault of the worker, and ends no running task."""
        try:
            await self._turn()
        except Exception:
            self._faults += 1
            logger.exception("the worker met an error and goes on (%d of %d in a row)", self._faults, _MOST_FAULTS)
            if self._faults >= _MOST_FAULTS:
                raise
            await asyncio.sleep(backoff_seconds(self._faults))
        else:
            self._faults = 0

    async def _turn(self) -> None:
        """Record outcomes, claim tasks and start them, then wait until there is more to do."""
        health = self.health
        self.wanted.clear()
        if health.claims_nothing:
            self.dispatcher.hand_back()
        await self.turns.run()
        self.dispatcher.start()
        if self.prefetch.is_too_long:
            self.dispatcher.give_up_prefetched()
        if self.outbox or self.turns.worth_claiming():
            # One round of the loop: a started task may end at once, and then its outcome goes with the next call.
            await asyncio.sleep(0)
            return
        if health.draining and not self.slots.running:
            return  # the last outcomes have just been recorded, and no event would wake the worker
        await self._rest()

    async def _rest(self) -> None:
        """Wait until a part has something to do, or a partition is due for a check."""
        health = self.health
        if self.turns.room() > 0:
            self.listeners.wait_for_calls()
        elif self.listeners.claiming:
            await self.listeners.take_back()
            if self.unheard.unsure:
                return  # a full worker holds no task that another could run, and a cordoned one tells what it holds
        if health.cordoned and not self.held:
            health.news.set()
        if not self.held and not self.slots.running:
            self.prefetch.forget_rate()
            health.idle_since_ms = health.idle_since_ms or int(time.time() * 1000)
        timeout = self.turns.next_look()
        if not self.wanted.is_set():
            # Not asyncio.wait_for: before Python 3.12 it costs a task and a round of the loop for each call.
            timer = None if timeout is None else asyncio.get_running_loop().call_later(timeout, self.wanted.set)
            await self.wanted.wait()
            if timer is not None:
                timer.cancel()
        self.listeners.rest()

    def _is_empty(self) -> bool:
        return not (self.slots.running or self.outbox or self.prefetch.claims or len(self.batches))


def _move(context: RunContext, parts: Sequence[Callable[[float], None]], seconds: float) -> None:
    """A test has moved the clock: the time of running tasks and gathering batches moves too."""
    with contextlib.suppress(RuntimeError):  # the loop has ended
        for move in parts:
            context.loop.call_soon_threadsafe(move, seconds)


def _checked(queues: Sequence[str] | None) -> list[str] | None:
    if queues is None:
        return None
    names = [checks.text("queues: a name", each) for each in checks.several("queues", queues, "queue names")]
    if not names:
        raise ConfigurationError("queues=[] names no queue; leave it out to serve all of the application")
    return names


# Parts that most workers do not need are made, and imported, with their first use.


def _make_processes(expanded_limit: int) -> Processes:
    from taskfleet.runtime.executors.process_executor import Processes

    return Processes(expanded_limit)


def _make_batch_runs(parts: tuple[Any, ...]) -> BatchRuns:
    from taskfleet.runtime.running.batch_runs import BatchRuns

    return BatchRuns(*parts)


def _give_up(batch_runs: Callable[[], BatchRuns], endings: Endings, job: Job) -> None:
    """Record the end of a run, of a batch or a single task, whose handler continues after it was stopped."""
    if isinstance(job, BatchJob):
        batch_runs().give_up(job)
    else:
        endings.raised(job, asyncio.CancelledError(), "")
