"""Many items go to Redis in calls that are bounded by their number, by their bytes, and by what each costs there."""

from __future__ import annotations

import pytest

from taskfleet.protocol import bounds
from taskfleet.protocol.item import Extras, Item


def items(number: int, size: int = 10, *, tagged_at: int | None = None) -> list[Item]:
    return [(f"id-{n}", b"x" * size, 0, 0, Extras(limit_key="key") if n == tagged_at else None) for n in range(number)]


def lengths(of: list[Item]) -> list[int]:
    parts = [*bounds.windows(of, bounds.item_bytes)]
    assert [start for start, _, _ in parts] == [0, *(end for _, end, _ in parts[:-1])]
    return [end - start for start, end, _ in parts]


def test_plain_tasks_are_bounded_by_their_number() -> None:
    assert lengths(items(2500)) == [1000, 1000, 500]


@pytest.mark.parametrize("tagged_at", [0, 1100, 1199])
def test_tasks_with_keys_are_bounded_by_a_smaller_number(tagged_at: int) -> None:
    assert lengths(items(1200, tagged_at=tagged_at)) == [500, 500, 200]


def test_no_call_of_several_tasks_has_more_than_two_mebibytes() -> None:
    of = items(1000, 10_000)
    assert sum(lengths(of)) == 1000
    assert max(size for _, _, size in bounds.windows(of, bounds.item_bytes)) <= 2 * 1_048_576


def test_a_larger_task_goes_alone() -> None:
    assert lengths([*items(3), *items(1, 3_000_000), *items(2)]) == [3, 1, 2]
