"""The judgement finds every defect: synthetic ledgers, each with one thing wrong."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.chaos.reconcile import Judgement, Rules, judge
from tests.chaos.stories import (
    BUSY,
    DRAINED,
    STARVED,
    Answer,
    Death,
    Ending,
    EndRecord,
    Run,
    Story,
    Surroundings,
    Window,
    starved_seconds,
)

LEASE = 3.0
QUIET = Surroundings(lease=LEASE)


def run(
    delivery: int = 1, *, attempt: int = 1, began: float = 10.0, seconds: float | None = 0.1, how: Ending | None = "ok",
    process: str = "worker-w1.7",
) -> Run:  # fmt: skip
    ended = None if seconds is None else began + seconds
    return Run(process, attempt, delivery, began, ended, how if ended is not None else None)


def story(
    *executions: Run,
    outcome: EndRecord | None = None,
    answer: Answer = "accepted",
    cancels: Iterable[float] = (),
) -> Story:
    last = max(executions, key=lambda e: e.delivery, default=None)
    default = EndRecord("succeeded", [1, last.attempt, last.delivery]) if last else EndRecord("gone")
    return Story("id", 1, "kind", "default", 9.9, answer, list(executions), list(cancels), outcome=outcome or default)


def verdict_on(one: Story, around: Surroundings = QUIET) -> Judgement:
    return judge([one], around, {"kind": Rules("kind", lambda _: ())})


def defect(one: Story, around: Surroundings = QUIET) -> str:
    verdict = verdict_on(one, around)
    assert not verdict.lost
    assert len(verdict.defects) == 1, verdict.defects
    return verdict.defects[0]


def test_a_task_that_ran_once_and_succeeded_is_good() -> None:
    verdict = verdict_on(story(run()))
    assert verdict.good
    assert (verdict.accepted, verdict.executions, verdict.duplicates) == (1, 1, 0)


@pytest.mark.parametrize("state", ["gone", "stuck"])
def test_an_accepted_task_without_an_outcome_is_lost(state: str) -> None:
    verdict = verdict_on(story(outcome=EndRecord(state)))
    assert len(verdict.lost) == 1
    assert not verdict.good


def test_a_task_that_began_and_left_no_trace_is_lost() -> None:
    assert len(verdict_on(story(run(seconds=None), outcome=EndRecord("gone"))).lost) == 1


def test_without_a_result_to_keep_the_ledger_tells_that_it_was_done() -> None:
    assert verdict_on(story(run(), outcome=EndRecord("gone"))).good


def test_an_unknown_task_may_have_arrived_or_not() -> None:
    assert verdict_on(story(answer="unknown")).good
    assert verdict_on(story(run(), answer="unknown")).unknown_ran == 1


def test_an_unknown_task_that_arrived_must_end_like_any_other() -> None:
    assert len(verdict_on(story(answer="unknown", outcome=EndRecord("stuck"))).lost) == 1


def test_a_refused_task_must_not_run() -> None:
    assert "refused" in defect(story(run(), answer="refused"))


def test_one_delivery_that_ran_twice_is_a_defect() -> None:
    assert "delivery 1 ran twice" in defect(story(run(), run(began=10.5)))


def test_a_repetition_that_nothing_explains_is_a_defect() -> None:
    verdict = verdict_on(story(run(1), run(2, began=14.0)))
    assert "nothing explains it" in verdict.defects[0]
    assert (verdict.duplicates, verdict.explanations["unexplained"]) == (1, 1)


def test_the_death_of_its_worker_explains_a_repetition() -> None:
    around = Surroundings(lease=LEASE, died={"worker-w1.7": Death(10.5, 10.5, "was killed")})
    verdict = verdict_on(story(run(1, seconds=None), run(2, began=14.0, process="worker-w2.8")), around)
    assert verdict.good
    assert verdict.explanations == {"its worker was killed": 1}


def test_the_death_of_another_worker_explains_nothing() -> None:
    around = Surroundings(lease=LEASE, died={"worker-w2.8": Death(10.5, 10.5, "was killed")})
    assert "nothing explains" in defect(story(run(1), run(2, began=14.0)), around)


def test_a_death_before_the_execution_or_after_its_repetition_explains_nothing() -> None:
    for at in (9.0, 15.0):
        around = Surroundings(lease=LEASE, died={"worker-w1.7": Death(at, at, "was killed")})
        assert "nothing explains" in defect(story(run(1), run(2, began=14.0)), around)


def test_a_death_that_is_seen_late_happened_at_any_time_since_the_process_was_seen_alive() -> None:
    late = Surroundings(lease=LEASE, died={"worker-w1.7": Death(10.5, 18.0, "was killed")})
    twice = story(run(1, seconds=None), run(2, began=14.0, process="worker-w2.8"))
    verdict = verdict_on(twice, late)
    assert verdict.good
    assert verdict.longest_overlap == 0.0  # nor did its handler go on until then
    for alive, gone in ((14.5, 18.0), (5.0, 9.5)):
        around = Surroundings(lease=LEASE, died={"worker-w1.7": Death(alive, gone, "was killed")})
        assert any("nothing explains" in defect for defect in verdict_on(twice, around).defects)


def test_a_worker_that_has_drained_has_recorded_what_it_did() -> None:
    around = Surroundings(lease=LEASE, died={"worker-w1.7": Death(10.5, 10.5, DRAINED)})
    assert "nothing explains" in defect(story(run(1), run(2, began=14.0)), around)


def test_a_long_time_out_of_reach_explains_a_repetition_and_a_moment_does_not() -> None:
    twice = story(run(1), run(2, began=14.0, process="worker-w2.8"))
    long = Surroundings(lease=LEASE, windows=[Window("w1", 10.0, 13.5, "stall")])
    assert verdict_on(twice, long).explanations == {"its worker was out of reach": 1}
    moment = Surroundings(lease=LEASE, windows=[Window("w1", 10.0, 10.3, "cut")])
    assert "nothing explains" in defect(twice, moment)
    elsewhere = Surroundings(lease=LEASE, windows=[Window("w2", 10.0, 13.5, "stall")])
    assert "nothing explains" in defect(twice, elsewhere)
    everywhere = Surroundings(lease=LEASE, windows=[Window("*", 10.0, 13.5, "redis_stop")])
    assert verdict_on(twice, everywhere).good
    another_day = Surroundings(lease=LEASE, windows=[Window("w1", 1.0, 4.0, "stall")])
    assert "nothing explains" in defect(twice, another_day)


def test_trouble_after_the_repetition_or_long_before_the_execution_explains_nothing() -> None:
    twice = story(run(1), run(2, began=14.0, process="worker-w2.8"))
    for start, end in ((13.5, 17.5), (14.0, 17.5), (5.0, 8.4)):
        around = Surroundings(lease=LEASE, windows=[Window("w1", start, end, "stall")])
        assert "nothing explains" in defect(twice, around)
    # The reply to a claim came with the end of the trouble, when the lease was over.
    late = Surroundings(lease=LEASE, windows=[Window("w1", 6.9, 9.9, "stall")])
    assert verdict_on(twice, late).good


def test_short_times_out_of_reach_with_no_room_for_a_renewal_between_them_are_one() -> None:
    twice = story(run(1), run(2, began=14.0))
    windows = [Window("w1", 10.0 + 0.8 * i, 10.3 + 0.8 * i, "cut") for i in range(4)]
    assert verdict_on(twice, Surroundings(lease=LEASE, windows=windows)).good


@pytest.mark.parametrize("what", sorted(BUSY))
def test_short_pauses_of_a_busy_machine_let_a_worker_renew_between_them(what: str) -> None:
    twice = story(run(1), run(2, began=16.0))
    scattered = [Window("w1", 10.0 + 1.9 * i, 10.6 + 1.9 * i, what) for i in range(3)]
    assert "nothing explains" in defect(twice, Surroundings(lease=LEASE, windows=scattered))
    dense = [Window("w1", 10.0 + 0.7 * i, 10.6 + 0.7 * i, what) for i in range(3)]
    assert verdict_on(twice, Surroundings(lease=LEASE, windows=dense)).good
    # A connection that broke meanwhile takes longer to renew.
    broken = [*scattered, *(Window("w1", 10.6 + 1.9 * i, 10.9 + 1.9 * i, "cut") for i in range(3))]
    assert verdict_on(twice, Surroundings(lease=LEASE, windows=broken)).good


def test_pauses_that_are_farther_apart_than_they_last_are_not_one() -> None:
    twice = story(run(1), run(2, began=16.0))
    short = [Window("w1", 10.0 + 0.7 * i, 10.3 + 0.7 * i, STARVED) for i in range(6)]
    assert "nothing explains" in defect(twice, Surroundings(lease=LEASE, windows=short))


def test_a_process_that_works_all_the_time_is_not_starved() -> None:
    assert starved_seconds(2.0, 0.1) == pytest.approx(1.9)
    assert starved_seconds(2.0, 2.0) == 0


def test_a_draining_worker_hands_back_what_it_has_cut_short() -> None:
    twice = story(run(1, how="cut", seconds=1.0), run(2, began=11.1))
    around = Surroundings(lease=LEASE, draining={"worker-w1.7": 10.5})
    assert verdict_on(twice, around).explanations == {"handed back by a draining worker": 1}
    assert "nothing explains" in defect(twice)


def test_a_retry_that_was_asked_for_is_no_duplicate() -> None:
    verdict = verdict_on(story(run(1, how="raised"), run(2, attempt=2, began=10.5)))
    assert verdict.good
    assert (verdict.retries, verdict.duplicates) == (1, 0)


def test_a_retry_of_what_was_done_is_a_defect() -> None:
    assert "was done" in defect(story(run(1), run(2, attempt=2, began=10.5)))


def test_a_worker_that_dies_must_not_use_up_an_attempt() -> None:
    around = Surroundings(lease=LEASE, died={"worker-w1.7": Death(10.5, 10.5, "was killed")})
    assert "must not use up" in defect(story(run(1, seconds=None), run(2, attempt=2, began=14.0)), around)


def test_a_stale_token_that_counted_is_a_defect() -> None:
    around = Surroundings(lease=LEASE, windows=[Window("w1", 10.0, 13.5, "stop")])
    stale = story(run(1), run(2, began=14.0), outcome=EndRecord("succeeded", [1, 1, 1]))
    assert "stale token" in defect(stale, around)


def test_a_success_that_never_ran_is_a_defect() -> None:
    assert any(
        "does not know as done" in d for d in verdict_on(story(outcome=EndRecord("succeeded", [1, 1, 1]))).defects
    )


def test_the_result_of_another_task_is_a_defect() -> None:
    assert "task 2" in defect(story(run(), outcome=EndRecord("succeeded", [2, 1, 1])))


def test_a_cancellation_that_nobody_asked_for_is_a_defect() -> None:
    assert "nobody asked" in defect(story(outcome=EndRecord("cancelled")))
    assert verdict_on(story(outcome=EndRecord("cancelled"), cancels=[10.0])).good


def test_a_task_that_was_done_and_expired_is_a_defect_unless_its_worker_could_not_say_so() -> None:
    assert "expired although" in defect(story(run(), outcome=EndRecord("expired")))
    around = Surroundings(lease=LEASE, windows=[Window("w1", 10.0, 13.5, "stop")])
    assert verdict_on(story(run(), outcome=EndRecord("expired")), around).good


def test_several_outcomes_are_a_defect() -> None:
    assert "several outcomes" in defect(story(run(), outcome=EndRecord("several", ["succeeded", "dead"])))


def test_a_dead_letter_that_is_older_than_the_last_execution_is_a_defect() -> None:
    letter = EndRecord("failed", attempts=1, deliveries=1, letter=True)
    around = Surroundings(lease=LEASE, windows=[Window("w1", 10.0, 13.5, "stop")])
    twice = story(run(1, how="raised"), run(2, began=14.0, how="raised"), outcome=letter)
    assert any("the last that ran is 2" in line for line in verdict_on(twice, around).defects)


def test_a_timeout_may_come_before_the_first_step_of_the_handler_and_no_other_failure() -> None:
    for reason, deliveries, good in (("timeout", 1, True), ("timeout", 0, False), ("retries", 2, False)):
        letter = EndRecord("failed", reason=reason, attempts=1, deliveries=deliveries, letter=True)
        runs = [] if good else [run(1, how="raised")]
        assert verdict_on(story(*runs, outcome=letter)).good is good, reason


def test_handlers_side_by_side_are_allowed_until_the_older_can_have_noticed() -> None:
    stopped = Surroundings(lease=LEASE, windows=[Window("w1", 10.1, 15.0, "stop")])
    noticed = story(run(1, seconds=5.5, how="cut"), run(2, began=13.5, process="worker-w2.8"))
    verdict = verdict_on(noticed, stopped)
    assert verdict.good
    assert (verdict.overlaps, verdict.longest_overlap) == (1, 2.0)
    deaf = story(run(1, seconds=12.0), run(2, began=13.5, process="worker-w2.8"))
    assert "went on for" in defect(deaf, stopped)


def test_a_result_that_was_awaited_in_vain_or_differs_is_a_defect() -> None:
    one = story(run())
    one.waits.append(("timeout", None))
    assert "in vain" in defect(one)
    other = story(run())
    other.waits.append(("value", [1, 1, 7]))
    assert "awaited, its result was" in defect(other)


def test_the_rules_of_its_kind_are_asked_too() -> None:
    verdict = judge([story(run())], QUIET, {"kind": Rules("kind", lambda _: ["it ran early"])})
    assert "it ran early" in verdict.defects[0]
