"""Progress reports with unusual numbers and notes arrive, or are refused at the call."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from taskfleet.protocol.progress import Progress
from taskfleet.protocol.progress_report import pack_report


def _read(done: Any, total: Any, note: Any) -> Progress:
    return Progress.of_record(struct.pack(">d", 1000.0) + pack_report(done, total, note))


@pytest.mark.parametrize(
    ("done", "read"), [(10**400, math.inf), (-(10**400), -math.inf), (2**70, float(2**70)), (True, True), (-1, -1)]
)
def test_a_number_of_any_size_travels(done: float, read: float) -> None:
    assert _read(done, 3, "").done == read
    assert _read(1, done, "").total == read


@pytest.mark.parametrize("note", ["\ud800", "x" * 100_000, 5, None])
def test_a_note_of_any_kind_travels(note: Any) -> None:
    assert len(_read(1, 2, note).note) <= 1000


@pytest.mark.parametrize("done", ["3", None, object(), [1]])
def test_progress_that_is_no_number_is_refused(done: Any) -> None:
    with pytest.raises(TypeError, match="is no number"):
        pack_report(done, None, "")
