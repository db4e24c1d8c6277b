"""The table of a comparison, as Markdown, and the parts of a page that a run replaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .matrix import Comparison
from .second_look import SEEDS, SecondLook
from .simulation import Measured


def table(comparisons: Sequence[Comparison]) -> str:
    """One row for each world: ours, the cheapest rival that meets the target, and the cheapest that is in time."""
    rows = [
        "| load, run time, slots of a pod, start | our cost | p95 / allowed, s | reversals/h | on target | in time | |",
        "| --- | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for one in comparisons:
        ours, steady = one.ours, one.ours.steady_reversals
        rows.append(
            f"| {one.world.name} | {ours.cost:.2f} | {ours.wait_95:.0f} / {one.allowed:.0f} | "
            f"{'-' if steady is None else steady} | {_rival(one.cheapest)} | {_rival(one.cheapest_in_time)} | "
            f"{verdict(one)} |"
        )
    return "\n".join(rows)


def verdict(one: Comparison) -> str:
    """What a world shows against ours, in words; empty when everything holds and nothing is cheaper."""
    ours, found = one.ours, list[str]()
    if not one.in_time(ours):
        found.append("late")
    if ours.taken_busy:
        found.append(f"{ours.taken_busy} busy pods taken")
    if (ours.steady_reversals or 0) > 2:
        found.append("turns too often")
    if one.cheapest is not None and not one.is_cheap(ours):
        found.append(f"costs {ours.cost / one.cheapest.cost:.2f} times {one.cheapest.autoscaler}")
        if one.without_headroom is not None and one.meets(one.without_headroom):
            found.append(f"{one.without_headroom.cost:.2f} with utilizationPercent 100")
    if one.second is not None:
        found.append(_second(one.second))
    return "; ".join(found)


def _second(look: SecondLook) -> str:
    fixed = "none" if look.fixed is None else f"{look.fixed.autoscaler} {look.fixed.cost:.2f}"
    return (
        f"over {len(SEEDS)} seeds {look.our_cost:.2f} and {look.rival_cost:.2f}, on target in {look.ours_on_target} and"
        f" {look.rival_on_target}; smallest fixed fleet in time: {fixed}"
    )


def summary(comparisons: Sequence[Comparison]) -> str:
    """How each autoscaler fares over all worlds, as a table."""
    total = len(comparisons)
    rows = [
        f"| {total} worlds | in time | no busy pod taken | reversals ≤ 2/h | all of it | cost | taken | run again |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in [one.autoscaler for one in comparisons[0].measured]:
        all_of = [(one, next(m for m in one.measured if m.autoscaler == name)) for one in comparisons]
        steady = [m for _, m in all_of if m.steady_reversals is not None]
        rows.append(
            f"| {name} | {sum(one.in_time(m) for one, m in all_of)} | {sum(not m.taken_busy for _, m in all_of)} | "
            f"{sum((m.steady_reversals or 0) <= 2 for m in steady)} of {len(steady)} | "
            f"{sum(one.meets(m) for one, m in all_of)} | {sum(m.cost for _, m in all_of) / total:.2f} | "
            f"{sum(m.taken_busy for _, m in all_of)} | {sum(m.rerun for _, m in all_of)} |"
        )
    return "\n".join(rows)


def write_between(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->` on a page."""
    content = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = content.split(begin, 1)
    _, after = rest.split(end, 1)
    page.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")


def line(one: Measured, allowed: float) -> str:
    """One autoscaler in one world, for a terminal."""
    steady = "" if one.steady_reversals is None else f", {one.steady_reversals} in an hour of steady load"
    return (
        f"{one.autoscaler:<15} cost {one.cost:5.2f}   wait p95 {one.wait_95:6.1f} s of {allowed:.0f}, "
        f"longest {one.wait_longest:6.1f} s   {one.reversals} reversals{steady}   "
        f"{one.taken_busy} busy pods taken, {one.rerun} tasks run again   at most {one.most_replicas} pods"
    )


def _rival(one: Measured | None) -> str:
    if one is None:
        return "none"
    taken = f", {one.taken_busy} busy pods taken" if one.taken_busy else ""
    return f"{one.autoscaler} {one.cost:.2f}{taken}"
