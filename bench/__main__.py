"""`python -m bench`: measure, print one table, write one JSON file."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench import report
from bench.errors import BenchError, PeerUnavailable
from bench.figures import Figure
from bench.peer import Peer, Program
from bench.peers import PEERS
from bench.scenarios import SCENARIOS, UNITS, Load, Stage
from bench.server import RedisServer, ServerProgram

_RUN = "{repeat} of {repeats}  {scenario:<13} {peer:<10}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    load = Load(tasks=options.tasks, latency_tasks=options.latency_tasks)
    try:
        program = ServerProgram.find()
        say(f"server: {program.version} ({program.path})")
        programs = _prepare([PEERS[name] for name in options.peers])
        figures, failed = measure(programs, options.scenario, options.repeat, load, program)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    machine = report.machine(program.version)
    if options.json:
        text = json.dumps(report.as_json(machine, figures), indent=2)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['redis']}; tasks {load.tasks:,}, slots {load.slots}\n")
    print(report.table(figures))
    missing = [name for name in options.peers if name not in programs]
    missing += [f"{scenario} of {name}" for scenario, name in sorted(failed)]
    if missing:
        say(f"bench: not measured: {', '.join(missing)}; see above")
    return 1 if missing else 0


def measure(
    programs: dict[str, Program], scenarios: Sequence[str], repeats: int, load: Load, server: ServerProgram
) -> tuple[list[Figure], set[tuple[str, str]]]:
    """Run everything, interleaved: what disturbs the machine for a while disturbs all peers.

    Returns the figures, and each (scenario, peer) that failed.
    """
    runs: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    failed: set[tuple[str, str]] = set()
    for repeat in range(1, repeats + 1):
        for scenario in scenarios:
            # Every other time the other way round, so that none is always the one after a heavy one.
            for name in list(programs) if repeat % 2 else reversed(programs):
                label = _RUN.format(repeat=repeat, repeats=repeats, scenario=scenario, peer=name)
                if reason := PEERS[name].lacks.get(scenario):
                    if repeat == 1:
                        say(f"{label} left out: {reason}")
                    continue
                if (scenario, name) in failed:
                    continue
                began = time.monotonic()
                try:
                    values = run_once(scenario, name, programs[name], replace(load, tasks=min(load.tasks, PEERS[name].most)), server)
                except BenchError as error:
                    failed.add((scenario, name))
                    say(f"{label} FAILED, left out: {error}")
                    continue
                for metric, value in values.items():
                    runs[scenario, metric, name].append(value)
                first = next(iter(values))
                took = time.monotonic() - began
                say(f"{label} {first} {report.number(values[first])} {UNITS[first]}  ({took:.1f} s)")
    order = {name: i for i, name in enumerate(programs)}
    keys = sorted(
        (key for key in runs if (key[0], key[2]) not in failed),
        key=lambda key: (scenarios.index(key[0]), list(UNITS).index(key[1]), order[key[2]]),
    )
    figures = [
        Figure(peer, PEERS[peer].version, scenario, metric, UNITS[metric], tuple(runs[scenario, metric, peer]))
        for scenario, metric, peer in keys
    ]
    return figures, failed


def run_once(scenario: str, name: str, program: Program, load: Load, server: ServerProgram) -> dict[str, float]:
    """One peer, one scenario, one fresh server."""
    with ExitStack() as stack:
        running = stack.enter_context(RedisServer(server))
        return SCENARIOS[scenario](Stage(program, name, running, load, stack))


def _prepare(peers: Sequence[Peer]) -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for peer in peers:
        began = time.monotonic()
        try:
            programs[peer.name] = peer.prepare()
        except PeerUnavailable as error:
            say(f"SKIPPED {peer.name}: {error}")
        else:
            say(f"peer: {peer.name} {peer.version} (ready in {time.monotonic() - began:.1f} s)")
    if not programs:
        raise BenchError("none of the peers can run here")
    return programs


def say(line: str) -> None:
    """Progress goes to standard error: standard output is the table's."""
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Taskfleet and its peers, side by side.")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}; all")
    parser.add_argument(
        "--scenario", type=_names(SCENARIOS), default=list(SCENARIOS), help=f"of {','.join(SCENARIOS)}; all"
    )
    parser.add_argument("--tasks", type=_positive, default=Load().tasks, help="tasks per run (20000)")
    parser.add_argument("--latency-tasks", type=_positive, default=200, help="tasks of the latency scenario (200)")
    parser.add_argument("--repeat", type=_positive, default=3, help="interleaved runs of everything (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        if not names:
            raise argparse.ArgumentTypeError(f"name some of {', '.join(known)}")
        return list(dict.fromkeys(names))

    return parse


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value


if __name__ == "__main__":
    sys.exit(main())
