"""A set whose members have scores, in the order of Redis: by score, then by member."""

from __future__ import annotations

import bisect
from collections.abc import Iterator


class SortedSet:
    """Members are texts. Adding a member again changes its score."""

    def __init__(self) -> None:
        self._scores: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, member: str) -> bool:
        return member in self._scores

    def __iter__(self) -> Iterator[str]:
        return (member for _, member in self._order)

    def items(self) -> list[tuple[str, float]]:
        return [(member, score) for score, member in self._order]

    def score(self, member: str) -> float | None:
        return self._scores.get(member)

    def add(self, member: str, score: float) -> None:
        self.remove(member)
        self._scores[member] = score
        bisect.insort(self._order, (score, member))

    def remove(self, member: str) -> bool:
        """Remove a member; returns whether it was present."""
        score = self._scores.pop(member, None)
        if score is None:
            return False
        del self._order[bisect.bisect_left(self._order, (score, member))]
        return True

    def first_score(self) -> float | None:
        return self._order[0][0] if self._order else None

    def first(self, n: int, *, start: int = 0) -> list[str]:
        """`n` members from position `start` on."""
        return [member for _, member in self._order[start : start + max(0, n)]]

    def up_to(self, score: float, n: int) -> list[str]:
        """At most `n` members whose score is not above `score`, lowest first."""
        return [member for _, member in self._order[: min(n, self.count_up_to(score))]]

    def count_up_to(self, score: float) -> int:
        return bisect.bisect_right(self._order, score, key=lambda entry: entry[0])

    def pop_first(self, n: int) -> list[tuple[str, float]]:
        popped, self._order = self._order[:n], self._order[n:]
        for _, member in popped:
            del self._scores[member]
        return [(member, score) for score, member in popped]

    def clear(self) -> None:
        self._scores.clear()
        self._order.clear()
