"""`python -m bench`: measure, print the tables, write one JSON file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import report
from bench.arguments import names_of, positive
from bench.errors import BenchError
from bench.measuring import Measurement, on_a_fresh_server, prepare, say
from bench.peers import PEERS
from bench.scenarios import SCENARIOS, Growth, Load
from bench.server import ServerProgram
from bench.targets import verdicts

# For a first answer in minutes: each figure once, and smaller amounts where time goes by waiting.
QUICK = Load(
    patience=0.3,
    latency_tasks=50,
    sleepers=4_000,
    many=300_000,
    at_once=20_000,
    chaos_tasks=20_000,
    chaos_seconds=40.0,
    growth=Growth(waiting=100_000, keys=100_000, workers=10, queues=100, partitioned=20_000, idle_seconds=5.0),
)
_FAST = ("taskfleet", "bullmq", "asynq")
QUICK_ONLY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("drain_rtt", "processes", "sleep", "delayed"), _FAST),
    **dict.fromkeys(("kill9", "million", "holding", "chaos", "footprint", "pythons"), ("taskfleet",)),
}
"""Without `--scenario` the quick form has these for the fastest alone, or for us alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    load = _load(options)
    repeats = options.repeat or (1 if options.quick else 3)
    try:
        server = ServerProgram.find()
        say(f"server: {server.version} ({server.path})")
        contenders = prepare([PEERS[name] for name in options.peers])
        only = QUICK_ONLY if options.quick and options.scenario is None else None
        measurement = Measurement(contenders, options.scenario or list(SCENARIOS), repeats, load, only=only)
        measurement.run(on_a_fresh_server(server))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    figures = measurement.figures()
    machine = report.machine(server.version)
    if options.json:
        text = json.dumps(report.as_json(machine, figures), indent=2)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['redis']}; {repeats} of each, slots {load.slots}\n")
    print(report.table(figures))
    tables = (report.feature_table(figures), report.python_table(figures), *report.growth_tables(figures).values())
    for table in tables:
        if table:
            print(f"\n{table}")
    if judged := verdicts(figures, [name for name, peer in PEERS.items() if peer.python]):
        print(f"\n{report.target_table(judged)}")
    present = {contender.name for contender in contenders}
    missing = [name for name in options.peers if name not in present]
    missing += [f"{scenario} of {name}" for scenario, name in sorted(measurement.failed)]
    if missing:
        say(f"bench: not measured: {', '.join(missing)}; see above")
    return 1 if missing else 0


def _load(options: argparse.Namespace) -> Load:
    base = QUICK if options.quick else Load()
    given = {"tasks": options.tasks, "latency_tasks": options.latency_tasks}
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Taskfleet and its peers, side by side.")
    parser.add_argument("--peers", type=names_of(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}; all")
    parser.add_argument("--scenario", type=names_of(SCENARIOS), help=f"of {','.join(SCENARIOS)}; all")
    parser.add_argument("--tasks", type=positive, help="tasks per run (20000); slow peers get fewer")
    parser.add_argument("--latency-tasks", type=positive, help="tasks of the latency scenario (200)")
    parser.add_argument("--repeat", type=positive, help="interleaved runs of everything (3)")
    parser.add_argument("--quick", action="store_true", help="each once, and less where a run would be long")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
