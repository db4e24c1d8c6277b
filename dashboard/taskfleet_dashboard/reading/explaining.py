"""The last decision of an autoscaler in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from taskfleet.history import DecisionRecord
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.scalers import ExplainAnswer, ExplainLine
from taskfleet_operator.autoscaler.wording import LIMITS, REASONS, TERMS


def explain_answer(name: str, record: DecisionRecord) -> ExplainAnswer:
    """The record in words."""
    limit, change = LIMITS.get(record.limited_by, ("", ""))
    told = text.line(record.limit_message or limit or record.limited_by)
    return ExplainAnswer(
        name=text.whole(name),
        at=record.at,
        replicas=record.current,
        desired=record.desired,
        why=_why(record),
        limit=told,
        lines=[_line(term, value) for term, value in record.terms.items()],
        changes=_changes(record, change),
    )


def _why(record: DecisionRecord) -> str:
    reason = REASONS.get(record.reason, record.reason)
    verb = "stays at" if record.desired == record.current else f"goes from {record.current} to"
    return text.line(f"It {verb} {record.desired}: {reason} ({record.message}).{_figures(record)}")


def _figures(record: DecisionRecord) -> str:
    """What the formula began with, as a second sentence; empty for a decision that was not made by these figures."""
    names = ("backlog", "arrivals_per_second", "service_seconds", "effective_drain_seconds")
    waiting, arriving, lasting, within = (_number(record.terms.get(name)) for name in names)
    if record.reason not in ("DrainTime", "Panic") or not waiting or not lasting or not within:
        return ""
    come = f"{_said(arriving)} arrive in a second" if arriving else "none arrive"
    return (
        f" {_said(waiting)} {'task waits' if waiting == 1 else 'tasks wait'}, {come}, each keeps a slot for "
        f"{_said(lasting)} s, and what waits is to be gone in {_said(within)} s{_since_workers_start(record)}."
    )


def _since_workers_start(record: DecisionRecord) -> str:
    """Words for a time that is longer than the target, since new workers would come too late for a shorter one."""
    start, within = (_number(record.terms.get(name)) for name in ("start_latency_seconds", "effective_drain_seconds"))
    if not start or not within or not math.isclose(within, math.e * start, rel_tol=0.01):
        return ""
    return f", as a new worker takes {_said(start)} s to start"


def _said(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}" if number >= 0.01 else "less than 0.01"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _line(term: str, value: Any) -> ExplainLine:
    return ExplainLine(
        name=text.line(term), value=_number(value), text=text.line(TERMS.get(term, term.replace("_", " ")))
    )


def _changes(record: DecisionRecord, change: str) -> list[str]:
    found = [f"{change[0].upper()}{change[1:]}."] if change else []
    least, most = _of_spec(record.spec, "minReplicas"), _of_spec(record.spec, "maxReplicas")
    if record.reason == "DrainTime" and _since_workers_start(record):
        found.append("A shorter target would change nothing while workers take so long to start; a longer one would.")
    elif record.reason == "DrainTime":
        found.append("A shorter target wants more workers, a longer one fewer: what-if shows how many.")
    if record.decided != record.desired:
        found.append(f"The rules give {record.decided}; a rollout or a busy worker holds it at {record.desired}.")
    if least is not None and most is not None:
        found.append(f"Its bounds are minReplicas {least:g} and maxReplicas {most:g}.")
    return [text.line(each) for each in found]


def _of_spec(spec: Mapping[str, Any], name: str) -> float | None:
    value = spec.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
