"""The rate limit of log lines about failed tasks."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from taskfleet.runtime.recording.reporting import BURST, SECONDS_EACH, Reports


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def test_a_task_that_fails_all_the_time_has_a_bounded_number_of_lines(
    clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    reports = Reports(clock)
    for n in range(1000):
        reports.buried("default", f"id{n}", "send", 1, "unknown_task", "no such task")
    assert len(caplog.records) == BURST
    clock.now += SECONDS_EACH
    reports.buried("default", "last", "send", 1, "unknown_task", "no such task")
    assert f"{1000 - BURST} more" in caplog.records[-1].getMessage()
    reports.buried("other", "id", "send", 1, "unknown_task", "no such task")
    assert len(caplog.records) == BURST + 2


def test_suppressed_lines_are_counted_even_if_no_line_follows(clock: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports(clock)
    for n in range(100):
        reports.taken_over("default", f"id{n}", "send", 1, 1)
    reports.flush()
    assert len(caplog.records) == BURST
    clock.now += SECONDS_EACH
    reports.flush()
    reports.flush()
    assert [line.getMessage() for line in caplog.records[BURST:]] == [
        f"send taken over: {100 - BURST} more that are not listed"
    ]
    assert caplog.records[-1].levelno == logging.WARNING


def test_texts_of_others_stay_on_their_line(clock: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    Reports(clock).died("default", "a\nb", "name\x1b[2J" + "x" * 5000, 1, 5)
    (line,) = caplog.records
    text = line.getMessage()
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) < 500


def test_a_handler_that_fails_keeps_nothing_from_going_on(clock: _Clock) -> None:
    class _Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> Any:
            raise SystemExit

    broken = _Broken()
    logging.getLogger("taskfleet.worker").addHandler(broken)
    try:
        Reports(clock).died("default", "id", "name", 1, 5)
    finally:
        logging.getLogger("taskfleet.worker").removeHandler(broken)
