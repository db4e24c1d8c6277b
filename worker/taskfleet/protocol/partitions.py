"""The partitions of a queue: each is a hash slot of its own in a Redis Cluster.

A name of a partition is `queue` for the first and `queue/number` for the others, so that a queue can grow. A slash is
in no queue's name.
"""

from __future__ import annotations

import zlib
from typing import NewType

Partition = NewType("Partition", str)


def partition_name(queue: str, number: int) -> Partition:
    """The partition of that number; the first is 0."""
    return Partition(f"{queue}/{number}" if number else queue)


def queue_of(partition: str) -> str:
    """The queue that a partition belongs to. The name of a queue is also the name of its first partition."""
    return partition.partition("/")[0]


def spread(queue: str, partitions: int, key: str) -> Partition:
    """The partition for a task of that key: its unique, limit or fair key, or its id."""
    return Partition(queue) if partitions == 1 else partition_name(queue, zlib.crc32(key.encode()) % partitions)
