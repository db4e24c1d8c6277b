"""The check after a smaller number: the pods that went are the drained ones."""

from __future__ import annotations

from taskfleet_operator.autoscaler import WorkerSample
from taskfleet_operator.control.pods.departures import Departures, WrongDeparture


def departures(*, busy: str) -> Departures:
    made = Departures()
    made.seen(WorkerSample(name, registered=name != "z", busy=name in busy) for name in "abcz")
    return made


def test_the_drained_pods_go() -> None:
    made = departures(busy="a")
    made.expect(["b", "c"], "abcz", 0.0)
    assert made.wrong("abcz", 1.0) == []
    assert made.wrong("acz", 2.0) == []
    assert made.wrong("az", 3.0) == []
    assert made.wrong("z", 4.0) == [], "what goes later has another cause"


def test_a_busy_pod_that_went_in_place_of_a_drained_one_is_told_once() -> None:
    made = departures(busy="a")
    made.expect(["b"], "abcz", 0.0)
    assert made.wrong("bcz", 1.0) == [WrongDeparture("a", 1)]
    assert made.wrong("bcz", 2.0) == []
    assert str(WrongDeparture("a", 1)) == "a was removed, with 1 task running, although it was not drained"


def test_a_pod_that_never_started_may_go_in_place_of_another() -> None:
    made = departures(busy="")
    made.expect(["b"], "abcz", 0.0)
    assert made.wrong("abc", 1.0) == []


def test_two_removals_close_together_are_one() -> None:
    made = departures(busy="")
    made.expect(["a"], "abcz", 0.0)
    made.seen(WorkerSample(name, registered=True) for name in "abc")
    made.expect(["b"], "abcz", 0.5)
    assert made.wrong("bcz", 1.0) == []
    assert made.wrong("cz", 1.5) == []


def test_a_number_that_grows_again_ends_the_check() -> None:
    made = departures(busy="a")
    made.expect(["b"], "abcz", 0.0)
    made.expect([], "abcz", 0.5)
    assert made.wrong("bcz", 1.0) == []


def test_a_pod_that_went_before_the_number_changed_took_nobodys_place() -> None:
    made = departures(busy="a")
    made.expect(["b"], "bcz", 0.0)
    assert made.wrong("bcz", 1.0) == [], "a went by itself; b is about to go"
    assert made.wrong("cz", 2.0) == []
