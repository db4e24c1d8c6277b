"""What a run prints."""

from __future__ import annotations

from typing import Any

from tests.chaos.run import Result

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
    """The figures, what is wrong, and the summary as the last line."""
    verdict, remains = result.verdict, result.remains
    lines = [
        f"faults      {_counts(result.faults)}; {result.restarts} processes started again",
        f"the way     {_counts(result.hits) or 'nothing hit'} (connections, replies, requests)",
        f"tasks       {verdict.accepted} accepted, {verdict.unknown} unknown ({verdict.unknown_ran} of them had arrived), "
        f"{verdict.refused} refused",
        f"outcomes    {_counts(verdict.states)}",
        f"executions  {verdict.executions}, {verdict.retries} retries among them, {verdict.duplicates} repetitions: "
        f"{_counts(verdict.explanations) or 'none'}",
        f"overlaps    {verdict.overlaps} handlers went on beside their successor, {verdict.longest_overlap:.1f} s at most",
        f"keys        {remains.keys} left, each with an owner or a time to live"
        if not remains.orphans
        else f"keys        {remains.keys} left, {len(remains.orphans)} without an owner",
        f"versions    NOT TESTED: {result.skipped}"
        if result.skipped
        else f"versions    {result.old_executions} executions by the old version"
        if result.plan.mix_versions
        else "versions    one",
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
        "faults": dict(result.faults),
        "hits": dict(result.hits),
        "outcomes": dict(verdict.states),
        "executions": verdict.executions,
        "retries": verdict.retries,
        "duplicates": verdict.duplicates,
        "explanations": dict(verdict.explanations),
        "overlaps": verdict.overlaps,
        "longest_overlap_seconds": round(verdict.longest_overlap, 3),
        "old_version_executions": result.old_executions,
        "not_tested": result.skipped,
        "lost": verdict.lost,
        "defects": verdict.defects + result.defects,
        "orphans": remains.orphans,
        "strangers": remains.strangers,
        "keys": remains.keys,
        "counters": remains.counters,
    }


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counter.items(), key=lambda item: -item[1]))
