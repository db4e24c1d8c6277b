"""The numbers in docs/explanation/autoscaling.md are those of the real function."""

from __future__ import annotations

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "autoscaling.md"


def test_the_worked_numbers_are_true() -> None:
    results = doctest.testfile(str(PAGE), module_relative=False)
    assert results.attempted > 8
    assert results.failed == 0
