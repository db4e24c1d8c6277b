"""The frames between a worker and a process that runs its functions: the length as four bytes, then messagepack.

    to the child    [module], once: the module to import before the child is ready
    from the child  ["ready"]
    to the child    a `Call`, whose last field is a `CallContext`
    from the child  ["progress", task id, done, total, note], any number of times before the answer
    from the child  ["returned", result record]
                    ["unfit", why the result cannot be encoded]
                    ["raised", then the fields of a `RaisedError`]

Values have the same encoding as in Redis and are never pickled. An exception is sent as text, so that any can be sent.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

LENGTH = struct.Struct(">I")

READY: Final = "ready"
PROGRESS: Final = "progress"
RETURNED: Final = "returned"
UNFIT: Final = "unfit"
RAISED: Final = "raised"
TOO_LARGE: Final = "too_large"  # never sent: it stands for an answer that the worker did not read, with its bytes

# What to do with the result: nothing, record it, or record it for another task that takes it as an argument.
DROP_RESULT: Final = 0
KEEP_RESULT: Final = 1
PASS_RESULT_ON: Final = 2


class CallContext(NamedTuple):
    """The context of the task, for `current_task()` and the log. Times are Unix seconds.

    `worker` is the id of the worker, `trace` the `traceparent` of its span, or ''.
    """

    id: str
    queue: str
    attempt: int
    delivery: int
    enqueued_at: float
    deadline: float | None
    headers: dict[str, str]
    worker: str
    trace: str


class Call(NamedTuple):
    """A function to run. `result` is one of the constants above, and `context` the fields of a `CallContext`."""

    module: str
    qualname: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    result: int
    context: list[Any]


class RaisedError(NamedTuple):
    """An exception of the function. `classes` are "module:qualname" of its class and base classes."""

    message: str
    traceback: str
    classes: list[str]
    delay: float | None  # of a `RetryLater`, in seconds
