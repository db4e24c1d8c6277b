"""An application whose processes of `executor="process"` are in the traces of their tasks."""

from __future__ import annotations

import logging

from opentelemetry import trace

from taskfleet import TaskQueue, current_task

queue = TaskQueue.from_config()
logger = logging.getLogger("app")


@queue.task(executor="process")
def in_a_process() -> list[str]:
    about = trace.get_current_span().get_span_context()
    logger.warning("in a process")
    return [f"{about.trace_id:032x}", f"{about.span_id:016x}", current_task().id]


@queue.task(executor="process", max_retries=0)
def fails_in_a_process() -> None:
    raise KeyError("no such photo")
