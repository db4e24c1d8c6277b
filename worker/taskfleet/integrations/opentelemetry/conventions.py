"""Names of OpenTelemetry's semantic conventions for messaging, and of Taskfleet's own attributes.

They are written here, since the package of the conventions keeps unstable names in modules that it may move. A test
compares them with the package.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
PARTITION: Final = "messaging.destination.partition.id"
MESSAGE_ID: Final = "messaging.message.id"
CLIENT_ID: Final = "messaging.client.id"
BATCH_COUNT: Final = "messaging.batch.message_count"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

SENT_MESSAGES: Final = "messaging.client.sent.messages"
CONSUMED_MESSAGES: Final = "messaging.client.consumed.messages"
OPERATION_DURATION: Final = "messaging.client.operation.duration"
PROCESS_DURATION: Final = "messaging.process.duration"
DURATION_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

TASKFLEET: Final = "taskfleet"
SEND: Final = "send"
RECEIVE: Final = "receive"
PROCESS: Final = "process"
WAIT: Final = "wait"  # a name of ours: of the type `receive`, from the time at which a task could run to its run

TASK: Final = "taskfleet.task.name"
ATTEMPT: Final = "taskfleet.task.attempt"
DELIVERY: Final = "taskfleet.task.delivery"
OUTCOME: Final = "taskfleet.task.outcome"  # of a run that ended with neither a result nor a failure
FAILED_ITEMS: Final = "taskfleet.batch.failed_count"
LINK: Final = "taskfleet.link"  # why a span links to another: one of the values below
LINK_ENQUEUE: Final = "enqueue"
LINK_ATTEMPT: Final = "earlier_attempt"
LINK_RESULT: Final = "result_of"
LINK_AFTER: Final = "after"
