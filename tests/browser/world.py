# ruff: noqa: E501  # bodies are tables: a row is read as a line
"""What the fixture server shows: a fleet whose figures a test sets, also those that are hard to reach for real.

Bodies have the shapes of the API's models; tests/browser/test_contract.py validates each of them.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]

HOSTILE = (
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    '"><svg onload=window.hacked=1>',
    "javascript:window.hacked=1",
    "{{constructor.constructor('window.hacked=1')()}}",
    "</textarea></pre></title><iframe srcdoc='<script>parent.hacked=1</script>'>",
    "\u202eexe.txt\u202c \x1b[31mred\x1b[0m \x00 \u200b",
    "' onmouseover='window.hacked=1",
    "&lt;b&gt; &#x3c;script&#x3e;",
    "x" * 400,
)


def at(seconds_ago: float = 0, now: dt.datetime | None = None) -> str:
    """A time before now, as the API writes it."""
    moment = (now or dt.datetime.now(dt.UTC)) - dt.timedelta(seconds=seconds_ago)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _terms(steady: float, drain: float, late: float, replicas: int) -> Body:
    return {
        "arrivals_per_second": 83.4, "service_seconds": 0.48, "effective_drain_seconds": 60.0, "start_latency_seconds": 9.1,
        "backlog": 1840.0, "in_flight": 58.0, "due": 12.0, "oldest_age_seconds": 31.4, "steady_slots": steady,
        "drain_slots": drain, "late_slots": late, "slots": steady + drain + late, "slots_per_replica": 8.0,
        "recommended_replicas": float(replicas), "panic_replicas": 0.0, "busy_workers": 7.0, "panicking": 0.0,
    }  # fmt: skip


@dataclass
class World:
    """A fleet. `text` takes the place of everything that a user could write; `changes` are the POSTs that came."""

    text: str = ""
    queues: int = 6
    may_change: bool = True
    token: str = ""
    down: bool = False
    deaf: bool = False
    deaf_since: str = ""
    problems: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    version: int = 0
    paused: set[str] = field(default_factory=set)
    cordoned: set[str] = field(default_factory=set)
    changes: list[tuple[str, Any]] = field(default_factory=list)
    jobs: dict[str, Body] = field(default_factory=dict)
    orders: dict[str, list[str]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    redis: str = "redis://redis:6379/0"
    csrf: str = "csrf-1"
    earlier: Body | None = None
    rates_known: bool = True
    nameless: bool = False
    no_redis: bool = False
    slots: float | None = None
    thinned: bool = False
    state: str = "running"
    ready: int = 1840
    dead_letters: int = 9
    scattered: bool = False
    refuse: str = ""
    born: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC).replace(microsecond=0))

    def at(self, seconds_ago: float = 0) -> str:
        """A time before this world was made: the same in every answer, however long the page takes to read it again."""
        return at(seconds_ago, self.born)

    def touch(self, **changes: Any) -> None:
        """Change it, and tell all browsers."""
        for name, value in changes.items():
            setattr(self, name, value)
        self.version += 1

    def say(self, usual: str) -> str:
        """Text that a user has written."""
        return self.text or usual

    # What a session may do, and the overview.

    def session(self) -> Body:
        return {
            "user": self.say("ada@example.org"), "may_change": self.may_change, "csrf": self.csrf, "version": "0.9.0",
            "redis": self.say(self.redis), "masked_fields": ["password", "token"], "base": "",
            "login": "token" if self.token else None,
        }  # fmt: skip

    def unknown(self) -> Body:
        """The rates before the second reading."""
        rates = ("in_per_second", "out_per_second", "failed_per_second", "drains_in_seconds")
        return {} if self.rates_known else dict.fromkeys(rates)

    def names(self) -> list[str]:
        usual = ["high_priority", "default", "low_priority", "mail", "thumbnails", "reports"]
        return [self.say(name) for name in usual] if self.queues == 6 else [f"queue-{i:04}" for i in range(self.queues)]

    def row(self, name: str, i: int = 1) -> Body:
        ready = [12, self.ready, 0, 203, 77, 9][i % 6]
        spark: list[int | None] = [None] * 6 + [
            max(0, int(ready * (0.5 + 0.4 * math.sin(k / 7 + i)))) for k in range(54)
        ]
        state = "paused" if name in self.paused else ["", "", "", "limited", "unserved", ""][i % 6]
        return {
            "name": name, "state": state, "problem": "", "ready": ready, "running": [16, 42, 0, 4, 0, 2][i % 6],
            "delayed": [0, 118, 4, 0, 0, 31][i % 6], "blocked": [0, 3, 0, 0, 0, 0][i % 6], "parked": [0, 20, 0, 0, 0, 0][i % 6],
            "dead": [0, 7, 0, 2, 0, 0][i % 6], "oldest_age_seconds": [0.3, 31.4, 0.0, 8.0, 912.0, 4.0][i % 6],
            "in_per_second": [18.2, 83.4, 0.0, 2.5, 0.4, 0.1][i % 6], "out_per_second": [18.0, 97.6, 0.0, 2.4, 0.0, 0.2][i % 6],
            "failed_per_second": [0.0, 0.12, 0.0, 0.0, 0.0, 0.0][i % 6],
            "drains_in_seconds": [0.7, 129.6, 0.0, None, None, 90.0][i % 6],
            "workers": [8, 8, 8, 2, 0, 8][i % 6], "limits": self.say("at most 4 at once") if i % 6 == 3 else "", "spark": spark,
            **self.unknown(),
        }  # fmt: skip

    def scaler_row(self) -> Body:
        return {
            "name": "shop/orders", "replicas": 7, "desired": 8, "busy": 7,
            "reason": "DrainTime", "limited_by": "ScaleUpLimit", "at": self.at(3), "earlier": self.earlier,
            "message": self.say("slots = 64.8 (steady 50.0 + drain 14.8) / 8 → 9"),
        }  # fmt: skip

    def overview(self, search: str = "", sort: str = "name", offset: int = 0, limit: int = 50) -> Body:
        rows = [self.row(name, i) for i, name in enumerate(self.names()) if search in name]
        key = {"oldest": "oldest_age_seconds", "in": "in_per_second", "out": "out_per_second"}.get(sort, sort)
        if sort != "name" and rows and key in rows[0]:
            rows.sort(key=lambda row: row[key] or 0, reverse=sort != "state")
        return {
            "at": at(), "unread": 0,
            "totals": {
                "ready": self.ready + 301, "running": 64, "delayed": 153, "blocked": 3, "dead": self.dead_letters, "in_per_second": 104.6,
                "out_per_second": 118.2, "failed_per_second": 0.12, "drains_in_seconds": 157.4,
                **self.unknown(),
            },
            "workers": {"total": 10, "busy": 7, "idle": 1, "cordoned": 1, "draining": 1, "slots": 80, "running": 64},
            "queues": {"items": rows[offset : offset + limit], "total": len(rows), "offset": offset},
            "failures": [self.failure(i) for i in range(4)],
            "scalers": [self.scaler_row()],
        }  # fmt: skip

    def failure(self, i: int) -> Body:
        row = self.dead_row(i)
        return {
            "id": row["id"],
            "task": row["task"],
            "queue": row["queue"],
            "reason": row["reason"],
            "error": row["error"],
            "at": row["died_at"],
        }

    # One queue.

    def queue(self, name: str) -> Body:
        return {
            "row": self.row(name), "partitions": [
                {"name": f"{name}/{i}", "ready": 460, "running": 10, "delayed": 30, "dead": 2} for i in range(4)
            ],
            "options": {"name": name, "concurrency": 48, "note": self.say("none")},
            "limits": [
                {"name": "concurrency", "limit": 48.0, "used": 42.0}, {"name": "rate", "limit": 120.0, "used": 97.6},
                {"name": "concurrency per key", "limit": 2.0, "used": None},
            ],
            "keys": {
                "limit_keys": [{"key": self.say(f"customer-{i}"), "waiting": 90 // (i + 1), "running": 2} for i in range(1 if self.text else 5)],
                "fair_keys": [{"key": self.say(f"tenant-{i}"), "waiting": 300 // (i + 1), "running": None} for i in range(1 if self.text else 4)],
                "whole": False,
            },
            "problems": self.problems, "states": {"ready": self.ready, "running": 42, "delayed": 118, "parked": 20, "blocked": 3, "dead": 7},
        }  # fmt: skip

    def history(self, span: str) -> Body:
        step, number = {"1h": (15, 240), "24h": (300, 288), "7d": (1800, 336)}[span]
        points = []
        for i in range(number):
            if 40 <= i < 52:
                continue  # nobody recorded
            wave = math.sin(i / 23) + 1
            near = max(0, i - number + 20) / 19  # the last points lead to the figures of now

            def towards(now: float, then: float, near: float = near) -> float:
                return then + (now - then) * near

            ready = int(towards(self.ready, 900 * wave + (1400 if 150 < i < 190 else 0)))
            points.append({
                "at": self.at((number - i) * step), "ready": ready, "running": int(towards(42, 20 + 14 * wave)), "delayed": 118,
                "blocked": 3, "dead": min(7, 2 + i // 40), "oldest_age_seconds": towards(31.4, ready / 60),
                "enqueued_per_second": towards(83.4, 40 + 18 * wave) if i else None,
                "finished_per_second": towards(97.6, 42 + 16 * wave) if i else None,
                "failed_per_second": towards(0.12, 0.1 * wave) if i else None,
                "busy_slots": towards(42, 18 + 12 * wave) if i else None,
            })  # fmt: skip
        return {"step_seconds": float(step), "points": points}

    # Tasks.

    def task_row(self, i: int = 0, state: str | None = None) -> Body:
        state = state or ["running", "ready", "delayed", "retrying", "dead", "succeeded", "blocked"][i % 7]
        return {
            "id": f"01J9ZK3V7Q8M2N4P{i:06}", "task": None if self.nameless else self.say("shop.orders.charge"), "queue": self.say("default"), "state": state,
            "enqueued_at": self.at(60 + i), "due_at": self.at(-30) if state in {"delayed", "retrying"} else None,
            "started_at": self.at(9) if state == "running" else None, "ended_at": self.at(2) if state == "dead" else None,
            "worker": self.say("orders-7d9f-x2/0") if state == "running" else None, "attempt": 2, "unique_key": None,
            "limit_key": self.say("customer-17") if i % 3 == 0 else None, "fair_key": self.say("tenant-4") if i % 4 == 0 else None,
            "waiting": self.say("in line behind 212 tasks") if state in {"ready", "delayed", "retrying", "blocked"} else None,
            "error": self.say("CardDeclined: insufficient funds") if state in {"retrying", "dead"} else None,
        }  # fmt: skip

    def tasks(self, state: str = "", q: str = "", cursor: str = "", limit: int = 50) -> Body:
        if q == "nothing":
            return {"items": [], "cursor": None, "examined": 1000, "problems": self.problems}
        first = int(cursor or 0)
        items = [self.task_row(first + i, state or None) for i in range(min(limit, 50))]
        if q:
            items = [row for row in items if q in row["id"] or q in (row["task"] or "")]
        return {
            "items": items,
            "cursor": str(first + 50) if first < 100 else None,
            "examined": 1000,
            "problems": self.problems,
        }

    def errors(self) -> list[Body]:
        trace = self.say(
            'Traceback (most recent call last):\n  File "/app/shop/orders.py", line 42, in charge\n    await card.charge(amount)\n'
            "shop.errors.CardDeclined: insufficient funds"
        )
        return [
            {
                "attempt": i + 1, "at": self.at(40 - 12 * i), "worker": self.say("orders-7d9f-x2/0"), "reason": "exception",
                "error": self.say("CardDeclined: insufficient funds"), "traceback": trace, "retry_at": self.at(30 - 12 * i),
                "trace_id": f"{i + 1:032x}",
            }
            for i in range(2)
        ]  # fmt: skip

    def task(self, task_id: str) -> Body:
        state = "failed" if task_id.startswith("dead") else self.state
        row = self.task_row(0, state)
        life = [
            ("enqueued", 61.0, "by shop-web-5c7:81"), ("ready", 61.0, ""), ("claimed", 52.4, ""),
            ("attempt failed", 40.0, self.say("CardDeclined: insufficient funds")), ("retry due", 30.0, "after 10 s"),
            ("claimed", 28.9, ""), ("progress", 9.0, self.say("3 of 8: capturing")),
        ]  # fmt: skip
        if state != "running":
            life.append(("ended", 2.0, self.say("CardDeclined: insufficient funds")))
        return {
            **row, "id": task_id,
            "args": f'[{_json(self.say("order-2917"))}, 12345678901234567890, 19.90]',
            "kwargs": f'{{"currency": "EUR", "password": "***", "note": {_json(self.say("as agreed"))}, "nested": {{"a": [], "b": [1, {{}}]}}}}',
            "result": None if state != "succeeded" else '{"receipt": "r-1"}',
            "enqueued_by": self.say("shop-web-5c7:81"), "parent": None, "lease_expires_at": self.at(-21), "deliveries": 2,
            "max_retries": 3, "waits_for": [], "errors": self.errors(),
            "progress": {"done": 3.0, "total": 8.0, "fraction": 0.375, "note": self.say("capturing"), "at": self.at(9)} if state == "running" else None,
            "traceback": self.errors()[0]["traceback"] if state == "failed" else None,
            "reason": "exception" if state == "failed" else None, "problem": None,
            "error": self.say("CardDeclined: insufficient funds") if state == "failed" else None,
            "life": [
                {"what": what, "at": self.at(ago), "detail": detail, "worker": self.say("orders-7d9f-x2/0") if what == "claimed" else None,
                 "attempt": 2 if ago < 30 else 1 if what != "enqueued" else None}
                for what, ago, detail in life
            ],
            "masked": ["password"],
        }  # fmt: skip

    def graph(self, task_id: str) -> Body:
        ids = [task_id, "g1", "g2", "g3", "end"]
        states = [self.state, "succeeded", "running", "ready", "blocked"]
        names = [
            "shop.orders.charge",
            "shop.orders.open",
            "shop.mail.receipt",
            "shop.stock.reserve",
            "shop.orders.close",
        ]
        return {
            "nodes": [
                {"id": i, "task": self.say(name), "queue": self.say("default"), "state": state}
                for i, name, state in zip(ids, names, states, strict=True)
            ],
            "edges": [
                {"from": a, "to": b, "position": 0, "kind": kind}
                for a, b, kind in [("g1", task_id, "waits"), (task_id, "g2", "sent"), (task_id, "g3", "waits"), ("g2", "end", "waits"), ("g3", "end", "waits")]
            ],
            "whole": True,
        }  # fmt: skip

    # Dead letters.

    def dead_row(self, i: int) -> Body:
        return {
            "id": f"dead-{i:04}", "task": self.say(["shop.orders.charge", "shop.mail.send", "shop.thumbs.make"][i % 3]),
            "queue": f"queue-{i}" if self.scattered else self.say("default" if i % 4 else "mail"), "reason": self.say(["exception", "timeout", "worker_lost"][i % 3]),
            "error": self.say(["CardDeclined: insufficient funds", "it ran longer than its timeout of 30 s", "its worker was lost 5 times"][i % 3]),
            "attempts": 4, "deliveries": 4, "enqueued_at": self.at(400 + i * 60), "died_at": self.at(20 + i * 47),
        }  # fmt: skip

    def dead(self, filters: dict[str, str], cursor: str = "") -> Body:
        rows = [self.dead_row(i) for i in range(9)]
        rows = [row for row in rows if row["id"] not in self.gone]
        for name in ("queue", "task", "reason"):
            rows = [row for row in rows if not filters.get(name) or row[name] == filters[name]]
        rows = [row for row in rows if not filters.get("q") or filters["q"] in row["error"]]
        return {"items": rows, "cursor": None, "examined": 9, "problems": self.problems}

    def dead_letter(self, task_id: str) -> Body:
        row = self.dead_row(int(task_id.rpartition("-")[2])) if task_id.startswith("dead-") else self.dead_row(0)
        task = self.task(task_id) | row
        return task | {"state": "failed", "errors": self.errors(), "traceback": self.errors()[0]["traceback"]}

    def start(self, action: str, order: Body) -> Body:
        ids = order.get("ids") or [row["id"] for row in self.dead(order.get("match") or {})["items"]]
        job = f"job-{len(self.jobs) + 1}"
        self.jobs[job] = {
            "job": job, "action": action, "state": "running", "done": 0, "stayed": 0, "total": len(ids), "examined": 0,
            "error": None, "undo_until": None, "undoable": 0, "user": "ada@example.org", "started_at": at(),
        }  # fmt: skip
        self.orders[job] = ids
        return {"job": job}

    def finish(self, job: str, state: str = "done") -> None:
        """End a job, as the server would after a while."""
        ids = self.orders[job]
        undone = state == "undone"
        self.gone = self.gone - set(ids) if undone else self.gone | set(ids)
        discard = self.jobs[job]["action"] == "discard"
        self.jobs[job] |= {
            "state": state, "done": len(ids), "examined": len(ids), "undoable": len(ids) if discard else 0,
            "undo_until": at(-600) if discard and not undone else None,
        }  # fmt: skip
        self.version += 1

    # The rest.

    def schedules(self) -> Body:
        rows = []
        for i, name in enumerate(["nightly-report", "clean-up", "sync-stock"]):
            rows.append({
                "name": self.say(name), "queue": self.say("reports"), "task": self.say(f"shop.{name}"),
                "schedule": self.say(["30 2 * * *", "every 30 s", "*/5 * * * *"][i]), "time_zone": ["Europe/Berlin", "UTC", "Asia/Tokyo"][i],
                "paused": name in self.paused, "next": [] if name in self.paused else [self.at(-3600 * (i + 1) - k * 300) for k in range(3)],
                "last_at": self.at(3600 * i + 60), "last_task_id": f"last-{i}", "last_outcome": ["succeeded", "failed", None][i],
                "concurrency_policy": "Forbid", "starting_deadline_seconds": None, "owner": self.say("shop/orders") if i == 0 else "",
                "fired_total": 40, "skipped_total": i, "dropped_total": 0, "problem": "",
            })  # fmt: skip
        if self.text:
            for i, row in enumerate(rows):
                row["name"] = f"{row['name']}{i}"
        return {"items": rows, "cursor": None}

    def workers(self) -> Body:
        states = ["running", "running", "running", "cordoned", "draining", "running"]
        items = []
        for i, state in enumerate(states):
            busy = [8, 5, 0, 2, 1, 8][i]
            state = "cordoned" if f"orders-7d9f-x{i}" in self.cordoned else state
            items.append({
                "id": f"{self.say('orders-7d9f-x')}{i}/0", "name": f"orders-7d9f-x{i}", "host": self.say(f"node-{i % 3}"), "pid": 7 + i,
                "version": self.say("0.9.0"), "state": state, "queues": [self.say("default")] if self.text else self.names()[:3],
                "slots": 8, "busy": busy, "stuck": 1 if i == 5 else 0, "started_at": self.at(4000 + 600 * i), "heartbeat_age_seconds": 0.8 + i * 4,
                "clock_skew_seconds": 2.4 if i == 4 else 0.01, "oldest_run_seconds": 12.0 if busy else None,
                "runs": [{"id": f"run-{i}-{k}", "task": self.say("shop.orders.charge"), "queue": self.say("default"), "seconds": 12.0 - k} for k in range(min(busy, 3))],
            })  # fmt: skip
        return {"items": items, "cursor": None, "at": at()}

    def keys(self) -> Body:
        keys = self.queue(self.say("default"))["keys"]
        queue = {"queue": self.say("default")}
        return {
            "limit_keys": [row | queue for row in keys["limit_keys"]],
            "fair_keys": [row | queue for row in keys["fair_keys"]],
            "whole": False,
            "problems": self.problems,
        }

    def scaler(self, name: str, span: str = "1h") -> Body:
        number, step = (240, 15) if span == "1h" else (1440, 60)
        hour = span == "1h"
        points, there = [], 4
        for i in range(number):
            steady = 26 + 24 * math.sin((i - 178) / 40) if i < number - 20 else 50.0
            drain = 24.0 if 120 < i < 150 else 14.8 if i >= number - 12 else 3.0
            wanted = math.ceil((steady + drain) / 8)
            there_is = there
            if i == number - 1:
                there_is, wanted, desired, limit = 7, 9, 8, "ScaleUpLimit"
            elif i >= number - 20:
                desired, limit = 7, "ScaleUpStabilized"
            elif wanted >= there:
                desired = min(wanted, there + 1)
                limit = "" if desired == wanted else "ScaleUpLimit"
            else:
                desired, limit = there - (i % 8 == 0), "ScaleDownStabilized"
            points.append({
                "at": (self.born - dt.timedelta(seconds=(number - 1 - i) * step)).isoformat().replace("+00:00", "Z"),
                "replicas": there_is, "desired": desired, "busy": float(min(there_is, wanted)),
                "reason": "DrainTime" if hour else "", "limited_by": limit if hour else "",
                "message": self.say(f"slots = {steady + drain:.1f} (steady {steady:.1f} + drain {drain:.1f}) / 8 → {wanted}") if hour else "",
                "limit_message": self.say("at most 1 more in 15 s") if limit and hour else "",
                "terms": {**_terms(steady, drain, 0.0, wanted), **({} if self.slots is None else {"slots": self.slots})} if hour else {},
            })  # fmt: skip
            there = desired
        if self.thinned:
            points = [points[0], *points[number // 2 :]]
        spec = {
            "minReplicas": 0,
            "maxReplicas": 20,
            "target": {"drainSeconds": 60, "utilizationPercent": 80},
            "policy": "DrainTime",
        }
        return {"name": name, "spec": spec, "points": points}

    def decision(self, name: str, moment: str) -> Body:
        point = next(
            (each for each in self.scaler(name)["points"] if each["at"] == moment), self.scaler(name)["points"][-1]
        )
        queues = [
            {
                "queue": self.say(queue),
                "terms": {
                    "steady_slots": 9.0,
                    "drain_slots": 14.2,
                    "late_slots": 0.0,
                    "slots": 23.2,
                    "waiting": 900.0,
                    "running": 30.0,
                },
            }
            for queue in self.names()[:2]
        ]
        return {**point, "queues": queues, "sample": {"backlog": 1840}, "spec": {"maxReplicas": 20}}

    def what_if(self, name: str, order: Body) -> Body:
        points = [
            {"at": p["at"], "replicas": p["replicas"], "desired": p["desired"], "would": min(order.get("maxReplicas", 20), p["desired"] * 2),
             "reason": p["reason"], "message": p["message"]}
            for p in self.scaler(name)["points"]
        ]  # fmt: skip
        return {
            "points": points,
            "summary": self.say(
                "121 of 240 decisions would have been others: at most 13 workers in place of 7, 6.1 workers in place of 4.0 on average. The backlog is the recorded one: it would have fallen faster with more workers, and slower with fewer."
            ),
        }

    def explain(self, name: str) -> Body:
        return {
            "name": name, "at": self.at(3), "replicas": 7, "desired": 8,
            "why": self.say("It goes from 7 to 8: the tasks that wait and arrive are to be worked off within the target time (slots = 64.8 (steady 50.0 + drain 14.8) / 8 → 9). 1,840 tasks wait, 83 arrive in a second, each keeps a slot for 0.48 s, and what waits is to be gone in 60 s."),
            "limit": self.say("at most 1 more in 15 s"),
            "lines": [
                {"name": "backlog", "value": 1840.0, "text": self.say("ready tasks")},
                {"name": "steady_slots", "value": 50.0, "text": self.say("slots for what arrives")},
                {"name": "drain_slots", "value": 14.8, "text": self.say("slots for what waits")},
            ],
            "changes": [
                self.say("It goes on with the next step."),
                self.say("A shorter target wants more workers, a longer one fewer: what-if shows how many."),
                self.say("Its bounds are minReplicas 0 and maxReplicas 20."),
            ] if not self.text else [self.text],
        }  # fmt: skip

    def audit(self, cursor: str = "") -> Body:
        rows = [
            {
                "at": self.at(i * 321), "user": self.say("ada@example.org"), "action": self.say(["pause", "requeue", "purge"][i % 3]),
                "subject": self.say("default"), "detail": self.say("12 dead letters"), "outcome": "done" if i % 4 else self.say("refused: viewers may not"),
            }
            for i in range(12)
        ]  # fmt: skip
        return {"items": rows, "cursor": None if cursor else "1"}


def _json(text: str) -> str:
    return json.dumps(text)
