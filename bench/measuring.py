"""The runs: everything once, then again, so that a passing disturbance of the machine hits all peers."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.errors import BenchError, PeerUnavailable
from bench.figures import Figure, number
from bench.peer import Peer, Program
from bench.scenarios import SCENARIOS, Load, Run, Stage, place_of, played_together, unit_of
from bench.server import BenchServer, ServerProgram

_LABEL = "{repeat} of {repeats}  {scenarios:<22} {peer:<15}"


def say(line: str) -> None:
    """Progress goes to standard error: standard output is the tables'."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Contender:
    """A peer that is built."""

    peer: Peer
    program: Program

    @property
    def name(self) -> str:
        return self.peer.name


def prepare(peers: Sequence[Peer]) -> list[Contender]:
    """Build the peers; a peer that cannot be built is left out, with a message."""
    contenders: list[Contender] = []
    for peer in peers:
        began = time.monotonic()
        try:
            contenders.append(Contender(peer, peer.prepare()))
        except PeerUnavailable as error:
            say(f"SKIPPED {peer.name}: {error}")
        else:
            say(f"peer: {peer.name} {peer.version} (ready in {time.monotonic() - began:.1f} s)")
    if not contenders:
        raise BenchError("none of the peers can run here")
    return contenders


# (run, contender, load) → metric → value; the bench's own is `on_a_fresh_server`.
Play = Callable[[Run, Contender, Load], dict[str, float]]


def on_a_fresh_server(server: ServerProgram) -> Play:
    """One peer, one run, one server of its own."""

    def play(run: Run, contender: Contender, load: Load) -> dict[str, float]:
        with ExitStack() as stack:
            running = stack.enter_context(BenchServer(server))
            return run(Stage(contender.program, contender.name, running, load, stack))

    return play


class Measurement:
    """All figures of a bench."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        scenarios: Sequence[str],
        repeats: int,
        load: Load,
        *,
        only: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """`only`: scenario → the peers that it is for; a scenario that is not there is for all."""
        self._contenders = list(contenders)
        self._scenarios = list(scenarios)
        self._repeats = repeats
        self._load = load
        self._only = only or {}
        self._values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self.failed: set[tuple[str, str]] = set()
        """(scenario, peer) that could not be measured."""

    def run(self, play: Play) -> None:
        for repeat in range(1, self._repeats + 1):
            for run, names in played_together(self._scenarios):
                # Every other time the other way round, so that none is always the one after a heavy one.
                for contender in self._contenders if repeat % 2 else reversed(self._contenders):
                    self._once(repeat, run, names, contender, play)

    def _once(self, repeat: int, run: Run, scenarios: Sequence[str], contender: Contender, play: Play) -> None:
        label = _LABEL.format(repeat=repeat, repeats=self._repeats, scenarios=",".join(scenarios), peer=contender.name)
        scenarios = [name for name in scenarios if contender.name in self._only.get(name, (contender.name,))]
        if not scenarios:
            return
        lacks = contender.peer.lacks
        names = [name for name in scenarios if name not in lacks]
        if not names:
            if repeat == 1:
                say(f"{label} left out: {lacks[scenarios[0]]}")
            return
        if (names[0], contender.name) in self.failed:
            return
        load = self._load.for_one_with(contender.peer.most)
        began = time.monotonic()
        try:
            values = play(run, contender, load)
        except BenchError as error:
            self.failed |= {(name, contender.name) for name in names}
            say(f"{label} FAILED, left out: {error}")
            return
        for name in names:
            for metric, value in values.items():
                if SCENARIOS[name].takes(metric):
                    self._values[name, metric, contender.name].append(value)
        first = next(metric for metric in values if metric != "tasks" and SCENARIOS[names[0]].takes(metric))
        say(f"{label} {first} {number(values[first])} {unit_of(first)}  ({time.monotonic() - began:.1f} s)")

    def figures(self) -> list[Figure]:
        """In the order of scenarios, metrics and peers; a figure that failed in one repeat is left out."""
        order = {contender.name: i for i, contender in enumerate(self._contenders)}
        versions = {contender.name: contender.peer.version for contender in self._contenders}
        keys = sorted(
            (key for key in self._values if (key[0], key[2]) not in self.failed),
            key=lambda key: (self._scenarios.index(key[0]), place_of(key[1]), order[key[2]]),
        )
        return [
            Figure(peer, versions[peer], scenario, metric, unit_of(metric), tuple(self._values[scenario, metric, peer]))
            for scenario, metric, peer in keys
        ]
