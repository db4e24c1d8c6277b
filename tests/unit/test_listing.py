"""The printer of listings: what fits, what is cut, and JSON that every program reads."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from taskfleet.cli import listing, origins, similar, traces
from taskfleet.cli.listing import Column

COLUMNS: list[Column[dict[str, Any]]] = [
    Column("id", lambda item: item["id"]),
    Column("task", lambda item: item["task"], cut=True),
    Column("age", lambda item: item["age"], right=True),
    Column("error", lambda item: item["error"], cut=True),
]


def item(**changes: Any) -> dict[str, Any]:
    return {"id": "a" * 17, "task": "send_email", "age": "4s", "error": "ValueError"} | changes


def printed(capsys: pytest.CaptureFixture[str], *items: dict[str, Any]) -> list[str]:
    listing.show(items, COLUMNS, dict, as_json=False, none="none")
    return capsys.readouterr().out.splitlines()


def test_columns_are_aligned_and_no_line_ends_with_space(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, item(), item(id="b", age="12d4h", error="")) == [
        "id                 task          age  error",
        "aaaaaaaaaaaaaaaaa  send_email     4s  ValueError",
        "b                  send_email  12d4h",
    ]


@pytest.mark.parametrize("columns", [50, 80, 240])
def test_a_table_is_as_wide_as_its_screen_and_says_what_it_cuts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = printed(capsys, item(task="t" * 100, error="e" * 100), item())
    assert max(map(len, lines)) <= columns
    assert lines[1].count("…") == (0 if columns == 240 else 2)
    assert lines[2].startswith("a" * 17)


def test_ids_are_whole_on_the_narrowest_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    assert printed(capsys, item(id="i" * 60))[1].startswith("i" * 60)


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, item(task="画像"), item(task="e\u0301"))
    assert [listing.width(line) for line in lines[1:]] == [listing.width(lines[1])] * 2


def test_text_of_others_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, item(error="\x1b[2J\nforged"))
    assert len(lines) == 2
    assert lines[1].endswith("\\x1b[2J\\nforged")


def test_json_holds_what_json_can(capsys: pytest.CaptureFixture[str]) -> None:
    when = dt.datetime(2026, 11, 26, 9, 5, tzinfo=dt.UTC)
    listing.show([item(at=when, ratio=float("nan"), raw=b"ab", odd=object)], COLUMNS, dict, as_json=True, none="")
    (found,) = json.loads(capsys.readouterr().out)["items"]
    assert (found["at"], found["ratio"], found["raw"]) == ("2026-11-26T09:05:00Z", "nan", "YWI=")


def test_an_empty_table_is_a_note_beside_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    listing.show([], COLUMNS, dict, as_json=False, none="nothing here")
    assert capsys.readouterr() == ("", "nothing here\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (9.94, "9.9s"), (42, "42s"), (310, "5m10s"), (12_000, "3h20m"), (1_051_200, "12d4h"), (None, "-")],
)
def test_ages_are_short(seconds: float | None, text: str) -> None:
    assert listing.age(seconds) == text


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("defualt", ["default", "mail"], "no queue 'defualt'; known: default, mail (did you mean 'default'?)"),
        ("xyz", ["default"], "no queue 'xyz'; known: default"),
        ("xyz", [], "no queue 'xyz'; there is none"),
        ("defa", ["default-of-a-long-name"], "no queue 'defa'; known: default-of-a-long-name (did you mean"),
    ],
)
def test_a_name_that_is_not_there_names_a_similar_one(name: str, known: list[str], text: str) -> None:
    assert str(similar.unknown("no queue", name, known)).startswith(text)


def test_of_many_names_some_are_listed() -> None:
    assert str(similar.unknown("no queue", "x", [f"queue-{n:02}" for n in range(100)])).endswith("queue-09 and 90 more")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("redis://:s3cret@h/0", "redis://:***@h/0"),
        ("rediss://user:s%3Acret@h:1/0?x=1", "rediss://user:***@h:1/0?x=1"),
        (
            "redis+sentinel://u:p1@a:1,b:2/m?sentinel_password=p2&db=1",
            "redis+sentinel://u:***@a:1,b:2/m?sentinel_password=***&db=1",
        ),
        ("redis://h/0", "redis://h/0"),
        (("a:1", "redis://:x@b"), ["a:1", "redis://:***@b"]),
    ],
)
def test_passwords_of_urls_are_masked(value: Any, shown: Any) -> None:
    assert origins.masked(value) == shown


def test_a_traceback_of_our_frames_alone_stays_whole() -> None:
    ours = 'Traceback (most recent call last):\n  File "/x/taskfleet/runtime/a.py", line 1, in run\n    f()\nError: x'
    assert traces.shown_trace(ours) == ours
    theirs = ours.replace("Error: x", '  File "/app/shop.py", line 2, in f\n    1 / 0\nZeroDivisionError: x')
    assert traces.shown_trace(theirs).splitlines() == [
        "Traceback (most recent call last):",
        '  File "/app/shop.py", line 2, in f',
        "    1 / 0",
        "ZeroDivisionError: x",
    ]
