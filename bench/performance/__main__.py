"""`python -m bench.performance RUN`: put the tables and pictures of a run of the bench into its pages."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import report
from bench.errors import BenchError
from bench.peer import CHECKOUT
from bench.performance.bars import pictures
from bench.performance.tables import tables

_PLACE = re.compile(r"(<!-- run: (\w+) -->\n).*?(<!-- end of run -->)", re.DOTALL)


PAGES = ("docs/performance.md", "README.md")
FOLDER = "docs/performance"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    root: Path = options.checkout
    try:
        machine, figures = report.read_run(options.run)
        figures = [figure for figure in figures if not figure.scenario.startswith("grow_")]  # a page of their own
        parts = tables(machine, figures)
        files = {root / name: filled((root / name).read_text(encoding="utf-8"), parts) for name in PAGES}
    except (BenchError, OSError) as error:
        print(f"bench.performance: {error}", file=sys.stderr)
        return 1
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    files[folder / "run.json"] = json.dumps(report.as_json(machine, figures), indent=1) + "\n"
    files |= {folder / name: picture for name, picture in pictures(figures).items()}
    for path, content in files.items():
        path.write_text(content, encoding="utf-8")
        print(path)
    return 0


def filled(page: str, parts: Mapping[str, str]) -> str:
    """The page with the table of its name behind each `<!-- run: NAME -->`.

    Raises:
        BenchError: there is no such table, since the run has no figures for it.
    """

    def part(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in parts:
            raise BenchError(f"the run has no figures for {name!r}, which the page shows")
        return f"{begin}\n{parts[name]}\n\n{end}"

    return _PLACE.sub(part, page)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.performance", description=__doc__)
    parser.add_argument("run", type=Path, help="what `python -m bench --json` has written")
    parser.add_argument("--checkout", type=Path, default=CHECKOUT, help="where the pages are (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
