"""The list of problems and the one-line verdict agree on every manifest."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskfleet.errors import ConfigurationError
from taskfleet_operator.resource.manifest import accept, all_problems
from taskfleet_operator.resource.validation import validate
from tests.support.manifests import CASES, GOOD, changed
from tests.support.mutations import all_mutations

MANIFESTS: dict[str, Any] = {
    **dict(all_mutations()),
    **{f"{case.name}: bad": changed(case.bad) for case in CASES},
    **{f"{case.name}: good": changed(case.good) for case in CASES},
}


def first_problem(manifest: Any) -> str:
    try:
        accept(manifest, "it")
    except ConfigurationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", MANIFESTS)
def test_both_refuse_the_same(name: str) -> None:
    manifest = json.loads(json.dumps(MANIFESTS[name]))
    first, listed = first_problem(manifest), all_problems(manifest)
    assert bool(listed) == bool(first), (listed, first)
    assert len(set(listed)) == len(listed)
    if listed:
        path, message = listed[0]
        first = first.replace(
            "it: metadata.name must", "it: metadata.name: must"
        )  # its rules name the field themselves
        assert first.startswith(f"it: {path}: {message}" if path else f"it: {message}"), (listed, first)


def test_a_good_manifest_has_none() -> None:
    assert all_problems(GOOD) == []


def test_each_schedule_is_judged() -> None:
    schedule = {"queue": "default", "task": "report"}
    one, two, three = "0 3 * * *", "0 3 31 2 *", "0 25 * * *"
    manifest = changed({
        "spec.schedules": [
            {"name": f"s{n}", "schedule": each, **schedule} for n, each in enumerate((one, two, three))
        ]
    })  # fmt: skip
    assert [path for path, _ in all_problems(manifest)] == ["spec.schedules[1].schedule", "spec.schedules[2].schedule"]


ODD: list[Any] = [None, 3, -1, 1.5, float("nan"), "", "\x1b[31m", "x" * 10_000, True, [], [None], [[]], {}, {"": ""}]
ODD += [{1: 2}, {None: 1}, {True: {}}, {"name": []}, 10**400]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*path, key))


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
def test_whatever_stands_anywhere_is_judged_and_never_an_error_of_ours(odd: Any) -> None:
    whole = changed({
        "metadata.labels": {"a": "b"}, "metadata.annotations": {"a": "b"}, "metadata.finalizers": ["a/b"],
        "spec.schedules": [{"name": "s", "schedule": "@daily", "queue": "default", "task": "report"}],
    })  # fmt: skip
    for place in list(places(whole))[1:]:
        manifest = copy.deepcopy(whole)
        inner = functools.reduce(lambda value, key: value[key], place[:-1], manifest)
        inner[place[-1]] = odd
        assert bool(all_problems(manifest)) == bool(first_problem(manifest)), place


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "is not YAML: key 'a' is there twice in one map; is --- missing? at line 3, column 1"),
        ("x: {on: 1, true: 2}", "key 'True' is there twice"),
        ("x: [{1: a, '1': b}]", "key '1' is there twice"),
        ("x:\n\ty: 1", "is not YAML: while scanning for the next token found character"),
        ("kind: TaskQueue", "apiVersion: is required: taskfleet.io/v1alpha1"),
        ("apiVersion: taskfleet.io/v1alpha1", "kind: is required: TaskQueue"),
    ],
)
def test_mistakes_of_the_text_are_told(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "it.yaml"
    file.write_text(text)
    (verdict,) = validate([file])
    (line,) = verdict.lines()
    assert problem in line
    assert "unicode string" not in line


def test_a_merged_key_may_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / "it.yaml"
    file.write_text("base: &base {a: 1}\nother: {<<: *base, a: 2}\nthird: {<<: [*base], b: 1}\n")
    (verdict,) = validate([file])
    assert [message for _, message in verdict.problems] == ["there is no document with kind: TaskQueue in it"]
