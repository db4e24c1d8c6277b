"""An application that logs from every kind of task."""

from __future__ import annotations

import asyncio
import logging
import os

from taskfleet import BatchItem, TaskQueue, current_task

queue = TaskQueue.from_config()
logger = logging.getLogger("app")

if form := os.environ.get("LOG_APP_FORMAT"):  # a setup of the application's own, with the fields as attributes
    from taskfleet.logs import TaskFields

    handler = logging.StreamHandler()
    handler.addFilter(TaskFields())
    handler.setFormatter(logging.Formatter(form))
    logging.getLogger().handlers = [handler]


@queue.task
async def on_the_loop(mark: str) -> None:
    logger.info("begin %s", mark)
    await asyncio.sleep(0.01)
    logger.info("end %s", mark)


@queue.task
def in_a_thread(mark: str) -> None:
    logger.info("begin %s", mark)


@queue.task(executor="process")
def in_a_process(mark: str) -> None:
    logger.info("begin %s", mark)


@queue.batch_task(size=2, window_ms=5000)
async def in_a_batch(items: list[BatchItem]) -> list[None]:
    logger.info("begin batch")
    return [None for _ in items]


@queue.task
async def with_extra(mark: str) -> None:
    logger.info("begin %s", mark, extra={"queue": "theirs", "task_id": "theirs", "order": 7, "half": float("nan")})


@queue.task
async def hostile(mark: str) -> None:
    logger.info("begin %s\n2026-01-01 ERROR forged\x1b[31m \u202e \ud800 [task=other] é", mark)
    logger.info("%d of %s", "no number", mark)


@queue.task(max_retries=0)
async def fails(mark: str) -> None:
    logger.info("begin %s", mark)
    raise ValueError("it went\nwrong")


@queue.task
async def secretive(payload: dict[str, str]) -> dict[str, str]:
    logger.info("begin %s", current_task().id)
    return payload


@queue.task(executor="process")
def secretive_process(payload: dict[str, str]) -> dict[str, str]:
    return payload


@queue.task(max_retries=0)
async def secretive_failure(payload: dict[str, str]) -> None:
    raise RuntimeError("no luck")
