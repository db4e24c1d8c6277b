"""Events of the watch, with objects that any client may have written."""

from __future__ import annotations

import pytest

from taskfleet_operator.control.cluster_store import seconds_of


@pytest.mark.parametrize("timestamp", [None, "", "yesterday", "9999-99-99T00:00:00Z", "2026-11-25", "\x1b", "Z"])
def test_an_unreadable_time_stops_no_scaling(timestamp: str | None) -> None:
    assert seconds_of(timestamp) is None or timestamp == "2026-11-25"


def test_a_time() -> None:
    assert seconds_of("1970-01-01T00:01:00Z") == 60.0
