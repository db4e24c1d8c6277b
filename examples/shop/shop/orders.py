"""The orders, in a file of SQLite."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

FILE = Path(os.environ.get("SHOP_FILE", "shop.db"))


@contextmanager
def transaction() -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(FILE, timeout=10)) as db, db:
        db.execute(
            "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, cents INTEGER NOT NULL, at REAL NOT NULL)"
        )
        yield db


def add(cents: int) -> int:
    """Store an order; returns its number."""
    with transaction() as db:
        number = db.execute("INSERT INTO orders (cents, at) VALUES (?, ?)", [cents, time.time()]).lastrowid
    assert number is not None
    return number


def total(start: dt.datetime, end: dt.datetime) -> tuple[int, int]:
    """The number of the orders from `start` until before `end`, and their sum in cents."""
    with transaction() as db:
        number, cents = db.execute(
            "SELECT count(*), coalesce(sum(cents), 0) FROM orders WHERE at >= ? AND at < ?",
            [start.timestamp(), end.timestamp()],
        ).fetchone()
    return number, cents
