from __future__ import annotations

from bench.scenarios.crash import Crash, read_trace

DEAD, NEXT = 11, 22


def trace(*lines: tuple[str, int, int, int]) -> str:
    return "".join(f"{what} {index} {pid} {moment}\n" for what, index, pid, moment in lines)


# 0 ended and was recorded; 1 ended and was not; 2 had begun; 3 was prefetched; 4 waited.
RUN = [
    ("b", 0, DEAD, 1), ("e", 0, DEAD, 2), ("b", 1, DEAD, 3), ("e", 1, DEAD, 4), ("b", 2, DEAD, 5),
    ("b", 4, NEXT, 10), ("e", 4, NEXT, 11),
    ("b", 1, NEXT, 30), ("e", 1, NEXT, 31), ("b", 2, NEXT, 32), ("e", 2, NEXT, 33),
    ("b", 3, NEXT, 34), ("e", 3, NEXT, 35),
]  # fmt: skip


def test_what_the_dead_worker_held_is_what_another_ran_of_what_it_had_claimed() -> None:
    crash = read_trace(trace(*RUN), 5, claimed=4, dead=DEAD)
    assert crash == Crash(held=3, lost=0, duplicates=2, strays=0, recovered_us=34.0)


def test_a_task_that_never_ended_is_lost() -> None:
    crash = read_trace(trace(*RUN[:-1]), 5, claimed=4, dead=DEAD)
    assert crash.lost == 1


def test_a_task_that_ran_twice_though_the_dead_worker_did_not_hold_it_is_a_stray() -> None:
    crash = read_trace(trace(*RUN, ("b", 4, NEXT, 40), ("e", 4, NEXT, 41)), 5, claimed=4, dead=DEAD)
    assert (crash.duplicates, crash.strays) == (3, 1)
