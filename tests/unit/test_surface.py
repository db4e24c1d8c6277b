"""The public surface: every name, signature, option, setting and field that other people's code relies on.

A name may be added here. One that is changed or removed breaks their programs.
"""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from types import ModuleType
from typing import Any

import pytest

import taskfleet
import taskfleet.testing
from taskfleet import errors, queue_names
from taskfleet.settings import Settings
from taskfleet.tasks.options import CallOptions, FunctionTaskOptions

NAMES = {
    "TaskQueue", "Task", "TaskQueueBuilder", "TaskFunction", "Message", "TaskHandle", "queue_names", "Retry",
    "RetryLater", "current_task", "TaskContext", "Progress",
    "Middleware", "CallNext", "SendNext", "WorkerContext", "Depends", "BatchItem", "BatchTask",
    "QueueOptions", "DeadLetterOptions", "RateLimit", "QueueStats", "WorkerInfo",
    "TaskInfo", "AttemptError", "TaskPage",
    "DeadLetter", "Schedule", "GroupHandle", "chain", "group", "chord",
    "TaskQueueError", "BrokerConnectionError", "BrokerOutOfMemoryError", "BulkEnqueueError",
    "ConfigurationError", "InvalidQueueNameError", "ResultTimeoutError", "RunTimeoutError",
    "PayloadTooLargeError", "QueueFullError", "SerializationError", "TaskCancelledError", "TaskExecutionError",
    "TaskNotFoundError", "TaskStateError", "TaskTimeoutError", "BadSignatureError", "NewerVersionError", "__version__",
}  # fmt: skip
TESTING_NAMES = {
    "EnqueuedTask", "InMemoryBroker", "InMemoryRenewer", "InlineWorker", "eager", "in_memory", "in_redis",
}  # fmt: skip

