"""A Redis-backed task queue for asyncio Python.

from taskfleet import TaskQueue

queue = TaskQueue("redis://localhost:6379/0")

@queue.task
async def send_email(to: str, subject: str) -> dict[str, str]: ...

handle = await send_email.enqueue("a@b.c", subject="hi")
print(await handle.result(timeout=10))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskfleet import queue_names
    from taskfleet.context import TaskContext, current_task
    from taskfleet.embedded.builder import TaskQueueBuilder
    from taskfleet.errors import (
        BadSignatureError,
        BrokerConnectionError,
        BrokerOutOfMemoryError,
        BulkEnqueueError,
        ConfigurationError,
        InvalidQueueNameError,
        NewerVersionError,
        PayloadTooLargeError,
        QueueFullError,
        ResultTimeoutError,
        RunTimeoutError,
        SerializationError,
        TaskCancelledError,
        TaskExecutionError,
        TaskNotFoundError,
        TaskQueueError,
        TaskStateError,
        TaskTimeoutError,
    )
    from taskfleet.handles import GroupHandle, TaskHandle
    from taskfleet.inspection.task_info import AttemptError, TaskInfo, TaskPage
    from taskfleet.middleware import CallNext, Middleware, SendNext, WorkerContext
    from taskfleet.options import DeadLetterOptions, QueueOptions, RateLimit
    from taskfleet.protocol.dead_letter import DeadLetter
    from taskfleet.protocol.progress import Progress
    from taskfleet.protocol.stats import QueueStats
    from taskfleet.protocol.worker_info import WorkerInfo
    from taskfleet.queue import TaskQueue
    from taskfleet.retry import Retry, RetryLater
    from taskfleet.scheduling.schedule import Schedule
    from taskfleet.tasks.batch import BatchItem, BatchTask
    from taskfleet.tasks.class_task import Task
    from taskfleet.tasks.depends import Depends
    from taskfleet.tasks.function import TaskFunction
    from taskfleet.tasks.message import Message
    from taskfleet.version import __version__
    from taskfleet.workflows import chain, chord, group

__all__ = [
    "TaskQueue", "TaskQueueBuilder", "Task", "TaskFunction", "Message", "TaskHandle", "GroupHandle", "queue_names",
    "chain", "group", "chord",
    "Retry", "RetryLater", "current_task", "TaskContext", "Progress",
    "Middleware", "CallNext", "SendNext", "WorkerContext", "Depends", "BatchItem", "BatchTask",
    "QueueOptions", "DeadLetterOptions", "RateLimit", "QueueStats", "WorkerInfo", "DeadLetter", "Schedule",
    "TaskInfo", "AttemptError", "TaskPage",
    "TaskQueueError", "BrokerConnectionError", "BrokerOutOfMemoryError", "BulkEnqueueError",
    "ConfigurationError", "InvalidQueueNameError", "ResultTimeoutError", "RunTimeoutError",
    "PayloadTooLargeError", "QueueFullError", "SerializationError", "TaskCancelledError", "TaskExecutionError",
    "TaskNotFoundError", "TaskStateError", "TaskTimeoutError", "BadSignatureError", "NewerVersionError", "__version__",
]  # fmt: skip

# Names are imported when they are first used: the command and programs that only enqueue start faster, and process 1 of
# a container can answer a signal before the library is loaded.
_HOMES = {
    "context": "TaskContext current_task",
    "embedded.builder": "TaskQueueBuilder",
    "errors": (
        "BadSignatureError BrokerConnectionError BrokerOutOfMemoryError BulkEnqueueError ConfigurationError "
        "InvalidQueueNameError NewerVersionError PayloadTooLargeError QueueFullError ResultTimeoutError "
        "RunTimeoutError SerializationError "
        "TaskCancelledError TaskExecutionError TaskNotFoundError TaskQueueError TaskStateError "
        "TaskTimeoutError"
    ),
    "handles": "GroupHandle TaskHandle",
    "inspection.task_info": "AttemptError TaskInfo TaskPage",
    "middleware": "CallNext Middleware SendNext WorkerContext",
    "options": "DeadLetterOptions QueueOptions RateLimit",
    "protocol.dead_letter": "DeadLetter",
    "protocol.progress": "Progress",
    "protocol.stats": "QueueStats",
    "protocol.worker_info": "WorkerInfo",
    "queue": "TaskQueue",
    "retry": "Retry RetryLater",
    "scheduling.schedule": "Schedule",
    "tasks.batch": "BatchItem BatchTask",
    "tasks.class_task": "Task",
    "tasks.depends": "Depends",
    "tasks.function": "TaskFunction",
    "tasks.message": "Message",
    "version": "__version__",
    "workflows": "chain chord group",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name == "queue_names":
        return importlib.import_module("taskfleet.queue_names")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'taskfleet' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"taskfleet.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
