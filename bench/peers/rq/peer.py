"""RQ (SimpleWorker: no fork for each task) as a peer of the bench."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version as installed
from typing import Any

import redis
from rq import Queue, SimpleWorker

from bench.protocol import ThreadPeer, serve_threads

TASK = "noop.noop"
BULK = 1000  # jobs per enqueue_many

connection = redis.Redis.from_url(os.environ["REDIS_URL"])
queue = Queue(connection=connection)


class QuietWorker(SimpleWorker):
    def _install_signal_handlers(self) -> None:
        """Signals of the process are left to the bench."""


class RqPeer(ThreadPeer):
    version = installed("rq")

    def send(self, at: float) -> None:
        queue.enqueue(TASK, at, result_ttl=0)  # results off

    def send_many(self, arguments: Sequence[float]) -> None:
        for i in range(0, len(arguments), BULK):
            queue.enqueue_many([Queue.prepare_data(TASK, (at,), result_ttl=0) for at in arguments[i : i + BULK]])

    def call(self, at: float) -> Any:
        job = queue.enqueue("noop.echo", at, result_ttl=3600)
        result = job.latest_result(timeout=60)  # it blocks on a stream
        assert result is not None
        return result.return_value

    def consume(self, slots: int, tasks: int, finished: threading.Event) -> None:
        QuietWorker([queue], connection=connection).work(max_jobs=tasks, logging_level="ERROR")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve_threads(RqPeer(), sys.argv[1])
