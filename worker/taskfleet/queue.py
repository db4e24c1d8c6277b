"""`TaskQueue`: the object that application code defines and sends tasks with. It composes the parts of the library."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from taskfleet import checks, config, security, sync
from taskfleet.application import Application
from taskfleet.brokers import broker_at
from taskfleet.context import CURRENT
from taskfleet.errors import ConfigurationError
from taskfleet.handles import TaskHandle
from taskfleet.managing import Managing
from taskfleet.middleware import Middleware
from taskfleet.middleware_sender import MiddlewareSender
from taskfleet.options import QueueOptions
from taskfleet.producer import sendable
from taskfleet.protocol.sealing import Policy
from taskfleet.session import LoopWorkers, Sessions
from taskfleet.settings import Settings
from taskfleet.tasks import other_queues
from taskfleet.tasks.defining import Defining
from taskfleet.tasks.member import Member, NoTaskBefore, TaskCall
from taskfleet.tasks.message import Message
from taskfleet.tasks.workflow import Workflow

if TYPE_CHECKING:
    from taskfleet.protocol.broker import Broker
    from taskfleet.scheduling.call import ScheduledTask
    from taskfleet.scheduling.schedule import ConcurrencyPolicy, Schedule
    from taskfleet.tasks.class_task import AsyncTask

R = TypeVar("R")
H = TypeVar("H")


class TaskQueue(Defining, Managing):
    """Defines tasks, sends them, shows and manages their queues, and runs them.

    Args:
        url: `redis://host:6379/0`, `rediss://…`, `unix://…`, `redis+sentinel://host:26379,host:26379/mastername/0` or
            `redis+cluster://host:6379,host:6379`; `rediss+…` for TLS; or `memory://name`: in this process only.
        broker: a `taskfleet.testing.InMemoryBroker`, in place of `url`.
        queues: options per queue (`QueueOptions`, dicts of the same names, or bare names). A queue that is not listed
            has default options.
        result_ttl: seconds for which results are kept; 0 keeps none.
        max_payload_bytes: the largest encoded task that `enqueue` accepts, compressed and sealed as it is stored.
        max_result_bytes: the largest encoded result, as it is stored; a larger one is an error on its task.
        signing_keys: bytes or text; the first signs tasks and results, all verify. A task without a valid signature
            never runs.
        encryption_keys: 32 bytes each, or those in base64; the first encrypts, all decrypt. With both kinds of keys,
            records are written encrypted, and signed ones are still accepted. Needs `taskfleet[crypto]`.
        compression: `"zstd"` compresses records of `compression_threshold_bytes` or more. Before Python 3.14 it needs
            `taskfleet[zstd]`.
        sealing: `require` refuses records without a valid seal; `write` and `read` are the steps to get there without
            losing a task (docs/how-to/security.md).
        middleware: code around every enqueue and run, outermost first (`Middleware`).
        settings: the settings, used as they are. Without them the environment is read, and by `from_config` a file
            too. The arguments here override both.

    Errors: `ConfigurationError` names the option. Nothing connects before the first operation.
    """

    # Called with each queue that is made, for tools that instrument a program from outside.
    on_new: ClassVar[list[Callable[[TaskQueue], None]]] = []

    def __init__(
        self,
        url: str | None = None,
        *,
        broker: Broker | None = None,
        queues: Sequence[QueueOptions | Mapping[str, Any] | str] = (),
        result_ttl: float | timedelta = 3600.0,
        max_payload_bytes: int = 1_048_576,
        max_result_bytes: int = 1_048_576,
        signing_keys: security.Keys | None = None,
        encryption_keys: security.Keys | None = None,
        compression: security.Compression | None = None,
        compression_threshold_bytes: int | None = None,
        sealing: Policy | None = None,
        middleware: Sequence[Middleware] = (),
        settings: Settings | None = None,
    ) -> None:
        if url is not None and broker is not None:
            raise ConfigurationError("url and broker both say where the queues are kept; keep one")
        if settings is None:
            settings = config.from_environment()
        settings = checks.instance(Settings, "what taskfleet.config.load() returns")("settings", settings)
        if broker is not None and not isinstance(getattr(broker, "url", None), str):
            raise ConfigurationError(
                f"broker={checks.shown(broker)} is no broker; expected a RedisBroker or InMemoryBroker"
            )
        self.application = Application(
            settings,
            queues=queues,
            result_ttl=result_ttl,
            max_payload_bytes=max_payload_bytes,
            max_result_bytes=max_result_bytes,
            signing_keys=signing_keys,
            encryption_keys=encryption_keys,
            compression=compression,
            compression_threshold_bytes=compression_threshold_bytes,
            sealing=sealing,
            middleware=middleware,
        )
        if broker is None:
            stored_limit = max(self.application.max_payload_bytes, self.application.max_result_bytes)
            broker = broker_at(url, settings.redis, stored_limit_bytes=stored_limit)
        self.sessions = Sessions(self.application, broker)
        self._sending = MiddlewareSender(self.application, self.sessions)
        super().__init__(self.application.registry, self.application.overrides, self._sending)
        for made in self.on_new:
            made(self)

    @classmethod
    def from_config(cls, path: str | Path | None = None, **options: Any) -> TaskQueue:
        """A queue from environment, `task-queue.toml` or `task-queue.yaml`, and defaults; `options` override them."""
        return cls(settings=config.load(path), **options)

    def __repr__(self) -> str:
        return f"TaskQueue(tasks={len(self.registry)}, queues={sorted(o.name for o in self.application.queue_options)})"

    def add_middleware(self, middleware: Middleware) -> None:
        """Add a middleware inside all others. `ConfigurationError` once a worker of this queue has started."""
        self.application.middleware.add(middleware)

    @property
    def settings(self) -> Settings:
        return self.application.settings

    # Sending.

    @overload
    async def enqueue(self, task: AsyncTask[R], queue: str | None = None) -> TaskHandle[R]: ...

    @overload
    async def enqueue(self, task: Member[NoTaskBefore, object, H], queue: str | None = None) -> H: ...

    async def enqueue(self, task: Any, queue: str | None = None) -> Any:
        """Send a class task, a message or a workflow; returns when Redis has it.

        The handle of a workflow stands for its end: the last task of a chain, or all tasks of a group.
        """
        if isinstance(task, Workflow):
            from taskfleet.workflows import compile_workflow  # only here: most programs send no workflow

            sendable.check_workflow(queue)
            return await self._sending.send_workflow(compile_workflow(task))
        return await self.send(self._message(task, queue, "queue.enqueue"))

    @overload
    async def schedule(
        self, task: AsyncTask[R], queue: str | None = None, *, delay: float | timedelta
    ) -> TaskHandle[R]: ...

    @overload
    async def schedule(
        self, task: TaskCall[NoTaskBefore, R], queue: str | None = None, *, delay: float | timedelta
    ) -> TaskHandle[R]: ...

    async def schedule(self, task: Any, queue: str | None = None, *, delay: float | timedelta) -> TaskHandle[Any]:
        """Send a class task or a message that becomes ready after `delay` (seconds or timedelta)."""
        return await self.send(self._message(task, queue, "queue.schedule").delayed(delay))

    def _message(self, task: object, queue: str | None, call: str) -> Message[Any]:
        message = sendable.message_of(task, call)
        return message if queue is None else message.to(queue)

    async def send(self, message: Message[R]) -> TaskHandle[R]:
        """Send one message. Messages of one turn of the event loop share a call to Redis."""
        return await self._sending.send(message)

    async def enqueue_many(
        self, messages: Iterable[TaskCall[NoTaskBefore, R]], *, wait_for_room: float | timedelta = 0.0
    ) -> list[TaskHandle[R]]:
        """Send many messages in order; the handles have the same order.

        `wait_for_room`: seconds to wait while a queue is full, before `QueueFullError`.
        Errors: `BulkEnqueueError` lists every message that cannot be encoded; no task is then enqueued for the queues
        of those messages. `TypeError` names an argument that is no message; then no task at all is enqueued.
        """
        wait_for_room = checks.seconds("wait_for_room", wait_for_room)
        messages = sendable.messages_of(messages, "queue.enqueue_many")
        return await self._sending.send_many(messages, wait_for_room=wait_for_room)

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """A handle on any task by its id. Errors: `ConfigurationError` for a text that cannot be an id."""
        task_id = checks.key("task_id", task_id, what="an id")
        return TaskHandle(self.sessions, task_id, None)

    # Sending from code without an event loop, in any thread.

    @overload
    def enqueue_sync(self, task: AsyncTask[R], queue: str | None = None) -> TaskHandle[R]: ...

    @overload
    def enqueue_sync(self, task: Member[NoTaskBefore, object, H], queue: str | None = None) -> H: ...

    def enqueue_sync(self, task: Any, queue: str | None = None) -> Any:
        """`enqueue` for code without an event loop; the same errors."""
        call = functools.partial(self.enqueue, task, queue)
        return sync.run(call, instead="await queue.enqueue(…)", sends=True)

    @overload
    def schedule_sync(
        self, task: AsyncTask[R], queue: str | None = None, *, delay: float | timedelta
    ) -> TaskHandle[R]: ...

    @overload
    def schedule_sync(
        self, task: TaskCall[NoTaskBefore, R], queue: str | None = None, *, delay: float | timedelta
    ) -> TaskHandle[R]: ...

    def schedule_sync(self, task: Any, queue: str | None = None, *, delay: float | timedelta) -> TaskHandle[Any]:
        """`schedule` for code without an event loop; the same errors."""
        call = functools.partial(self.schedule, task, queue, delay=delay)
        return sync.run(call, instead="await queue.schedule(…)", sends=True)

    def enqueue_many_sync(
        self, messages: Iterable[TaskCall[NoTaskBefore, R]], *, wait_for_room: float | timedelta = 0.0
    ) -> list[TaskHandle[R]]:
        """`enqueue_many` for code without an event loop; the same errors."""
        call = functools.partial(self.enqueue_many, messages, wait_for_room=wait_for_room)
        return sync.run(call, instead="await queue.enqueue_many(…)", sends=True)

    def send_sync(self, message: Message[R]) -> TaskHandle[R]:
        """`send` for code without an event loop."""
        return self._sending.send_sync(message)

    # Schedules. Their modules are imported here, as most programs have none.

    async def add_schedule(
        self,
        *,
        name: str,
        task: ScheduledTask,
        schedule: str | None = None,
        every: float | timedelta | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        time_zone: str | None = None,
        starting_deadline_seconds: float | timedelta | None = None,
        concurrency_policy: ConcurrencyPolicy = "Allow",
        paused: bool = False,
    ) -> Schedule:
        """Enqueue a task at every tick. A schedule of that name is replaced; with the same timing its next tick stays.

        Args:
            name: unique among all schedules.
            task: a task function, a `Task` class (`kwargs` are its fields) or instance, or a name. A name may be
                unknown in this process.
            schedule: five cron fields, six with seconds first, or a macro such as `@daily`.
            every: in place of `schedule`, seconds between ticks, at least 1, counted from the epoch.
            args, kwargs: the arguments of each call; they are checked and encoded now.
            queue: by default the queue of the task.
            time_zone: the time zone of `schedule`, such as `Europe/Berlin`; by default UTC.
            starting_deadline_seconds: a tick later than this is dropped. Without it, ticks that were missed while no
                scheduler ran fire as one.
            concurrency_policy: `Allow`; `Forbid` skips a tick while the task of the last tick is unfinished; `Replace`
                cancels that task.
            paused: keep the schedule without ticks, until it is added again.

        Errors: `ConfigurationError` names the argument or the field, `SerializationError` the task's parameter.
        """
        from taskfleet.scheduling import adding

        new = adding.check(
            self.application,
            name=name, task=task, schedule=schedule, every=every, args=args, to=queue,
            kwargs={} if kwargs is None else kwargs,
            time_zone=time_zone, starting_deadline_seconds=starting_deadline_seconds,
            concurrency_policy=concurrency_policy, paused=paused,
        )  # fmt: skip
        return await adding.add(self.broker, new)

    async def remove_schedule(self, name: str) -> bool:
        """Remove a schedule; returns whether there was one. Tasks that it has already enqueued stay."""
        from taskfleet.scheduling import adding

        # Any text, so that a schedule of another program can be removed, too.
        return await adding.remove(self.broker, checks.key("name", name, what="a name"))

    async def pause_schedule(self, name: str) -> bool:
        """Keep a schedule without ticks until `resume_schedule`; returns whether there is one of that name.

        Errors: `ConfigurationError` for a schedule that a TaskQueue resource keeps.
        """
        from taskfleet.scheduling import changing

        return await changing.set_paused(self.broker, checks.key("name", name, what="a name"), paused=True)

    async def resume_schedule(self, name: str) -> bool:
        """Let a paused schedule tick again, from now on; returns whether there is one. Errors: as `pause_schedule`."""
        from taskfleet.scheduling import changing

        return await changing.set_paused(self.broker, checks.key("name", name, what="a name"), paused=False)

    async def run_schedule(self, name: str) -> TaskHandle[Any]:
        """Enqueue the task of a schedule now, beside its ticks, whatever its concurrency policy; also of a paused one.

        Errors: `TaskNotFoundError` without such a schedule, `QueueFullError`.
        """
        from taskfleet.scheduling import changing

        name = checks.key("name", name, what="a name")
        return TaskHandle(self.sessions, *await changing.run_now(self.application, self.broker, name))

    async def list_schedules(self) -> list[Schedule]:
        """All schedules, by name."""
        from taskfleet.scheduling import adding

        return await adding.listing(self.broker)

    async def start_scheduler(self) -> None:
        """Run a scheduler for the schedules of all queues in this process; several processes may do so."""
        from taskfleet.scheduling.scheduler import RunningScheduler

        session = self.sessions.current()
        if session.scheduler is None:
            session.scheduler = RunningScheduler(self.application, self.sessions.new_broker)

    async def stop_scheduler(self) -> None:
        """Stop the scheduler that this loop has started."""
        session = self.sessions.current()
        scheduler, session.scheduler = session.scheduler, None
        if scheduler is not None:
            await scheduler.stop()

    # Running.

    async def start_workers(self, count: int | None = None, *, queues: Sequence[str] | None = None) -> None:
        """Run `count` more workers here (default `workers.initial_count`, at most 1000), of
        `workers.max_concurrent_tasks` slots each."""
        if count is None:
            count = self.settings.workers.initial_count
        count = checks.whole("count", count, most=1000)
        self.local_workers().start(count, queues)

    def local_workers(self) -> LoopWorkers:
        """The workers of the running loop; there may be none."""
        from taskfleet.runtime.embedded_workers import EmbeddedWorkers

        session = self.sessions.current()
        if session.workers is None:
            session.workers = EmbeddedWorkers(self.application, self.sessions)
        return session.workers

    async def stop_workers(self) -> None:
        """Drain the workers of all loops of this process: running tasks get the grace period, then they go back."""
        await self.sessions.stop_workers(everywhere=True)

    @property
    def worker_count(self) -> int:
        """The number of workers that run in this process."""
        return sum(len(session.workers) for session in self.sessions if session.workers is not None)

    # Connections.

    @property
    def url(self) -> str:
        """The address of the queues."""
        return self.sessions.url

    @property
    def broker(self) -> Broker:
        """The broker of the running loop. Outside of a loop it can tell the names of keys, and must not be called."""
        return self.sessions.broker

    async def close(self) -> None:
        """Stop the scheduler and the workers that this loop has started, and close all connections.

        The next call opens new connections. Workers of other loops continue. Inside a task, it closes only the
        connections that the task has opened in another loop, and none that the worker uses.
        """
        of_task = CURRENT.get() is not None
        if not of_task:
            await self.stop_scheduler()
            await self.sessions.stop_workers(everywhere=False)
        await self.sessions.disconnect(elsewhere=not of_task)

    async def __aenter__(self) -> TaskQueue:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


other_queues.explain_queue(TaskQueue)
