"""Celery (the solo pool, late acknowledgements) as a peer of the bench."""

from __future__ import annotations

import logging
import os
import sys
import threading
from importlib.metadata import version as installed
from typing import Any

from celery import Celery
from celery.worker import state

from bench.protocol import RESULTS, ThreadPeer, echo_task, serve_threads, tally

app = Celery("bench", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"] if RESULTS else None)
app.conf.update(
    task_ignore_result=not RESULTS,
    task_acks_late=True,
    worker_prefetch_multiplier=0,  # as many as there are: faster than any number
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_pool_limit=50,
    task_store_errors_even_if_ignored=False,
)


@app.task(name="noop")
def noop(at: float) -> None:
    tally.note(at)


@app.task(name="echo")
def echo(at: float) -> float:
    return echo_task(at)


class CeleryPeer(ThreadPeer):
    version = installed("celery")

    def send(self, at: float) -> None:
        noop.apply_async((at,))

    def call(self, at: float) -> Any:
        return echo.apply_async((at,)).get()

    def consume(self, slots: int, tasks: int, finished: threading.Event) -> None:
        state.should_stop = None
        worker = app.Worker(pool="solo", without_gossip=True, without_mingle=True, without_heartbeat=True, quiet=True)

        def stop() -> None:
            finished.wait()
            state.should_stop = 0  # as its signal handler does; its loop looks between two tasks

        threading.Thread(target=stop, daemon=True).start()
        worker.start()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve_threads(CeleryPeer(), sys.argv[1])
