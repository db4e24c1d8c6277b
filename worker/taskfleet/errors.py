"""The errors that Taskfleet raises on purpose.

    TaskQueueError
    ├── ConfigurationError          an option, key or file is wrong; the message names it and the expected form
    │   └── InvalidQueueNameError
    ├── BrokerConnectionError       Redis cannot be reached, or refuses the connection
    │   ├── BrokerOutOfMemoryError  Redis has reached its maxmemory and accepts no new data
    │   └── ReplyTooLargeError      Redis sent more in one reply than this program takes
    ├── SerializationError          a value cannot be encoded, or does not fit its annotation
    │   ├── PayloadTooLargeError
    │   ├── BadSignatureError       a stored task or result has no signature of a known key
    │   └── NewerVersionError       `.version`: a newer Taskfleet than this one stored it
    ├── QueueFullError              the queue holds `max_length` waiting tasks
    ├── BulkEnqueueError            `enqueue_many` was refused; `.errors` lists (index, error)
    ├── TaskTimeoutError            a time is over; `.task_id`, `.timeout_seconds`; also a TimeoutError
    │   └── ResultTimeoutError      the caller stopped waiting: `result(timeout=…)`; the task goes on
    ├── EventLoopRunningError       a `…_sync` call inside a running event loop; also a RuntimeError
    ├── TaskNotFoundError           no task has that id, or no task function that name
    ├── TaskStateError              the task is in a state in which this cannot be done; `.task_id`
    └── TaskExecutionError          the task ended without a result; `.task_id`, `.traceback`
        ├── RunTimeoutError         it ran longer than its `timeout`; also a TaskTimeoutError
        └── TaskCancelledError

Every message is one line that names the faulty thing and says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class TaskQueueError(Exception):
    """The root of all errors of Taskfleet."""


class ConfigurationError(TaskQueueError):
    """An option, key, manifest or file is wrong."""


class InvalidQueueNameError(ConfigurationError):
    """A queue name is not 1 to 255 characters of letters, digits, `-`, `_`, `:` and `.`."""


class BrokerConnectionError(TaskQueueError):
    """Redis cannot be reached or refuses the connection."""


class BrokerOutOfMemoryError(BrokerConnectionError):
    """Redis has reached its `maxmemory`: it accepts no new data until memory is freed."""


class ReplyTooLargeError(BrokerConnectionError):
    """Redis sent more in one reply than this program accepts: the stored value is larger than its limits."""


class SerializationError(TaskQueueError):
    """An argument or result cannot be encoded, or does not fit its annotation."""


class PayloadTooLargeError(SerializationError):
    """An encoded task is larger than `max_payload_bytes`, or a result than `max_result_bytes`."""


class BadSignatureError(SerializationError):
    """A stored task or result is signed by no key that is known here, or was moved here from another task or queue."""


class NewerVersionError(SerializationError):
    """A newer Taskfleet than this one stored the task or result. `version` is the version of its envelope."""

    def __init__(self, message: str, *, version: int) -> None:
        super().__init__(message)
        self.version = version


class QueueFullError(TaskQueueError):
    """The queue already holds `max_length` waiting tasks."""


class BulkEnqueueError(TaskQueueError):
    """Some messages of `enqueue_many` cannot be enqueued; no message was enqueued for their queues."""

    def __init__(self, errors: Sequence[tuple[int, TaskQueueError]]) -> None:
        self.errors = list(errors)
        index, first = self.errors[0]
        more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
        super().__init__(f"message {index} cannot be enqueued: {first}{more}")


class EventLoopRunningError(TaskQueueError, RuntimeError):
    """A `…_sync` call inside a running event loop would block it; await the other form."""


class TaskNotFoundError(TaskQueueError):
    """No task has that id, or no task function that name."""


class TaskStateError(TaskQueueError):
    """The task is in a state in which this cannot be done; the message says which, and what can."""

    def __init__(self, message: str, *, task_id: str) -> None:
        super().__init__(message)
        self.task_id = task_id


class TaskExecutionError(TaskQueueError):
    """The task ended without a result: it failed, or it is dead.

    `traceback` is the traceback of its last run, if any.
    """

    def __init__(self, message: str, *, task_id: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id
        self.traceback = traceback


class TaskTimeoutError(TaskQueueError, TimeoutError):
    """A time is over: `ResultTimeoutError` or `RunTimeoutError`. `timeout_seconds` is how long it was."""

    def __init__(self, message: str, *, task_id: str = "", timeout_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.timeout_seconds = timeout_seconds


class ResultTimeoutError(TaskTimeoutError):
    """`result(timeout=…)` stopped waiting. Nothing happened to the task: it may still end, and can be asked again."""


class RunTimeoutError(TaskExecutionError, TaskTimeoutError):
    """The task ended without a result, since its last run took longer than its `timeout`."""

    def __init__(self, message: str, *, task_id: str = "", timeout_seconds: float = 0.0, traceback: str = "") -> None:
        super().__init__(message, task_id=task_id, traceback=traceback)
        self.timeout_seconds = timeout_seconds


class TaskCancelledError(TaskExecutionError):
    """The task was cancelled before it had a result."""
