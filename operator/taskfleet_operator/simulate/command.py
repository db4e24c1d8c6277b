"""`python -m taskfleet_operator.simulate`: one world of your own, or the whole matrix."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

import typer

from ..resource.autoscaler_spec import AutoscalerSpec
from . import load
from .drawing import drawing
from .load import Load, RunTime
from .matrix import allowed_wait, autoscalers, compare, compare_all, few_worlds, worlds
from .report import line, summary, table, write_between
from .simulated_fleet import SimulatedFaults
from .simulation import SimulatedWorld, simulate

LoadName = Literal["step", "poisson", "ramp", "sine", "on-off", "bursts", "delayed-flood", "recorded"]

_LOAD = typer.Option("poisson", "--load", help="How tasks arrive.")
_TIMES = typer.Option(None, "--times", help="A file with one arrival time a line, for `recorded`.")
_PURGES = typer.Option([], help="Purge the queue at this second; may be given several times.")
_LOST = typer.Option((0.0, 0.0), help="No sample from one second to another.")
_FAILING = typer.Option((0.0, 0.0), help="No pod starts from one second to another.")
_SVG = typer.Option(None, help="Write backlog, age and replicas as a picture.")
_PROCESSES = typer.Option(os.cpu_count() or 1, help="Worlds at a time.", min=1)
_PAGE = typer.Option(None, help="Write the tables into this page, and the pictures beside it.")

app = typer.Typer(add_completion=False, help="Simulate a queue, its pods and its autoscaler, beside KEDA and HPA.")


@app.command()
def world(
    load_name: LoadName = _LOAD,
    slots_busy: float = typer.Option(40.0, "--busy", help="How many slots the load keeps busy.", min=0.0),
    tasks: int = typer.Option(1000, help="Tasks of a burst or a flood.", min=1),
    run_time: float = typer.Option(0.5, "--run-time", help="Mean run time of a task, in seconds.", min=0.001),
    tail: float = typer.Option(0.0, help="Sigma of log-normal run times; 0: all alike.", min=0.0, max=3.0),
    slots: int = typer.Option(8, help="Slots of a pod.", min=1),
    start: float = typer.Option(10.0, help="Seconds until a new pod works.", min=0.1),
    minutes: float = typer.Option(60.0, help="Length of the simulation.", min=1.0),
    times: Path | None = _TIMES,
    purge_at: list[float] = _PURGES,
    lost: tuple[float, float] = _LOST,
    failing: tuple[float, float] = _FAILING,
    concurrency: int | None = typer.Option(None, help="The queue's own limit of tasks that run at once.", min=1),
    maximum: int = typer.Option(200, help="maxReplicas.", min=1, max=10_000),
    minimum: int = typer.Option(0, help="minReplicas.", min=0),
    drain: int = typer.Option(60, help="target.drainSeconds.", min=1),
    seed: int = typer.Option(1, help="Another seed, another chance."),
    svg: Path | None = _SVG,
    quiet_rivals: bool = typer.Option(False, "--ours-only", help="Without the rivals."),
) -> None:
    """One world, with all autoscalers."""
    made = _load(load_name, slots_busy, tasks, RunTime(run_time, tail), minutes * 60, times)
    faults = SimulatedFaults(
        lost_samples=(lost,) if lost[1] > lost[0] else (),
        failing_starts=(failing,) if failing[1] > failing[0] else (),
        purges=tuple(sorted(purge_at)),
    )
    one = SimulatedWorld(
        f"{load_name}, {run_time:g} s, {slots} slots, start {start:g} s",
        (made,),
        minutes * 60,
        slots,
        start,
        faults,
        maximum=maximum,
        minimum=minimum,
        concurrency=concurrency,
        seed=seed,
    )
    spec = AutoscalerSpec.model_validate(
        {"maxReplicas": maximum, "minReplicas": minimum, "target": {"drainSeconds": drain}}
    )
    chosen = autoscalers(one, spec)
    measured = [simulate(one, autoscaler) for autoscaler in (chosen[:1] if quiet_rivals else chosen)]
    for result in measured:
        print(line(result, allowed_wait(one, spec)))
    if svg is not None:
        svg.write_text(drawing(one.name, measured, one.seconds), encoding="utf-8")


@app.command()
def matrix(
    few: bool = typer.Option(False, help="Only a part of the worlds."),
    processes: int = _PROCESSES,
    page: Path | None = _PAGE,
) -> None:
    """All worlds: prints the tables; exit code 1 when ours is late, takes a busy pod or turns too often in one."""
    comparisons = compare_all(few_worlds() if few else worlds(), processes=processes)
    print(summary(comparisons))
    print()
    print(table(comparisons))
    if page is not None:
        write_between(page, "summary", summary(comparisons))
        write_between(page, "matrix", table(comparisons))
        pictures(page.parent.parent / "images")
    sys.exit(0 if all(one.meets(one.ours) for one in comparisons) else 1)


PICTURES = {
    "simulated-burst": SimulatedWorld(
        "10,000 tasks of 0.5 s at once, 8 slots a pod, start 10 s",
        (load.bursts(10_000, RunTime(0.5), every=1e9),), 900.0, 8, 10.0,
    ),
    "simulated-day": SimulatedWorld(
        "A load that swings between 0 and 80 slots of 5 s tasks, 8 slots a pod, start 10 s",
        (load.sine(40.0, RunTime(5.0)),), 5400.0, 8, 10.0,
    ),
    "simulated-long-tasks": SimulatedWorld(
        "Twelve tasks of two minutes at a time, one slot a pod, start 10 s",
        (load.poisson(12.0, RunTime(120.0)),), 7200.0, 1, 10.0,
    ),
}  # fmt: skip


def pictures(folder: Path) -> None:
    """Draw the pictures of the page."""
    for name, one in PICTURES.items():
        found = compare(one)
        (folder / f"{name}.svg").write_text(drawing(one.name, found.measured, one.seconds), encoding="utf-8")


def _load(name: str, slots: float, tasks: int, run_time: RunTime, seconds: float, times: Path | None) -> Load:
    if name == "recorded":
        if times is None:
            raise typer.BadParameter("`recorded` needs --times FILE")
        return load.recorded(times, run_time)
    made = {
        "step": lambda: load.step(slots, run_time),
        "poisson": lambda: load.poisson(slots, run_time),
        "ramp": lambda: load.ramp(slots, run_time, seconds=seconds / 2),
        "sine": lambda: load.sine(slots, run_time, period=seconds / 2),
        "on-off": lambda: load.on_off(slots, run_time),
        "bursts": lambda: load.bursts(tasks, run_time, until=seconds - 60),
        "delayed-flood": lambda: load.delayed_flood(tasks, run_time, at=seconds / 3),
    }
    return made[name]()
