from __future__ import annotations

import taskfleet
from taskfleet import errors


def test_the_public_surface_is_as_promised() -> None:
    promised = {
        "TaskQueue", "Task", "TaskQueueBuilder", "TaskFunction", "Message", "TaskHandle", "queue_names", "Retry",
        "RetryLater", "current_task", "TaskContext", "Progress",
        "Middleware", "CallNext", "SendNext", "WorkerContext", "Depends", "BatchItem", "BatchTask",
        "QueueOptions", "DeadLetterOptions", "RateLimit", "QueueStats", "WorkerInfo",
        "DeadLetter", "Schedule", "GroupHandle", "chain", "group", "chord",
        "TaskQueueError", "BrokerConnectionError", "BrokerOutOfMemoryError", "BulkEnqueueError",
        "ConfigurationError", "InvalidQueueNameError",
        "PayloadTooLargeError", "QueueFullError", "SerializationError", "TaskCancelledError", "TaskExecutionError",
        "TaskNotFoundError", "TaskTimeoutError", "BadSignatureError", "NewerVersionError", "__version__",
    }  # fmt: skip
    assert set(taskfleet.__all__) == promised
    assert all(hasattr(taskfleet, name) for name in promised)


def test_the_error_tree_in_the_docstring_is_the_real_one() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    for name in defined:
        assert name in (errors.__doc__ or "")
        assert issubclass(getattr(errors, name), taskfleet.TaskQueueError)
