"""The list of problems and the one-line verdict agree on every manifest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskfleet.errors import ConfigurationError
from taskfleet_operator.resource.manifest import accept, all_problems
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
