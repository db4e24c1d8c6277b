"""The metrics of messaging: messages sent and consumed, and the seconds of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from opentelemetry.metrics import MeterProvider, NoOpCounter, get_meter

from taskfleet import version
from taskfleet.integrations.opentelemetry import conventions
from taskfleet.tasks.message import Message

NAME = "taskfleet"
_OFF = (NoOpCounter, type(None))


class Measures:
    """The instruments of one queue's middleware. Labels are queue, task, operation and the type of an error."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = get_meter(NAME, version.__version__, provider, conventions.SCHEMA_URL)
        self.meter = meter
        self._sent = meter.create_counter(
            conventions.SENT_MESSAGES, "{message}", "Number of messages producer attempted to send to the broker."
        )
        self._consumed = meter.create_counter(
            conventions.CONSUMED_MESSAGES, "{message}", "Number of messages that were delivered to the application."
        )
        self._operation = meter.create_histogram(
            conventions.OPERATION_DURATION,
            "s",
            "Duration of messaging operation initiated by a producer or consumer client.",
            explicit_bucket_boundaries_advisory=conventions.DURATION_BUCKETS,
        )
        self._process = meter.create_histogram(
            conventions.PROCESS_DURATION,
            "s",
            "Duration of processing operation.",
            explicit_bucket_boundaries_advisory=conventions.DURATION_BUCKETS,
        )

    @property
    def on(self) -> bool:
        """Whether an SDK counts: an instrument of the API stands for that of the SDK, which may be set up later."""
        return not isinstance(getattr(self._sent, "_real_instrument", self._sent), _OFF)

    def sent(self, messages: Sequence[Message[Any]], seconds: float, error: str) -> None:
        """Messages were sent in one operation, or were to be sent when `error` came."""
        counts = Counter((message.queue, message.task.name) for message in messages)
        for (queue, task), count in counts.items():
            self._sent.add(count, _labels(conventions.SEND, queue, task, error))
        queues = {queue for queue, _ in counts}
        tasks = {task for _, task in counts}
        self._operation.record(
            seconds,
            _labels(
                conventions.SEND,
                queues.pop() if len(queues) == 1 else "",
                tasks.pop() if len(tasks) == 1 else "",
                error,
            )
            | {conventions.OPERATION_TYPE: conventions.SEND},
        )

    def processed(self, queue: str, task: str, count: int, seconds: float, error: str) -> None:
        """A run of `count` tasks has ended."""
        labels = _labels(conventions.PROCESS, queue, task, error)
        self._consumed.add(count, labels)
        self._process.record(seconds, labels)


def _labels(operation: str, queue: str, task: str, error: str) -> dict[str, str]:
    labels = {conventions.SYSTEM: conventions.TASKFLEET, conventions.OPERATION_NAME: operation}
    if queue:
        labels[conventions.DESTINATION] = queue
    if task:
        labels[conventions.TASK] = task
    if error:
        labels[conventions.ERROR_TYPE] = error
    return labels
