"""What each broken invariant means, and how it is repaired. The codes are those of `redis/lua/doctor`."""

from __future__ import annotations

from typing import Final, NamedTuple

from taskfleet import foreign
from taskfleet.doctor.finding import UNSET_TICK, Diagnosis, Severity
from taskfleet.redis.doctor.fault import Fault


class Wording(NamedTuple):
    """The words of a code. `what` may name the `{evidence}`. Not every fault of a code without `mends` can be repaired
    by the doctor.
    """

    what: str
    repair: str
    mends: bool = True
    severity: Severity = "error"


_LEFT = "its task has ended"
_DELETED = "delete the record"

CATALOGUE: Final[dict[str, Wording]] = {
    # Tasks and the structures that they are in.
    "task-lost": Wording("the task is stored and in no structure: it would never run", "make it ready"),
    "task-twice": Wording("the task is in several structures: {evidence}", "leave it where its status says"),
    "ready-twice": Wording("the task is in line twice, and would run twice", "take it out of line once"),
    "task-and-letter": Wording("the task is stored, and a dead letter too", "let it run, and drop the dead letter"),
    "lease-missing": Wording(
        "the task runs without a lease ({evidence}): if its worker dies, nobody takes it over",
        "give it a lease of 30 s, which its worker renews",
    ),
    "lease-endless": Wording("its lease ends in more than a week", "let it end in 30 s, unless its worker renews it"),
    "lease-without-task": Wording("a lease of a task that is not stored", "remove the lease"),
    "token-missing": Wording("its lease has no fencing token: its outcome cannot be recorded", "make it ready"),
    "token-without-task": Wording("a fencing token of a task that is not stored", "remove the token"),
    "token-left": Wording("the task waits, and has a fencing token as if it ran", "remove the token"),
    "history-broken": Wording("its attempts cannot be read: {evidence!r}", "count them from the start"),
    "delayed-without-task": Wording("a due time of a task that is not stored", "remove the due time"),
    "delayed-never": Wording("it is due after the year 9999 ({evidence})", "make it due now"),
    "turn-without-task": Wording("a turn of a task that is not stored", "remove the turn"),
    "turns-left": Wording("turns of fair keys are kept without a task that takes turns", "delete the turns"),
    # Limit keys.
    "parked-without-task": Wording("a place at a limit key of a task that is not stored", "remove the place"),
    "parked-unknown": Wording("it waits for a limit key that its record does not name", "make it ready"),
    "parked-forever": Wording("tasks wait for limit key {evidence!r}, of which none runs", "let the key try again"),
    "slots-count": Wording("running tasks of this limit key: {evidence}", "set the number of those that run"),
    # Workflows.
    "blocked-without-task": Wording("a place among the blocked of a task that is not stored", "remove the place"),
    "blocked-unlisted": Wording("it waits for tasks, and is not among the blocked", "put it among the blocked"),
    "gather-missing": Wording("it is blocked, and nothing says what it waits for", "make it ready"),
    "gather-left": Wording("a result for a task that does not wait for it", "delete the result"),
    "gather-count": Wording("tasks that it waits for: {evidence}", "count them again"),
    "waits-for-nothing": Wording(
        "it waits for tasks of which none is left ({evidence})",
        "take those that pass on no result as succeeded; cancel a task that needs one: taskfleet task cancel",
    ),
    "edges-left": Wording(f"a list of waiting tasks; {_LEFT}", _DELETED),
    "input-left": Wording(f"results that were passed on; {_LEFT}", _DELETED),
    # Unique keys.
    "unique-dead": Wording(
        "a unique key is held by task {evidence}, which is not stored or has another key", "free it"
    ),
    "follower-dead": Wording("task {evidence} follows on a unique key, and is not stored or has another", "remove it"),
    "unique-lost": Wording("it does not hold its unique key {evidence!r}: a second one could run", "give it the key"),
    # Other records of tasks.
    "tag-left": Wording(f"keys of a task; {_LEFT}", _DELETED),
    "tag-broken": Wording(
        "its keys, and the tasks that wait for it, cannot be read ({evidence!r})", "let it run without them"
    ),
    "meta-left": Wording(f"attempts of a task; {_LEFT}", _DELETED),
    "progress-left": Wording(f"progress of a task; {_LEFT}", _DELETED),
    "errors-left": Wording(f"errors of a task; {_LEFT}", _DELETED),
    "cancel-left": Wording("a mark of a cancellation, of a task that does not run", "delete the mark"),
    "await-left": Wording(f"callers wait for the end of a task; {_LEFT}", _DELETED),
    # Dead letters.
    "letter-unlisted": Wording("a dead letter that is not listed: it is never shown, requeued or trimmed", "list it"),
    "letter-missing": Wording("a dead letter is listed, and is not stored", "remove it from the list"),
    "letter-broken": Wording(
        "a dead letter cannot be read", "remove it with all others of the queue: taskfleet dead purge", mends=False
    ),
    # Schedules.
    "tick-without-schedule": Wording("a tick of a schedule that is not stored", "remove the tick"),
    "tick-broken": Wording("the time of its next tick is none ({evidence})", "compute the next tick"),
    UNSET_TICK: Wording("the schedule has no next tick, and should have one", "compute the next tick"),
    "ticked-left": Wording("figures of a schedule that is not stored", _DELETED),
    "schedule-broken": Wording(
        "the schedule cannot be read: {evidence}", "add it again: taskfleet schedules add", mends=False
    ),
    # Whole queues.
    "line-moves": Wording(
        "tasks come too fast for a look through its ready list: one that is lost or in line twice would not be found",
        "run it again when fewer tasks come",
        mends=False,
        severity="warning",
    ),
    "removed-count": Wording("cancelled tasks that are still in line: {evidence}", "set the number of those there"),
    "counter-broken": Wording("the counter is no number: {evidence!r}", "let it start anew"),
    "key-expires": Wording("the key ends with all that is in it", "keep it"),
    "key-stays": Wording("the key has no time to live, and nobody would remove it ({evidence})", "keep it for a day"),
    "key-foreign": Wording("{evidence}", "move the other program's key away", mends=False),
    "history-foreign": Wording(
        "the history of a queue is {evidence} of another program: figures over time are not recorded",
        "move the other program's key away",
        mends=False,
    ),
    "queue-unlisted": Wording("the queue has keys, and is not in the list of queues", "list it"),
    "queue-name-invalid": Wording("the list of queues has a name that no queue can have", "remove the name"),
}


def finding_of(fault: Fault) -> Diagnosis:
    """The finding about a broken invariant."""
    entry = CATALOGUE[fault.code]
    return Diagnosis(
        code=fault.code,
        severity=entry.severity,
        queue=fault.partition,
        subject=_subject(fault),
        what=entry.what.format(evidence=fault.evidence),
        repair=entry.repair,
        fault=fault if entry.mends else None,
    )


def _subject(fault: Fault) -> str:
    member = fault.member
    if fault.part == "parked":
        member = member.split(b"\0")[-1]  # limit key, number, id
    return foreign.text(member.rstrip(b"\0"))