CALLABLES = """
TaskQueue(url=None, *, broker=None, queues=(), result_ttl=3600.0, max_payload_bytes=1048576, max_result_bytes=1048576,
  signing_keys=None, encryption_keys=None, compression=None, compression_threshold_bytes=None, sealing=None,
  middleware=(), settings=None)
TaskQueue.from_config(path=None, **options)
TaskQueue.task(function=None, /, **options)
TaskQueue.batch_task(*, item=None, item_class=None, size=100, window_ms=50.0, **options)
TaskQueue.override(provider, replacement)
TaskQueue.add_middleware(middleware)
async TaskQueue.enqueue(task, queue=None)
async TaskQueue.schedule(task, queue=None, *, delay)
async TaskQueue.send(message)
async TaskQueue.enqueue_many(messages, *, wait_for_room=0.0)
TaskQueue.enqueue_sync(task, queue=None)
TaskQueue.schedule_sync(task, queue=None, *, delay)
TaskQueue.send_sync(message)
TaskQueue.enqueue_many_sync(messages, *, wait_for_room=0.0)
TaskQueue.handle(task_id)
async TaskQueue.health_check()
async TaskQueue.queue_stats(name, *, horizon=0.0)
async TaskQueue.get_metrics()
async TaskQueue.workers()
async TaskQueue.dead_letters(name, *, limit=100, cursor=0)
async TaskQueue.requeue_dead(name, ids=None)
async TaskQueue.purge_dead(name)
async TaskQueue.purge(name)
async TaskQueue.list_tasks(name=None, *, state=None, task=None, limit=50, cursor=None)
async TaskQueue.search_tasks(text, name=None, *, state=None, task=None, limit=50, cursor=None)
async TaskQueue.retry(task_id)
async TaskQueue.pause(name)
async TaskQueue.resume(name)
async TaskQueue.add_schedule(*, name, task, schedule=None, every=None, args=(), kwargs=None, queue=None, time_zone=None,
  starting_deadline_seconds=None, concurrency_policy='Allow', paused=False)
async TaskQueue.remove_schedule(name)
async TaskQueue.pause_schedule(name)
async TaskQueue.resume_schedule(name)
async TaskQueue.run_schedule(name)
async TaskQueue.list_schedules()
async TaskQueue.start_scheduler()
async TaskQueue.stop_scheduler()
async TaskQueue.start_workers(count=None, *, queues=None)
async TaskQueue.stop_workers()
async TaskQueue.close()
TaskFunction.message(*args, **kwargs)
TaskFunction.partial(*args, **kwargs)
BatchItem.made_of(value, *, id='')
async TaskFunction.enqueue(*args, **kwargs)
TaskFunction.enqueue_sync(*args, **kwargs)
async TaskFunction.enqueue_many(calls)
TaskFunction.enqueue_many_sync(calls)
TaskFunction.options(**options)
async TaskHandle.status()
async TaskHandle.result(timeout=None)
async TaskHandle.cancel()
async TaskHandle.progress()
async TaskHandle.info()
TaskHandle.status_sync()
TaskHandle.result_sync(timeout=None)
TaskHandle.cancel_sync()
TaskHandle.progress_sync()
TaskHandle.info_sync()
async GroupHandle.statuses()
async GroupHandle.result(timeout=None)
async GroupHandle.cancel()
GroupHandle.statuses_sync()
GroupHandle.result_sync(timeout=None)
GroupHandle.cancel_sync()
async Task.execute()
current_task()
async TaskContext.progress(done, total=None, note='')
TaskContext.progress_sync(done, total=None, note='')
chain(*members)
group(*members)
chord(members, callback)
Retry.fixed(delay)
Retry.linear(delay, *, max_delay=3600.0)
Retry.exponential(base=1.0, *, max_delay=3600.0, jitter=True)
RetryLater(delay)
QueueOptions(name, priority=0, weight=1, lease_seconds=30.0, max_deliveries=5, max_length=0, partitions=1,
  rate_limit=None, rate_limit_per_key=None, dead_letter=DeadLetterOptions(max_length=10000, ttl_seconds=1209600.0),
  concurrency=None, concurrency_per_key=None)
RateLimit(tasks_per_second, burst)
DeadLetterOptions(max_length=10000, ttl_seconds=1209600.0)
TaskQueueBuilder(url=None, *, path=None, **options)
TaskQueueBuilder.initial_workers(count)
TaskQueueBuilder.auto_register_tasks(*modules)
TaskQueueBuilder.with_scheduler()
TaskQueueBuilder.with_autoscaler(*, min_workers=None, max_workers=None, scale_up_threshold=None,
  scale_down_threshold=None, scale_up_count=None, scale_down_count=None)
TaskQueueBuilder.build()
Depends(provider, *, scope='task')
async Middleware.enqueue(messages, call_next)
async Middleware.execute(task, call_next)
async Middleware.execute_batch(tasks, call_next)
async Middleware.on_retry(task, reason, error, delay)
async Middleware.on_dead(task, reason, error)
async Middleware.startup(worker)
async Middleware.shutdown(worker)
testing.InMemoryBroker(*, clock=None, store=None)
testing.InMemoryBroker.advance(seconds)
testing.InMemoryBroker.enqueued(name=None)
testing.InlineWorker(queue)
testing.InlineWorker.enqueued(task=None)
testing.InlineWorker.advance(seconds)
async testing.InlineWorker.run_until_idle(*, through_delays=False, raise_errors=False, timeout=30.0)
async testing.InlineWorker.execute(task)
testing.in_memory(queue, *, clock=None)
"""

FIELDS = {
    "BatchItem": "id args kwargs value context",
    "DeadLetter": "id task state reason error traceback attempts deliveries enqueued_at died_at",
    "Progress": "done total note at fraction",
    "QueueStats": (
        "ready in_flight delayed due dead oldest_age_seconds enqueued_total finished_total failed_total busy_ms_total "
        "paused blocked runnable_total attempts_total parked due_soon ticks_due ticks_due_soon"
    ),
    "Schedule": (
        "name schedule every time_zone task queue concurrency_policy starting_deadline_seconds paused next_at last_at "
        "last_task_id fired_total skipped_total dropped_total"
    ),
    "TaskInfo": (
        "id queue state task args kwargs enqueued_at enqueued_by parent due_at started_at ended_at worker "
        "lease_expires_at attempt deliveries max_retries unique_key limit_key fair_key waits_for waiting errors "
        "progress result error traceback reason problem"
    ),
    "AttemptError": "attempt at worker reason error traceback retry_at trace_id",
    "TaskPage": "items cursor examined",
    "TaskContext": "id name queue attempt delivery enqueued_at deadline headers",
    "WorkerContext": "name queues concurrency",
    "WorkerInfo": (
        "worker_id name pid slots busy queues state heartbeat_age_seconds idle_seconds started_ms version stuck "
        "oldest_run_seconds sealed_only host clock_skew_seconds"
    ),
}
PROPERTIES = {
    "TaskQueue": "worker_count url broker",
    "TaskHandle": "id queue",
    "TaskFunction": "name",
}

