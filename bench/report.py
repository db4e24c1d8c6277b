"""The tables and the JSON file."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.curves import point_of
from bench.errors import BenchError
from bench.features.cases import FEATURES
from bench.figures import Figure, number
from bench.scenarios import pythons
from bench.scenarios.features import COLUMNS
from bench.targets import Target

PLAIN = "plain"
"""The feature that the others are compared with: none."""

ACROSS = {
    "grow_waiting": "waiting tasks",
    "grow_delayed": "delayed tasks",
    "grow_members": "members of a group",
    "grow_fair": "fair keys",
    "grow_limit": "limit keys",
    "grow_workers": "idle workers",
    "grow_queues": "queues of an idle worker",
    "grow_cluster_3": "partitions, 3 masters",
    "grow_cluster_6": "partitions, 6 masters",
}
"""What the sizes are sizes of, by scenario."""


def machine(server_version: str) -> dict[str, Any]:
    """The machine and the Redis of the run."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "redis": server_version,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def as_json(machine: dict[str, Any], figures: Sequence[Figure]) -> dict[str, Any]:
    return {"machine": machine, "results": [figure.as_json() for figure in figures]}


def read_run(file: Path) -> tuple[dict[str, Any], list[Figure]]:
    """The machine and the figures of a JSON file of the bench. Errors: `BenchError`, one line that names the file."""
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        return dict(run["machine"]), [Figure.of_json(record) for record in run["results"]]
    except OSError as error:
        raise BenchError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise BenchError(f"{file} cannot be read: it is not what `python -m bench --json` writes") from None


def table(figures: Sequence[Figure]) -> str:
    """One Markdown table: a line per scenario, metric and peer.

    `tasks` is a column: how many the line's figures come from. It differs, since a slow peer is given fewer.
    """
    figures = [figure for figure in figures if "." not in figure.metric]
    tasks = {(f.scenario, f.peer): f.median for f in figures if f.metric == "tasks"}
    header = ("scenario", "metric", "peer", "version", "tasks", "median", "min", "max", "unit")
    rows = [
        (
            figure.scenario,
            figure.metric,
            figure.peer,
            figure.version,
            f"{tasks[figure.scenario, figure.peer]:,.0f}" if (figure.scenario, figure.peer) in tasks else "",
            number(figure.median),
            number(min(figure.runs)),
            number(max(figure.runs)),
            figure.unit,
        )
        for figure in figures
        if figure.metric != "tasks"
    ]
    return markdown(header, rows, right=(4, 5, 6, 7))


def feature_table(figures: Sequence[Figure]) -> str:
    """One Markdown table: a line per feature, with what it costs beside a plain task. Empty without such figures."""
    medians = {figure.metric: figure.median for figure in figures if figure.scenario == "features"}
    if f"{PLAIN}.worker_us" not in medians:
        return ""
    costs = {name: medians[f"{name}.worker_us"] + medians[f"{name}.redis_us"] for name in FEATURES}
    header = ("a task with", *COLUMNS.values(), "times plain")
    rows: list[Sequence[str]] = []
    for name, feature in FEATURES.items():
        cells = [number(medians[f"{name}.{column}"]) for column in COLUMNS]
        rows.append((feature.title, *cells, number(costs[name] / costs[PLAIN])))
    return markdown(header, rows, right=range(1, len(header)))


def python_table(figures: Sequence[Figure]) -> str:
    """One Markdown table: a line per interpreter. Empty without such figures."""
    medians = {figure.metric: figure.median for figure in figures if figure.scenario == "pythons"}
    names = {version: [pythons.metric(version, column) for column in pythons.COLUMNS] for version in pythons.VERSIONS}
    rows = [
        (f"CPython {version}", *(number(medians[metric]) if metric in medians else "" for metric in metrics))
        for version, metrics in names.items()
        if metrics[0] in medians
    ]
    return markdown(("interpreter", *pythons.COLUMNS.values()), rows, right=(1, 2, 3, 4)) if rows else ""


def growth_tables(figures: Sequence[Figure]) -> dict[str, str]:
    """A Markdown table for each scenario with curves, by its name: a line for each size, a column for each curve."""
    found: dict[str, dict[tuple[str, int], Figure]] = {}
    for figure in figures:
        if (point := point_of(figure.metric)) is not None:
            found.setdefault(figure.scenario, {})[point] = figure
    return {scenario: _growth_table(scenario, cells) for scenario, cells in found.items()}


def _growth_table(scenario: str, cells: Mapping[tuple[str, int], Figure]) -> str:
    units = {curve: figure.unit for (curve, _), figure in cells.items()}
    titles = [", ".join(filter(None, (curve.replace("_", " "), unit))) for curve, unit in units.items()]
    header = (ACROSS[scenario], *titles)
    rows: list[Sequence[str]] = []
    for size in sorted({size for _, size in cells}):
        points = [cells.get((curve, size)) for curve in units]
        rows.append((f"{size:,}", *("" if point is None else number(point.median) for point in points)))
    return markdown(header, rows, right=range(len(header)))


def target_table(verdicts: Sequence[Target]) -> str:
    """One Markdown table: a line per target that the run has the figures for."""
    rows = [(v.what, v.target, v.measured, "yes" if v.met else "NO") for v in verdicts]
    return markdown(("what", "target", "measured", "met"), rows, right=())


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> str:
    """A Markdown table in columns of equal width; those in `right` stand to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [_line(header, widths, right), "|" + "|".join(_rule(w, i in right) for i, w in enumerate(widths)) + "|"]
    lines += [_line(row, widths, right) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    padded = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
    return "| " + " | ".join(padded) + " |"


def _rule(width: int, right: bool) -> str:
    return "-" * (width + 1) + (":" if right else "-")
