"""The partitions of a queue: each has its own hash slot in a Redis Cluster.

The first partition is named `queue`, the others `queue/number`, so that a queue can get more partitions. The name of a
queue has no slash.
"""

from __future__ import annotations

import zlib
from typing import NewType

Partition = NewType("Partition", str)


def partition_name(queue: str, number: int) -> Partition:
    """The name of the partition with that number; the first is 0."""
    return Partition(f"{queue}/{number}" if number else queue)


def first_of(queue: str, count: int) -> list[Partition]:
    """The first `count` partitions of a queue."""
    return [partition_name(queue, number) for number in range(count)]


def queue_of(partition: str) -> str:
    """The queue of a partition. The name of a queue is also the name of its first partition."""
    return partition.partition("/")[0]


def spread(queue: str, partitions: int, key: str) -> Partition:
    """The partition for a task with that key: its unique, limit or fair key, or its id."""
    return Partition(queue) if partitions == 1 else partition_name(queue, zlib.crc32(key.encode()) % partitions)
