"""The rules of the kinds of tasks: keys that exclude each other, workflows in order."""

from __future__ import annotations

import pytest

from tests.chaos.keyed_kinds import Limited, Unique
from tests.chaos.kinds import Bounded, Delayed, Failing, Retried
from tests.chaos.stories import EndRecord, Run, Story
from tests.chaos.workflow_kinds import ChainKind, ChordKind
from tests.chaos.workload import KIND_OF_PART, KINDS, choose


def ran(n: int, kind: str, began: float, ended: float, *, delivery: int = 1) -> Story:
    run = Run("worker-w1.7", 1, delivery, began, ended, "ok")
    outcome = EndRecord("succeeded", [n, 1, delivery])
    return Story(f"{kind}{n}", n, kind, "default", began, "accepted", [run], outcome=outcome)


def ended_as(state: str, n: int, kind: str) -> Story:
    return Story(f"{kind}{n}", n, kind, "default", 1.0, "accepted", outcome=EndRecord(state))


def test_tasks_of_one_unique_key_that_ran_side_by_side_are_a_defect() -> None:
    assert not list(Unique().judge_together([ran(11, "unique", 1.0, 2.0), ran(22, "unique", 2.1, 3.0)]))
    (defect,) = Unique().judge_together([ran(11, "unique", 1.0, 2.0), ran(22, "unique", 1.9, 3.0)])
    assert "ran side by side" in defect


def test_an_execution_that_was_taken_over_holds_no_key() -> None:
    first, second = ran(11, "unique", 1.0, 2.0), ran(22, "unique", 1.5, 3.0)
    first.executions.append(Run("worker-w2.8", 1, 2, 5.0, 6.0, "ok"))
    assert not list(Unique().judge_together([first, second]))


def test_more_of_a_limit_key_at_once_than_allowed_are_a_defect() -> None:
    two = [ran(5, "limited", 1.0, 2.0), ran(10, "limited", 1.5, 2.5), ran(15, "limited", 2.0, 3.0)]
    assert not list(Limited().judge_together(two))
    (defect,) = Limited().judge_together([*two, ran(20, "limited", 2.2, 2.3)])
    assert "3 tasks of the limit key" in defect


def test_a_task_that_ran_before_what_it_waits_for_was_done_is_a_defect() -> None:
    chain = [ran(1, "chain.0", 1.0, 2.0), ran(1, "chain.1", 2.1, 3.0), ran(1, "chain.2", 3.1, 4.0)]
    assert not list(ChainKind().judge_together(chain))
    chain[2].executions[0].began = 2.9
    (defect,) = ChainKind().judge_together(chain)
    assert "chain.2 began" in defect
    chord = [ran(1, "chord.0", 1.0, 2.0), ran(1, "chord.1", 1.0, 2.5), ran(1, "chord.2", 2.2, 4.0)]
    (defect,) = ChordKind().judge_together(chord)
    assert "chord.1 was done" in defect


@pytest.mark.parametrize("last", ["succeeded", "failed"])
def test_behind_a_member_that_failed_all_must_be_cancelled(last: str) -> None:
    chain = [ended_as(state, 10, f"chain.{i}") for i, state in enumerate(("failed", "cancelled", "cancelled"))]
    assert not list(ChainKind().judge_together(chain))
    chain[2].outcome.state = last
    (defect,) = ChainKind().judge_together(chain)
    assert f"ended as {last}, not cancelled" in defect


def test_half_a_chain_is_a_defect() -> None:
    chain = [ended_as("cancelled", 10, "chain.0"), ended_as("gone", 10, "chain.1"), ended_as("gone", 10, "chain.2")]
    for story in chain:
        story.answer = "unknown"
    (defect,) = ChainKind().judge_together(chain)
    assert "only 1 of 3 tasks arrived" in defect


def test_an_early_start_a_wrong_attempt_and_a_wrong_end_are_defects() -> None:
    delay = Delayed().delay(3)
    assert not list(Delayed().judge(ran(3, "delayed", 1.0, 1.1) if not delay else _sent_before(3, delay)))
    early = _sent_before(3, delay)
    early.executions[0].began -= 0.5
    assert any("early" in line for line in Delayed().judge(early))
    assert any("attempt 1" in line for line in Retried().judge(ran(1, "retried", 1.0, 2.0)))
    assert any("not as succeeded" in line for line in Failing().judge(ran(1, "failing", 1.0, 2.0)))
    kept = ran(1, "bounded", 1.0, 2.0)
    kept.outcome = EndRecord("gone")
    assert any("to be kept" in line for line in Bounded().judge(kept))


def _sent_before(n: int, delay: float) -> Story:
    story = ran(n, "delayed", 10.0 + delay, 11.0 + delay)
    story.sent = 10.0
    return story


def test_every_kind_is_drawn_and_the_same_number_is_always_of_the_same_kind() -> None:
    drawn = {choose(n, 1)[0].name for n in range(50_000)}
    assert drawn == set(KINDS)
    assert [choose(n, 1)[0].name for n in range(100)] == [choose(n, 1)[0].name for n in range(100)]
    assert {part for kind in KINDS.values() for part in kind.parts} == set(KIND_OF_PART)
