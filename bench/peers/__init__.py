"""The queues that are measured, by name."""

from __future__ import annotations

from bench.peer import Peer
from bench.peers.asynq import Asynq
from bench.peers.bullmq import BullMQ
from bench.peers.taskfleet import Taskfleet

PEERS: dict[str, Peer] = {peer.name: peer for peer in (Taskfleet(), BullMQ(), Asynq())}
