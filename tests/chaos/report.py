"""The output of a run."""

from __future__ import annotations

from typing import Any

from tests.chaos.run import Result
from tests.chaos.slow_calls import TARGET_MS

_SHOWN = 20


def summary(result: Result) -> str:
    """The one line that matters."""
    verdict = result.verdict
    unexplained = verdict.duplicates - sum(n for why, n in verdict.explanations.items() if why != "unexplained")
    explained = "all explained" if not unexplained else f"{unexplained} UNEXPLAINED"
    return (
        f"chaos: {verdict.tasks} tasks, {result.faults.total()} faults, {len(verdict.lost)} lost, "
        f"{verdict.duplicates} duplicates ({explained}), {len(verdict.defects) + len(result.defects)} defects, "
        f"{len(result.remains.orphans)} orphan keys, {result.seconds:.0f} s, seed {result.plan.seed}"
    )


def text(result: Result) -> str:
    """The figures, everything that is wrong, and the summary as the last line."""
    verdict, remains = result.verdict, result.remains
    versions = "one"
    if result.skipped:
        versions = f"NOT TESTED: {result.skipped}"
    elif result.by_version:
        commits = {version.name: version.commit for version in result.plan.versions}
        each = (f"{n} executions by the {name} version ({commits[name]})" for name, n in result.by_version.items())
        versions = f"{', '.join(each)}; {result.hung} drains hung"
    owned = f"{len(remains.orphans)} of them without" if remains.orphans else "each with"
    lines = [
        _line("faults", f"{_counts(result.faults)}; {result.restarts} processes started again"),
        _line("the way", f"{_counts(result.hits) or 'nothing hit'} (connections, replies, requests)"),
        _line(
            "tasks",
            f"{verdict.accepted} accepted, {verdict.merged} merged, {verdict.refused} refused, "
            f"{verdict.unknown} unknown",
        ),
        _line("unknown", f"{verdict.unknown_ran} of them had arrived, and ended once"),
        _line("outcomes", _counts(verdict.states)),
        _line("executions", f"{verdict.executions}: {verdict.retries} retries, {verdict.duplicates} duplicates"),
        _line("duplicates", _counts(verdict.explanations) or "none"),
        _line("overlaps", f"{verdict.overlaps} beside their successor, {verdict.longest_overlap:.1f} s at most"),
        _line("keys", f"{remains.keys} left, {owned} an owner or a time to live"),
        _line(
            "in Redis",
            f"slowest script call {result.slow_calls.slowest_ms:.1f} ms (target {TARGET_MS:g} ms when quiet)",
        ),
        _line("versions", versions),
    ]
    for title, found in (
        ("LOST", verdict.lost),
        ("DEFECT", verdict.defects + result.defects),
        ("ORPHAN", remains.orphans),
        ("STRANGER", remains.strangers),
    ):
        lines += [f"{title}: {line}" for line in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"{title}: … and {len(found) - _SHOWN} more")
    return "\n".join([*lines, summary(result)])


def data(result: Result) -> dict[str, Any]:
    """The same for programs."""
    verdict, remains = result.verdict, result.remains
    return {
        "good": result.good,
        "seed": result.plan.seed,
        "seconds": round(result.seconds, 1),
        "tasks": verdict.tasks,
        "accepted": verdict.accepted,
        "unknown": verdict.unknown,
        "unknown_arrived": verdict.unknown_ran,
        "refused": verdict.refused,
        "merged": verdict.merged,
        "faults": dict(result.faults),
        "hits": dict(result.hits),
        "outcomes": dict(verdict.states),
        "executions": verdict.executions,
        "retries": verdict.retries,
        "duplicates": verdict.duplicates,
        "explanations": dict(verdict.explanations),
        "overlaps": verdict.overlaps,
        "longest_overlap_seconds": round(verdict.longest_overlap, 3),
        "executions_by_version": result.by_version,
        "hung": result.hung,
        "slowest_call_ms": result.slow_calls.slowest_ms,
        "not_tested": result.skipped,
        "lost": verdict.lost,
        "defects": verdict.defects + result.defects,
        "orphans": remains.orphans,
        "strangers": remains.strangers,
        "keys": remains.keys,
        "counters": remains.counters,
    }


def _line(name: str, figures: str) -> str:
    return f"{name:12}{figures}"


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counter.items(), key=lambda item: -item[1]))
