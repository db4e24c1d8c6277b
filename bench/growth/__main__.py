"""`python -m bench.growth FOLDER`: measure how costs grow, and write run.json, pictures and a page of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bench import report
from bench.arguments import names_of
from bench.errors import BenchError
from bench.figures import Figure
from bench.growth.page import page, pictures
from bench.measuring import Measurement, on_a_fresh_server, prepare, say
from bench.peer import GROWING
from bench.peers import PEERS
from bench.scenarios import Growth, Load
from bench.server import ServerProgram

_HELP = {
    "waiting": "the most waiting, and delayed, tasks",
    "keys": "the most fair keys, limit keys, and members of a group",
    "workers": "the most idle workers",
    "queues": "the most queues of one worker",
    "partitions": "the most partitions",
    "partitioned": "the tasks of a partitioned queue",
    "claims": "the claims at each size",
    "idle_seconds": "for how long an idle fleet is watched",
    "settle_seconds": "for how long it is left alone before",
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        machine, figures = report.read_run(options.drawn_from) if options.drawn_from else _measured(options)
    except BenchError as error:
        print(f"bench.growth: {error}", file=sys.stderr)
        return 1
    figures = [figure for figure in figures if figure.scenario.startswith("grow_")]
    folder: Path = options.folder
    files = {
        "run.json": json.dumps(report.as_json(machine, figures), indent=1) + "\n",
        "README.md": page(machine, figures),
        **pictures(figures),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)
    return 0


def _measured(options: argparse.Namespace) -> tuple[dict[str, Any], list[Figure]]:
    server = ServerProgram.find()
    say(f"server: {server.version} ({server.path})")
    sizes = Growth(**{field.name: getattr(options, field.name) for field in fields(Growth)})
    scenarios = [f"grow_{what}" for what in options.only]
    measurement = Measurement(prepare([PEERS["taskfleet"]]), scenarios, 1, Load(growth=sizes))
    measurement.run(on_a_fresh_server(server))
    if measurement.failed:
        raise BenchError(f"not measured: {', '.join(sorted(name for name, _ in measurement.failed))}; see above")
    return report.machine(server.version), list(measurement.figures())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="How the costs of Taskfleet grow.")
    parser.add_argument("folder", type=Path, help="where run.json, README.md and the pictures are written")
    parser.add_argument(
        "--from", dest="drawn_from", type=Path, metavar="FILE", help="measure nothing: use this JSON file"
    )
    parser.add_argument("--only", type=names_of(GROWING), default=list(GROWING), help=f"of {','.join(GROWING)}; all")
    for field in fields(Growth):
        flag, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        parser.add_argument(
            flag, type=kind, default=field.default, metavar="N", help=f"{_HELP[field.name]} (%(default)s)"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
