"""From what was read to the lines of a screen of any size. It is pure, and no text of others is more than text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from taskfleet.cli.top.choices import Choices
from taskfleet.cli.top.sections import SECTIONS, Shown, number, rate
from taskfleet.showing import shown
from taskfleet.watching.snapshot import Snapshot

_TEXT_LIMIT = 500  # characters of one cell
_LEAST_ROWS = 3  # of a section that is shown beside others: its heads, and two rows

_HELP = (
    "q            quit",
    "tab, 1 to 4  the next section, a section",
    "up, down     select a row",
    "left, right  sort by another column",
    "r            reverse the order",
    "p            pause the view, and go on",
    "?            this help",
    "",
    "any key goes back",
)
_KEYS = ("q quit", "? help", "p pause", "tab section", "up/down select", "left/right sort")


@dataclass(frozen=True, slots=True)
class ScreenNotes:
    """What is told beside the figures: the address, a warning (Redis does not answer), and whether there are keys."""

    address: str
    warning: str = ""
    has_keys: bool = True
    encoding: str = "utf-8"


def draw(snapshot: Snapshot, choices: Choices, around: ScreenNotes, width: int, height: int) -> Text:
    """All lines of the screen, each of exactly `width` columns or less."""
    pen = _Pen(width, around.encoding)
    lines = [_title(snapshot, choices, around, pen), _totals(snapshot, around, pen)]
    room = max(0, height - len(lines) - 1)
    body = list(map(pen.line, _HELP[:room])) if choices.helps else _sections(snapshot, choices, pen, room)
    lines += [*body, *[Text()] * (room - len(body)), pen.line(_footer(around, width), "dim")]
    return Text("\n").join(lines[:height])


@dataclass(frozen=True, slots=True)
class _Pen:
    """Writes lines of limited width, in the characters that the terminal has."""

    width: int
    encoding: str

    def text(self, value: str) -> str:
        told = shown(value, _TEXT_LIMIT)
        return told if told.isascii() else told.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def cut(self, value: str, width: int) -> str:
        """The text in at most `width` columns, with a sign where it was cut."""
        text = self.text(value)
        if cell_len(text) <= width:
            return text
        sign = "…" if self.text("…") == "…" else "~"
        return set_cell_size(text, max(0, width - 1)).rstrip() + sign if width else ""

    def cell(self, value: str, width: int, *, right: bool) -> str:
        text = self.cut(value, width)
        space = " " * max(0, width - cell_len(text))
        return space + text if right else text + space

    def line(self, value: str, style: str = "") -> Text:
        return Text(self.cut(value, self.width), style=style)


def _title(snapshot: Snapshot, choices: Choices, around: ScreenNotes, pen: _Pen) -> Text:
    paused = "  PAUSED, p goes on" if choices.paused else ""
    return pen.line(f"taskfleet top  {snapshot.at:%T} UTC{paused}  {around.address}", "bold")


def _totals(snapshot: Snapshot, around: ScreenNotes, pen: _Pen) -> Text:
    if around.warning:
        return pen.line(around.warning, "bold red")
    stats = snapshot.stats
    states = ("ready", "in_flight", "delayed", "dead")
    ready, running, delayed, dead = (number(sum(getattr(each, state) for each in stats)) for state in states)
    came, ended = total_rates(snapshot)
    busy, slots = sum(row.info.busy for row in snapshot.workers), sum(row.info.slots for row in snapshot.workers)
    told = [
        f"{ready} ready", f"{running} running", f"in {rate(came)}/s", f"out {rate(ended)}/s", f"{delayed} delayed",
        f"{dead} dead", f"{_several(len(snapshot.workers), 'worker')}, {busy}/{slots} busy",
        _several(len(snapshot.queues), "queue"),
    ]  # fmt: skip
    if snapshot.unread:
        told.insert(0, f"{_several(snapshot.unread, 'queue')} to read")
    return pen.line("  ".join(told))


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def total_rates(snapshot: Snapshot) -> tuple[float | None, float | None]:
    """Tasks per second that came, and that ended, in all queues."""
    came = [row.enqueued_per_second for row in snapshot.queues if row.enqueued_per_second is not None]
    ended = [row.finished_per_second for row in snapshot.queues if row.finished_per_second is not None]
    return (sum(came) if came else None), (sum(ended) if ended else None)


def _footer(around: ScreenNotes, width: int) -> str:
    if not around.has_keys:
        return "Ctrl-C ends"
    told = ""
    for key in _KEYS:
        longer = f"{told}  {key}" if told else key
        if len(longer) > width:
            break
        told = longer
    return told


def _sections(snapshot: Snapshot, choices: Choices, pen: _Pen, room: int) -> list[Text]:
    rows = [choices.rows(n, snapshot) for n in range(len(SECTIONS))]
    heights = shares(room, [1 + max(1, len(each)) for each in rows], choices.section)
    lines: list[Text] = []
    for n, height in enumerate(heights):
        if height:
            lines += _section(n, rows[n], choices, pen, height)
    return lines


def shares(room: int, wanted: Sequence[int], chosen: int) -> list[int]:
    """The lines of each section. The chosen one comes first; it is alone where there is no room for all."""
    if room < _LEAST_ROWS * len(wanted):
        return [min(room, each) if n == chosen else 0 for n, each in enumerate(wanted)]
    given = [min(_LEAST_ROWS, each) for each in wanted]
    left = room - sum(given)
    for n in sorted(range(len(wanted)), key=lambda n: (n != chosen, n)):
        more = wanted[n] - given[n]
        if n == chosen:  # it leaves a third to the others, if they need it
            others = sum(wanted) - sum(given) - more
            more = min(more, max(left - others, left - left // 3))
        more = min(left, more)
        given[n] += more
        left -= more
    return given


def _section(n: int, rows: Sequence[Any], choices: Choices, pen: _Pen, height: int) -> list[Text]:
    section, is_chosen = SECTIONS[n], n == choices.section
    columns, widths = _fitted(section.columns, rows, pen)
    by = choices.sorted_by(n)
    at, room = choices.selected(n, rows), height - 1
    start = max(0, min(at - room // 2, len(rows) - room))
    heads = [f"{column.head}*" if column is by else column.head for column in columns]
    if len(rows) > room > 0:
        heads[0] += f" {start + 1}-{start + room}/{len(rows)}"
    gap = " "
    cells = [pen.cell(text, wide, right=one.right) for text, wide, one in zip(heads, widths, columns, strict=True)]
    head = pen.cell(gap.join(cells), pen.width, right=False)
    lines = [Text(head, style="bold reverse" if is_chosen else "reverse dim")]
    if not rows:
        return [*lines, pen.line(section.none, "dim")][:height]
    for position, row in enumerate(rows[start : start + room], start):
        line = Text()
        for number_, (column, wide) in enumerate(zip(columns, widths, strict=True)):
            line.append(gap if number_ else "")
            line.append(pen.cell(column.cell(row), wide, right=column.right), style=column.style(row))
        if is_chosen and position == at and (at or len(rows) > 1):
            line.stylize("reverse")
        lines.append(line)
    return lines


def _fitted(columns: Sequence[Shown[Any]], rows: Sequence[Any], pen: _Pen) -> tuple[list[Shown[Any]], list[int]]:
    """The columns for which there is room, and their widths."""
    kept = list(columns)

    def least(column: Shown[Any]) -> int:
        if column.stretches:
            return column.least
        longest = max((cell_len(pen.text(column.cell(row))) for row in rows[:200]), default=0)
        return max(column.least, len(column.head) + 1, min(longest, 24))

    needs = {id(column): least(column) for column in columns}
    while sum(needs[id(column)] for column in kept) + len(kept) - 1 > pen.width and any(each.rank for each in kept):
        kept.remove(max(kept, key=lambda column: column.rank))
    widths = [needs[id(column)] for column in kept]
    left = pen.width - sum(widths) - (len(kept) - 1)
    while left < 0 and max(widths) > 1:  # a very narrow screen
        widths[widths.index(max(widths))] -= 1
        left += 1
    wanted = {
        n: max((cell_len(pen.text(column.cell(row))) for row in rows[:200]), default=0)
        for n, column in enumerate(kept)
        if column.stretches
    }
    while left > 0 and (short := [n for n, want in wanted.items() if widths[n] < want]):
        for n in short[:left]:
            widths[n] += 1
            left -= 1
    return kept, widths
