"""The start and the end of each task, on the terminal of `taskfleet dev`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from taskfleet import describing
from taskfleet.cli import terminal, traces
from taskfleet.context import TaskContext
from taskfleet.middleware import CallNext, Middleware, WorkerContext
from taskfleet.retry import RetryLater
from taskfleet.runtime.recording.reporting import FINAL_FAILURE

_EXCEPTION = "exception"


class TaskLines(Middleware):
    """Prints a line when a task starts and one when it ends; below that of a failure, the traceback of the task.

    Arguments and results are left out: they may be long, or secret. `ready` is called when a worker has started.
    """

    def __init__(self, ready: Callable[[WorkerContext], None]) -> None:
        self._ready = ready

    async def startup(self, worker: WorkerContext) -> None:
        self._ready(worker)

    async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
        return await _told(_name(task), call_next)

    async def execute_batch(self, tasks: Sequence[TaskContext], call_next: CallNext) -> Any:
        return await _told(f"{tasks[0].name} [batch of {len(tasks)}]", call_next)

    async def on_retry(self, task: TaskContext, reason: str, error: str, delay: float) -> None:
        terminal.say(f"{_name(task)} runs again in {delay:.1f} s, after attempt {task.attempt}: {reason}")

    async def on_dead(self, task: TaskContext, reason: str, error: str) -> None:
        why = reason if reason == _EXCEPTION else f"{reason}: {error}"  # that one was printed with its traceback
        terminal.say(f"{_name(task)} is dead ({why}); run it again: taskfleet task retry {task.id}")


def unprinted(record: logging.LogRecord) -> bool:
    """A filter of the worker's log: whether `TaskLines` does not print the same."""
    told = record.msg == FINAL_FAILURE and isinstance(record.args, tuple) and record.args[4] == _EXCEPTION
    return not told


async def _told(name: str, call_next: CallNext) -> Any:
    terminal.say(f"{name} starts")
    began = time.monotonic()
    try:
        result = await call_next()
    except RetryLater:
        terminal.say(f"{name} asks to run again, after {_since(began)}")
        raise
    except Exception as error:
        text = f"{name} failed after {_since(began)}: {describing.describe(error)}"
        terminal.say(text, more=traces.shown_trace(describing.trace(error)))
        raise
    except asyncio.CancelledError:
        terminal.say(f"{name} was stopped after {_since(began)}")
        raise
    terminal.say(f"{name} done in {_since(began)}")
    return result


def _name(task: TaskContext) -> str:
    return f"{task.name} {task.id}"


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.2f} s"
