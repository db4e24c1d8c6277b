"""Store readings of sensors in PostgreSQL: one statement for up to 500 tasks, and one row for each, whatever dies."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from psycopg import AsyncConnection
from taskfleet import BatchItem, Depends, QueueOptions, TaskQueue

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql://postgres@127.0.0.1:54320/postgres")

# When a worker is killed, others take its tasks after the lease. It must only outlast a worker that is busy.
queue = TaskQueue.from_config(queues=[QueueOptions("readings", lease_seconds=5)])


@dataclass(frozen=True)
class Reading:
    """What one call takes."""

    sensor: str
    celsius: float


async def connection() -> AsyncIterator[AsyncConnection]:
    """A connection for one run of `store`. Each statement is a transaction."""
    async with await AsyncConnection.connect(DATABASE_URL, autocommit=True) as opened:
        yield opened


# A task is run again when its worker dies, also if that was after the commit. Its id is the key of its row, so that the
# second run finds the row of the first.
@queue.batch_task(queue="readings", size=500, window_ms=50, item_class=Reading)
async def store(items: list[BatchItem[Reading]], db: AsyncConnection = Depends(connection)) -> list[bool]:
    """Insert a row for each item; returns for each whether it is new."""
    ids = [item.id for item in items]
    cursor = await db.execute(
        """
        INSERT INTO readings (task, sensor, celsius)
        SELECT * FROM unnest(%s::text[], %s::text[], %s::float8[])
        ON CONFLICT (task) DO NOTHING
        RETURNING task
        """,
        [ids, [item.value.sensor for item in items], [item.value.celsius for item in items]],
    )
    new = {task for (task,) in await cursor.fetchall()}
    return [task in new for task in ids]
