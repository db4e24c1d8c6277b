"""A producer knows each task before Redis can."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskfleet import ids
from tests.chaos import ledger
from tests.chaos.ledger import Ledger
from tests.chaos.producer import NotedIds


def test_ids_are_in_the_ledger_when_they_are_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = NotedIds(Ledger(tmp_path, "producer-p0"))
    monkeypatch.setattr(ids, "_count", noted)
    tasks = [(7, "nap", "default"), (8, "nap", "low"), (9, "slow", "default")]
    given = noted.expect(tasks)
    made = [ids.new_id(), *ids.new_ids(2)]
    assert given == made
    assert len(set(made)) == 3
    assert {ids.prefix_of(one) for one in made} == {ids.prefix()}
    (path,) = tmp_path.glob("producer-p0.*.ledger")
    notes = [(task_id, *task) for verb, _, task_id, *task in ledger.read(path) if verb == "sent"]
    assert notes == [(one, *task) for one, task in zip(made, tasks, strict=True)]
