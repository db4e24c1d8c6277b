"""The output of `taskfleet up`: a live table on a terminal, else a line for each change, or JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from taskfleet.showing import shown

from ..autoscaler import ScalingDecision

_LINE_LIMIT = 4000  # characters


@dataclass(frozen=True, slots=True)
class WorkerRow:
    name: str
    state: str
    busy: int
    slots: int
    age_seconds: float


@dataclass(frozen=True, slots=True)
class QueueRow:
    name: str
    backlog: int
    in_flight: int
    delayed: int
    dead: int
    oldest_age_seconds: float
    finished: int


@dataclass(frozen=True, slots=True)
class Picture:
    """The fleet at one moment."""

    title: str
    replicas: int
    maximum: int
    queues: Sequence[QueueRow]
    workers: Sequence[WorkerRow]
    decision: ScalingDecision | None


class View(Protocol):
    """The output of the local fleet."""

    def picture(self, picture: Picture) -> None: ...

    def decided(self, decision: ScalingDecision) -> None: ...

    def say(self, text: str) -> None: ...

    def worker_line(self, name: str, line: str) -> None: ...

    def close(self) -> None: ...


def _change(decision: ScalingDecision) -> str:
    """A change of the number, with what kept it from the number that the formula gave."""
    limit = f" (limited by {decision.limited_by})" if decision.limited_by else ""
    return f"workers {decision.current} → {decision.desired}  {decision.reason}: {decision.message}{limit}"


class LineView:
    """One plain line for each change."""

    def __init__(self, out: TextIO | None = None, *, worker_output: bool = True) -> None:
        self._out = out or sys.stdout
        self._worker_output = worker_output
        self._said: tuple[int, str] | None = None

    def picture(self, picture: Picture) -> None: ...

    def decided(self, decision: ScalingDecision) -> None:
        if decision.changed:
            self.say(_change(decision))
        elif decision.reason in {"SampleFailed", "Fallback", "SuspectSample"} and self._said != (
            decision.current,
            decision.reason,
        ):
            self.say(f"{decision.reason}: {decision.message}")
        self._said = (decision.current, decision.reason)

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {shown(text, _LINE_LIMIT)}", file=self._out, flush=True)

    def worker_line(self, name: str, line: str) -> None:
        if self._worker_output:
            print(f"{name} | {shown(line, _LINE_LIMIT)}", file=self._out, flush=True)

    def close(self) -> None: ...


class JsonView:
    """One JSON object for each change, one a line."""

    def picture(self, picture: Picture) -> None: ...

    def decided(self, decision: ScalingDecision) -> None:
        if decision.changed:
            self._print(
                event="decision",
                current=decision.current,
                desired=decision.desired,
                reason=decision.reason,
                message=decision.message,
                limitedBy=decision.limited_by,
                terms=dict(decision.terms),
            )

    def say(self, text: str) -> None:
        self._print(event="note", text=text)

    def worker_line(self, name: str, line: str) -> None:
        self._print(event="output", worker=name, line=line)

    def close(self) -> None: ...

    def _print(self, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"time": now, **fields}), flush=True)


class TableView:
    """A table that is redrawn in place, with the workers' output scrolling above it."""

    def __init__(self, *, worker_output: bool = True) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8, transient=False)
        self._live.start()
        self._worker_output = worker_output

    def picture(self, picture: Picture) -> None:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        queues = Table(box=None, pad_edge=False)
        for heading in ("queue", "backlog", "in flight", "delayed", "dead", "oldest", "done"):
            queues.add_column(heading, justify="left" if heading == "queue" else "right")
        for queue in picture.queues:
            queues.add_row(
                queue.name, str(queue.backlog), str(queue.in_flight), str(queue.delayed), str(queue.dead),
                f"{queue.oldest_age_seconds:.0f} s", str(queue.finished),
            )  # fmt: skip
        workers = Table(box=None, pad_edge=False)
        for heading in ("worker", "state", "busy", "age"):
            workers.add_column(heading, justify="left" if heading in {"worker", "state"} else "right")
        for worker in picture.workers:
            state = Text(shown(worker.state, 20))  # the worker's own word, so no markup
            workers.add_row(worker.name, state, f"{worker.busy}/{worker.slots}", f"{worker.age_seconds:.0f} s")
        bar = "■" * picture.replicas + "·" * max(0, min(picture.maximum, 60) - picture.replicas)
        decision = picture.decision
        why = f"{decision.reason}: {shown(decision.message, _LINE_LIMIT)}" if decision else "looking…"
        if decision and decision.limited_by:
            why += f"  (limited by {decision.limited_by})"
        self._live.update(
            Group(
                Text(shown(picture.title), style="bold"),
                queues,
                Text(f"{picture.replicas} workers {bar}"),
                Text(why),
                workers,
            )
        )

    def decided(self, decision: ScalingDecision) -> None:
        if decision.changed:
            self.say(_change(decision))

    def say(self, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')} {shown(text, _LINE_LIMIT)}", markup=False)

    def worker_line(self, name: str, line: str) -> None:
        if self._worker_output:
            self._console.print(f"{name} | {shown(line, _LINE_LIMIT)}", markup=False)

    def close(self) -> None:
        self._live.stop()


def choose(*, json_lines: bool, worker_output: bool = True) -> View:
    """JSON if requested, a live table on a terminal, lines otherwise."""
    if json_lines:
        return JsonView()
    if sys.stdout.isatty():
        try:
            return TableView(worker_output=worker_output)
        except ImportError:
            pass
    return LineView(worker_output=worker_output)
