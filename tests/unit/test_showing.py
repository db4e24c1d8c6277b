"""Foreign text is escaped and bounded wherever it is shown, in the log under any handler too."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet import foreign, logs, showing
from taskfleet.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


@given(st.text(st.characters(codec=None), max_size=50), st.integers(1, 60))
def test_it_is_one_line_of_bounded_length(text: str, limit: int) -> None:
    shown = showing.shown(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit + 40
    if text.isprintable() and len(text) <= limit:
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("orders", "orders"),
        ("größe 漢字", "größe 漢字"),
        ("a\nb\r\t", "a\\nb\\r\\t"),
        ("\x1b[31mred\x9b0m\x7f", "\\x1b[31mred\\x9b0m\\x7f"),
        ("\u202eabc\u2066\u200b", "\\u202eabc\\u2066\\u200b"),
        ("\udcff", "\\udcff"),
        ("\u2028\ufeff", "\\u2028\\ufeff"),
        ("x" * 300_000, "x" * 300 + "... (300000 characters)"),
    ],
)
def test_nothing_moves_the_cursor(text: str, shown: str) -> None:
    assert showing.shown(text) == shown


def test_a_traceback_keeps_its_lines_and_its_end() -> None:
    assert showing.lines("a\n\tb\x1b") == "a\n    b\\x1b"
    long = showing.lines("x\n" * 1000 + "the cause", 100)
    assert long.startswith("... (2009 characters)")
    assert long.endswith("the cause")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_arguments_of_a_log_record_are_clean_for_every_handler() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    logger = showing.logger("taskfleet.test_showing")
    assert showing.logger("taskfleet.test_showing").filters == logger.filters  # once
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.warning("task %s (%r) %d %s", "a\nb" + "x" * 300_000, "\x1b", 3, Mute())
        logger.warning("as a %(what)s", {"what": "map\n"})
        logger.warning("no arguments\x1b")
        try:
            raise ValueError("two\nlines\x1b[2J")
        except ValueError:
            logger.exception("failed")
    finally:
        logger.removeHandler(handler)
    lines = out.getvalue().split("\n")
    assert "\x1b" not in out.getvalue()
    assert lines[0].startswith("task a\\nbxxx")
    assert lines[0].endswith("3 (it has no text: its __str__ raised RuntimeError)")
    assert len(lines[0]) < 10_000
    assert lines[1:3] == ["as a map\\n", "no arguments\\x1b"]
    assert lines[3:5] == ["failed", "Traceback (most recent call last):"]
    assert "lines\\x1b[2J" in lines


def test_every_logger_of_taskfleet_cleans_its_records() -> None:
    named = re.compile(r"getLogger\([\"']taskfleet")
    found = [
        str(path.relative_to(ROOT))
        for folder in ("worker", "operator")
        for path in (ROOT / folder).rglob("*.py")
        if named.search(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "take showing.logger(name) in place of logging.getLogger(name)"


@pytest.mark.parametrize("raw", [b"nan", b"inf", b"-inf", b"1e999", b"", None, b"-1", b"\xff", [1], b"0x10", 2**60])
def test_a_figure_is_a_number_in_its_range(raw: object) -> None:
    with pytest.raises(foreign.ForeignError, match=r"busy is .*, no number from 0 to"):
        foreign.figure(raw, "busy")


@given(st.one_of(st.binary(), st.text(), st.integers(), st.floats(), st.none(), st.lists(st.binary())))
def test_decoding_raises_nothing_else(raw: object) -> None:
    assert isinstance(foreign.text(raw), str)
    for decode in (foreign.name, foreign.partition, foreign.identifier, foreign.figure, foreign.whole):
        with contextlib.suppress(foreign.ForeignError):
            decode(raw)


def test_skipped_records_are_counted_and_logged_ever_more_seldom(caplog: pytest.LogCaptureFixture) -> None:
    skipped = foreign.Skipped()
    with caplog.at_level(logging.WARNING):
        for _ in range(150):
            skipped.add("heartbeat", b"\xff\n" * 1000, "nonsense")
    assert skipped.counts["heartbeat"] == 150
    assert len(caplog.messages) == 3
    assert all(message.isprintable() for message in caplog.messages)


@pytest.mark.parametrize("level", ["debug", " Info ", "WARNING", "critical"])
def test_a_log_level_in_any_case(level: str) -> None:
    assert logs.check(level, "--log-level") == level.strip().upper()


@pytest.mark.parametrize("level", ["loud", "10", "WARN\n", "\x1b"])
def test_a_bad_log_level_names_those_that_there_are(level: str) -> None:
    with pytest.raises(ConfigurationError, match="is none of DEBUG, INFO, WARNING, ERROR, CRITICAL"):
        logs.check(level, "TASKFLEET_LOG_LEVEL")
