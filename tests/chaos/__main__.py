"""`python -m tests.chaos`: the crash suite. Exit code 0 when nothing is lost and everything is explained, else 1."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

from tests.chaos import report
from tests.chaos.old_version import FIRST, PREVIOUS
from tests.chaos.run import Plan, Sabotage, run


def main(arguments: list[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Crash suite of the engine.")
    parser.add_argument("--tasks", type=int, default=default.tasks, help="how many (default %(default)s)")
    parser.add_argument("--faults", type=int, default=default.faults, help="how many (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=default.seconds, help="how long tasks are sent and faults happen (%(default)s)"
    )
    parser.add_argument("--seed", type=int, help="decides the faults and the tasks (default: a new one, printed)")
    parser.add_argument("--workers", type=int, default=default.workers, help="of this version (%(default)s)")
    parser.add_argument("--producers", type=int, default=default.producers, help="processes (%(default)s)")
    parser.add_argument("--new-only", action="store_true", help="no worker of an earlier version")
    parser.add_argument(
        "--previous", metavar="COMMIT", default=PREVIOUS.commit, help="the version before (%(default)s)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep ledgers and logs there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    parser.add_argument(
        "--sabotage",
        choices=get_args(Sabotage),
        nargs="+",
        default=[],
        help="break something in Redis: the run must find it and fail",
    )
    options = parser.parse_args(arguments)
    plan = Plan(
        tasks=options.tasks,
        faults=options.faults,
        seconds=options.seconds,
        seed=secrets.randbelow(1_000_000) if options.seed is None else options.seed,
        workers=options.workers,
        producers=options.producers,
        versions=() if options.new_only else (FIRST, replace(PREVIOUS, commit=options.previous)),
        sabotage=tuple(options.sabotage),
        keep=options.keep,
    )
    print(f"chaos: {plan.tasks} tasks and {plan.faults} faults in {plan.seconds:g} s, seed {plan.seed}", flush=True)
    result = asyncio.run(run(plan, lambda line: print(line, flush=True)))
    print(report.text(result), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report.data(result), indent=1) + "\n")
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