OF_CALL = {
    "queue", "max_retries", "timeout", "retry", "max_age", "expires", "delay", "eta", "unique_key", "unique_mode",
    "limit_key", "fair_key", "after", "result_ttl", "wait_for_room",
}  # fmt: skip
OF_TASK = (OF_CALL - {"eta", "after", "wait_for_room"}) | {"name", "never_retry", "always_retry", "executor"}

SETTINGS = {
    "redis": "url pool_size connection_timeout command_timeout password_file",
    "workers": "initial_count max_concurrent_tasks heartbeat_interval shutdown_grace_period",
    "autoscaler": ("min_workers max_workers scale_up_threshold scale_down_threshold scale_up_count scale_down_count"),
    "scheduler": "enabled tick_interval max_tasks_per_tick",
    "auto_register": "enabled",
    "web": "auto_configure_routes route_prefix enable_metrics enable_health_check",
}


def found(path: str) -> Any:
    """What a dotted name means, from `taskfleet` on."""
    thing: Any = taskfleet
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def signature_of(path: str) -> str:
    """The call as it is written in `CALLABLES`: without annotations, and `async` in front where it is awaited."""
    thing = found(path)
    assert not isinstance(thing, ModuleType)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in inspect.signature(thing).parameters.items()
        if name != "self"
    ]
    kind = "async " if inspect.iscoroutinefunction(thing) else ""
    return f"{kind}{path}{inspect.Signature(parameters)}"


def test_the_names_that_are_exported() -> None:
    assert set(taskfleet.__all__) == NAMES
    assert all(hasattr(taskfleet, name) for name in NAMES)
    assert set(taskfleet.testing.__all__) == TESTING_NAMES


@pytest.mark.parametrize("promised", CALLABLES.strip().replace("\n  ", " ").splitlines())
def test_signatures(promised: str) -> None:
    path = promised.removeprefix("async ").partition("(")[0]
    assert signature_of(path) == promised


@pytest.mark.parametrize("record", FIELDS)
def test_the_fields_of_records(record: str) -> None:
    cls = found(record)
    fields = [field.name for field in dataclasses.fields(cls) if not field.name.startswith("_")]
    properties = [name for name, member in vars(cls).items() if isinstance(member, property)]
    assert " ".join([*fields, *properties]) == FIELDS[record]


@pytest.mark.parametrize("owner", PROPERTIES)
def test_properties(owner: str) -> None:
    assert all(hasattr(found(owner), name) for name in PROPERTIES[owner].split())


def test_the_options_of_tasks_and_calls() -> None:
    assert FunctionTaskOptions.__optional_keys__ == OF_TASK
    assert CallOptions.__optional_keys__ == OF_CALL


@pytest.mark.parametrize("section", SETTINGS)
def test_sections_and_keys_of_the_settings(section: str) -> None:
    model: Any = Settings.model_fields[section].annotation
    assert set(SETTINGS[section].split()) <= set(model.model_fields)


def test_the_names_of_queues() -> None:
    assert (queue_names.DEFAULT, queue_names.HIGH_PRIORITY, queue_names.LOW_PRIORITY) == (
        "default",
        "high_priority",
        "low_priority",
    )


def test_the_error_tree_in_the_docstring_is_the_real_one() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    for name in defined:
        assert name in (errors.__doc__ or "")
        assert issubclass(getattr(errors, name), taskfleet.TaskQueueError)


def test_errors_say_which_task_and_what_else() -> None:
    timeout = taskfleet.TaskTimeoutError("late", task_id="a", timeout_seconds=3.0)
    assert (timeout.task_id, timeout.timeout_seconds) == ("a", 3.0)
    for error in (timeout, taskfleet.RunTimeoutError("late", task_id="a", timeout_seconds=3.0, traceback="t")):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.task_id, again.timeout_seconds) == ("late", "a", 3.0)
        assert isinstance(again, TimeoutError)
    refused = taskfleet.ConfigurationError("no")
    assert taskfleet.BulkEnqueueError([(0, refused)]).errors == [(0, refused)]
