"""dramatiq as a peer of the bench."""

from __future__ import annotations

import logging
import os
import sys
import threading
from importlib.metadata import version as installed
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from dramatiq.worker import Worker

from bench.protocol import RESULTS, ThreadPeer, serve_threads, tally

THREADS = 8  # its own default for a process, and faster than 16, 32 or 100: they share one interpreter
IDLE_MS = 1  # it polls: the longest pause between two looks at an empty queue; its default is 1,000

broker = RedisBroker(url=os.environ["REDIS_URL"])
if RESULTS:
    broker.add_middleware(Results(backend=RedisBackend(url=os.environ["REDIS_URL"])))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(at: float) -> None:
    tally.note_safely(at)


@dramatiq.actor(**({"store_results": True} if RESULTS else {}))
def echo(at: float) -> float:
    tally.note_safely(at)
    return at


class Dramatiq(ThreadPeer):
    version = installed("dramatiq")

    def send(self, at: float) -> None:
        noop.send(at)

    def send_later(self, at: float, seconds: float) -> None:
        noop.send_with_options(args=(at,), delay=max(0, round(seconds * 1e3)))

    def call(self, at: float) -> Any:
        return echo.send(at).get_result(block=True)

    def consume(self, slots: int, tasks: int, finished: threading.Event) -> None:
        worker = Worker(broker, worker_threads=THREADS, worker_timeout=IDLE_MS)
        worker.start()
        finished.wait()
        worker.stop()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve_threads(Dramatiq(), sys.argv[1])
