"""What the person at the keyboard has chosen: a section, a row, an order, a pause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskfleet.cli.top.sections import SECTIONS, Section, Shown
from taskfleet.watching.snapshot import Snapshot

_PAGE = 10  # rows


class Choices:
    """Keys change it, and the view follows. A row stays selected while others move past it."""

    def __init__(self) -> None:
        self.section = 0
        self.paused = False
        self.helps = False
        self.ended = False
        self._selected = [""] * len(SECTIONS)  # keys of rows; empty for the first
        self._sorted_by: list[int | None] = [None] * len(SECTIONS)
        self._reversed = [False] * len(SECTIONS)

    def press(self, key: str, snapshot: Snapshot) -> None:
        """React to a key; one without a meaning changes nothing."""
        if self.helps and key not in ("q", "p"):
            self.helps = False
            return
        n = self.section
        match key:
            case "q":
                self.ended = True
            case "p" | " ":
                self.paused = not self.paused
            case "?" | "h":
                self.helps = True
            case "tab":
                self.section = (n + 1) % len(SECTIONS)
            case "backtab":
                self.section = (n - 1) % len(SECTIONS)
            case "1" | "2" | "3" | "4":
                self.section = int(key) - 1
            case "left" | "right":
                count = len(SECTIONS[n].columns)
                now = self._sorted_by[n]
                step = 1 if key == "right" else -1
                self._sorted_by[n] = (now + step) % count if now is not None else (0 if step > 0 else count - 1)
                self._reversed[n] = False
            case "r":
                self._reversed[n] = not self._reversed[n]
            case "up" | "down" | "pageup" | "pagedown" | "home" | "end":
                self._move(key, snapshot)
            case _:
                pass

    def sorted_by(self, n: int) -> Shown[Any] | None:
        """The column that section `n` is sorted by, if one was chosen."""
        chosen = self._sorted_by[n]
        return None if chosen is None else SECTIONS[n].columns[chosen]

    def rows(self, n: int, snapshot: Snapshot) -> list[Any]:
        """The rows of section `n`, in their order."""
        section: Section[Any] = SECTIONS[n]
        rows = sorted(section.rows(snapshot), key=section.first_order)
        column = self.sorted_by(n)
        falls = self._reversed[n]
        if column is not None:
            rows.sort(key=column.order, reverse=column.falls != falls)
        elif falls:
            rows.reverse()
        return rows

    def selected(self, n: int, rows: Sequence[Any]) -> int:
        """The position of the selected row. The first one stands in for a row that is gone."""
        keys = [SECTIONS[n].key(row) for row in rows]
        return keys.index(self._selected[n]) if self._selected[n] in keys else 0

    def _move(self, key: str, snapshot: Snapshot) -> None:
        n = self.section
        rows = self.rows(n, snapshot)
        if not rows:
            return
        now = self.selected(n, rows)
        last = len(rows) - 1
        steps = {"up": -1, "down": 1, "pageup": -_PAGE, "pagedown": _PAGE, "home": -last, "end": last}
        moved = min(last, max(0, now + steps[key]))
        # The first row is not held: a reader who is at the top wants to see what comes to the top.
        self._selected[n] = SECTIONS[n].key(rows[moved]) if moved else ""
