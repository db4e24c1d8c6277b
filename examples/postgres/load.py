"""Send readings, wait until each has been stored, and count the rows."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

import psycopg
from taskfleet import TaskQueueError

from readings import DATABASE_URL, queue, store

TABLE = "CREATE TABLE IF NOT EXISTS readings (task text PRIMARY KEY, sensor text NOT NULL, celsius float8 NOT NULL)"


async def main(tasks: int) -> None:
    async with await psycopg.AsyncConnection.connect(DATABASE_URL, autocommit=True) as db, queue:
        await db.execute(TABLE)
        handles = await queue.enqueue_many(
            [store.message(f"sensor-{number % 20}", round(random.gauss(20, 2), 2)) for number in range(tasks)]
        )
        print(f"sent {len(handles)} readings", flush=True)
        new = [await handle.result(timeout=120) for handle in handles]
        cursor = await db.execute(
            "SELECT count(*), avg(celsius) FROM readings WHERE task = ANY(%s)", [[handle.id for handle in handles]]
        )
        [(rows, average)] = await cursor.fetchall()
    print(f"{rows} rows for {tasks} tasks, {average:.1f} °C on average; {new.count(False)} came twice")
    sys.exit(0 if rows == tasks else 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="how many (default: 20000)")
    try:
        asyncio.run(main(parser.parse_args().tasks))
    except (TaskQueueError, psycopg.OperationalError) as error:
        sys.exit(f"load.py: {error}")
