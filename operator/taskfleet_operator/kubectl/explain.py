"""`kubectl taskfleet explain NAME`: why a fleet has its size, of the dashboard or of the TaskQueue's status alone."""

from __future__ import annotations

import json
import shutil
import textwrap
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import typer

from taskfleet.cli import listing, similar
from taskfleet.errors import ConfigurationError
from taskfleet.showing import shown

from ..autoscaler.wording import LIMITS, REASONS
from . import options
from .cluster import ClusterError
from .options import Target

_WIDEST = 80


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    @options.on_dashboard
    def explain(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        name: str = typer.Argument(..., metavar="NAME", help="The name of a TaskQueue."),
    ) -> int:
        """Why this many workers: the terms of the last decision, what limits it, and what would change it.

        Without a dashboard the answer comes from the status of the TaskQueue, which has fewer terms.
        """
        name = name.rpartition("/")[2]  # as taskqueue/NAME
        where = target.cluster.namespace
        try:
            answer = target.dashboard.get(f"explain/{quote(where, safe='')}/{quote(name, safe='')}")
            answer["source"] = "dashboard"
        except (ClusterError, ConfigurationError) as error:
            if isinstance(error, ConfigurationError) and target.asks_for_one:
                raise
            answer = _of_taskqueue(target, where, name, error)
        print(json.dumps(answer) if target.as_json else "\n".join(lines(answer)))
        return 0


def _of_taskqueue(target: Target, namespace: str, name: str, why: Exception) -> dict[str, Any]:
    """What the status tells. Errors: `UnknownNameError`, and `why` the dashboard did not answer, with both reasons."""
    try:
        found = target.cluster.taskqueue(namespace, name)
    except ClusterError as error:
        raise ClusterError(f"{why}; and the TaskQueue cannot be read either: {error}") from None
    if found is None:
        raise similar.unknown(
            f"there is no TaskQueue in namespace {namespace}:", name, target.cluster.taskqueues(namespace)
        )
    options.say(f"taskfleet: from the status of the TaskQueue alone: {why}")
    return of_status(f"{namespace}/{name}", found)


def of_status(name: str, taskqueue: dict[str, Any]) -> dict[str, Any]:
    """The explanation of a TaskQueue's status, in the shape of the dashboard's."""
    status, spec = taskqueue.get("status") or {}, (taskqueue.get("spec") or {}).get("autoscaler") or {}
    last = (status.get("autoscaler") or {}).get("lastDecision") or {}
    replicas, desired = status.get("replicas"), status.get("desiredReplicas")
    reason, limited = str(last.get("reason") or ""), str(last.get("limitedBy") or "")
    limit, change = LIMITS.get(limited, (limited, ""))
    for each in status.get("conditions") or []:
        if each.get("type") == "ScalingLimited" and each.get("status") == "True":
            limit = str(each.get("message") or limit)
    if last:
        why = (
            f"Its last change was from {last.get('from')} to {last.get('to')}: "
            f"{REASONS.get(reason, reason)} ({last.get('message') or ''})."
        )
    else:
        why = "It has not wanted another number yet."
    told = (
        ("totalBacklog", "ready tasks"), ("totalInFlight", "tasks that run"),
        ("oldestAgeSeconds", "seconds that the oldest ready task has waited"),
        ("readyReplicas", "workers that are ready"), ("totalDead", "dead letters"),
    )  # fmt: skip
    terms = [
        {"name": field, "value": float(status[field]), "text": words}
        for field, words in told
        if isinstance(status.get(field), int)
    ]
    changes = [f"{change[0].upper()}{change[1:]}."] if change else []
    if "maxReplicas" in spec:
        changes.append(
            f"Its bounds are minReplicas {spec.get('minReplicas', 0)} and maxReplicas {spec['maxReplicas']}."
        )
    return {
        "name": name, "at": last.get("time"), "replicas": replicas, "desired": desired, "why": why, "limit": limit,
        "lines": terms, "changes": changes, "source": "status",
    }  # fmt: skip


def lines(answer: dict[str, Any]) -> list[str]:
    """The explanation as text of at most 80 columns."""
    numbers = f"{_number(answer['replicas'])} workers, {_number(answer['desired'])} wanted"
    found = [f"{shown(str(answer['name']))}: {numbers}{_ago(answer['at'])}"]
    found += ["", *_wrapped(str(answer["why"]))]
    found += ["", *_wrapped(f"Limit: {answer['limit'] or 'nothing limits it'}")]
    if answer["lines"]:
        found += ["", "The terms:"]
        values = [_value(each["value"]) for each in answer["lines"]]
        wide = max(map(len, values))
        for each, value in zip(answer["lines"], values, strict=True):
            found += _wrapped(str(each["text"]), f"  {value.rjust(wide)}  ", " " * (wide + 4))
    if answer["changes"]:
        found += ["", "What would change it:"]
        for each in answer["changes"]:
            found += _wrapped(str(each), "  - ", "    ")
    return found


def _wrapped(text: str, first: str = "", others: str = "") -> list[str]:
    columns = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
    return textwrap.wrap(shown(text, 4000), max(20, columns), initial_indent=first, subsequent_indent=others) or [first]


def _number(value: Any) -> str:
    return "no" if value is None else f"{value:g}"


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _ago(at: str | None) -> str:
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(str(at))).total_seconds()
    except (ValueError, TypeError):
        return ""
    return f" (decided {listing.age(max(0.0, seconds))} ago)"
