"""The queues that are measured, by name."""

from __future__ import annotations

from bench.peer import Peer
from bench.peers.arq import ARQ
from bench.peers.asynq import Asynq
from bench.peers.bullmq import BullMQ
from bench.peers.celery import CELERY
from bench.peers.dramatiq import DRAMATIQ
from bench.peers.rq import RQ
from bench.peers.rust_task_queue import RustTaskQueue
from bench.peers.saq import SAQ
from bench.peers.streaq import STREAQ
from bench.peers.taskfleet import Taskfleet
from bench.peers.taskiq import TASKIQ

_ALL: tuple[Peer, ...] = (
    Taskfleet(), BullMQ(), Asynq(), DRAMATIQ, TASKIQ, RustTaskQueue(), SAQ, ARQ, STREAQ, CELERY, RQ,
)  # fmt: skip

PEERS: dict[str, Peer] = {peer.name: peer for peer in _ALL}
