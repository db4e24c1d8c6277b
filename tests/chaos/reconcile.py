"""The judgement: every accepted task ended once, and every execution beyond the first has an explanation.

Pure: it reads stories, not Redis.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.chaos.stories import DRAINED, Run, Story, Surroundings

ENDED_STATES = {"succeeded", "cancelled", "expired", "failed", "dead"}
HANDED_BACK = "handed back by a draining worker"
# How long a handler whose lease is gone may go on: until the next renewal, and until it has heard of it.
_NOTICE_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one kind: for a single task, and for all tasks with the same value of `together`."""

    name: str
    one: Callable[[Story], Iterable[str]]
    together: Callable[[Story], Hashable] = lambda _: None
    several: Callable[[list[Story]], Iterable[str]] = lambda _: ()


@dataclass(slots=True)
class Judgement:
    """The figures, and every defect as one line."""

    tasks: int = 0
    accepted: int = 0
    unknown: int = 0
    unknown_ran: int = 0
    refused: int = 0
    merged: int = 0
    lost: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    executions: int = 0
    retries: int = 0
    duplicates: int = 0
    explanations: Counter[str] = field(default_factory=Counter[str])
    takeovers: Counter[str] = field(default_factory=Counter[str])  # queue → duplicates that only a takeover can cause
    overlaps: int = 0
    longest_overlap: float = 0.0
    states: Counter[str] = field(default_factory=Counter[str])
    ended: Counter[str] = field(default_factory=Counter[str])  # queue → tasks that ended

    @property
    def good(self) -> bool:
        return not self.lost and not self.defects


def judge(stories: Iterable[Story], around: Surroundings, rules: Mapping[str, Rules]) -> Judgement:
    """Judge every task by the rules for all, then by those of its kind."""
    verdict = Judgement()
    groups: dict[tuple[str, Hashable], tuple[Rules, list[Story]]] = {}
    for story in stories:
        rule = rules[story.kind]
        if story.answer in ("accepted", "unknown") and (key := rule.together(story)) is not None:
            groups.setdefault((rule.name, key), (rule, []))[1].append(story)
        verdict.tasks += 1
        story.executions.sort(key=lambda execution: execution.delivery)
        verdict.executions += len(story.executions)
        if story.answer in ("refused", "merged"):
            verdict.refused += story.answer == "refused"
            verdict.merged += story.answer == "merged"
            if story.executions or story.outcome.state != "gone":
                verdict.defects.append(
                    f"{_name(story)}: {story.answer}, and yet it ran or has an outcome: {_tell(story)}"
                )
            continue
        happened = bool(story.executions) or story.outcome.state != "gone"
        if story.answer == "unknown":
            verdict.unknown += 1
            verdict.unknown_ran += happened
            if not happened:
                continue
        else:
            verdict.accepted += 1
        if not _has_ended(story):
            verdict.lost.append(f"{_name(story)}: no outcome is recorded: {_tell(story)}")
            continue
        state = _state(story)
        verdict.states[state] += 1
        verdict.ended[story.queue] += 1
        problems = [
            *_contradictions(story, around),
            *_repetitions(story, around, verdict),
            *rules[story.kind].one(story),
        ]
        verdict.defects += [f"{_name(story)}: {problem}: {_tell(story)}" for problem in problems]
    for rule, members in groups.values():
        verdict.defects += rule.several(members)
    return verdict


def _has_ended(story: Story) -> bool:
    if story.outcome.state == "gone":
        # Without a result to keep, only the ledger shows that the task was done.
        return any(execution.how == "ok" for execution in story.executions)
    return story.outcome.state in ENDED_STATES or story.outcome.state == "several"


def _state(story: Story) -> str:
    return "succeeded" if story.outcome.state == "gone" else story.outcome.state


def _contradictions(story: Story, around: Surroundings) -> Iterator[str]:
    outcome, last = story.outcome, story.last_delivery
    if outcome.state == "several":
        yield f"several outcomes are recorded: {', '.join(outcome.value)}"
    elif outcome.state == "succeeded":
        n, attempt, delivery = outcome.value
        recorded = [e for e in story.executions if e.delivery == delivery]
        if n != story.n:
            yield f"the result is that of task {n}"
        if not any(e.how == "ok" and e.attempt == attempt for e in recorded):
            yield f"recorded as done by delivery {delivery}, which the ledger does not know as done"
        if delivery != last:
            yield f"delivery {delivery} was recorded although delivery {last} had been given out: a stale token counted"
    elif outcome.state == "gone":
        if not any(e.how == "ok" and e.delivery == last for e in story.executions):
            yield f"the last delivery, {last}, was not done, and the task is gone"
    elif outcome.state == "failed":
        # A worker that stands still between a claim and the first step of the handler times the task out before it.
        timed_out = outcome.reason == "timeout"
        if outcome.deliveries < last or (outcome.deliveries > last and not timed_out):
            yield f"failed in delivery {outcome.deliveries}, the last that ran is {last}"
        if not timed_out and not any(e.attempt == outcome.attempts for e in story.executions):
            yield f"failed in attempt {outcome.attempts}, which never ran"
    elif outcome.state == "cancelled" and not (story.cancels or story.cancelled_by_others):
        yield "cancelled, and nobody asked for that"
    elif outcome.state == "expired":
        # Done, and expired: only when the worker that did it could not say so before its lease ended.
        for done in (e for e in story.executions if e.how == "ok" and e.ended is not None):
            later = Run("", done.attempt, done.delivery + 1, done.began + 10 * around.lease)
            if explanation(done, later, around) is None:
                yield f"expired although delivery {done.delivery} was done"
    if outcome.letter and outcome.deliveries < last:
        yield f"buried with {outcome.deliveries} deliveries, {last} ran"
    for how, value in story.waits:
        if how == "timeout":
            yield "its result was awaited in vain"
        elif how == "value" and (outcome.state != "succeeded" or value != outcome.value):
            yield f"awaited, its result was {value}; recorded is {outcome.state} {outcome.value}"


def _repetitions(story: Story, around: Surroundings, verdict: Judgement) -> Iterator[str]:
    runs = story.executions
    if runs and runs[0].attempt != 1:
        # A first attempt can only be passed by running it.
        yield f"its first execution is attempt {runs[0].attempt}"
    for older, newer in itertools.pairwise(runs):
        if older.delivery == newer.delivery:
            verdict.duplicates += 1
            yield f"delivery {older.delivery} ran twice"
        elif newer.attempt == older.attempt:
            verdict.duplicates += 1
            why = explanation(older, newer, around)
            verdict.explanations[why or "unexplained"] += 1
            if why != HANDED_BACK:
                verdict.takeovers[story.queue] += 1
            if why is None:
                yield f"delivery {newer.delivery} repeats attempt {newer.attempt}, and nothing explains it"
            problem = _overlap(older, newer, around, verdict)
            if problem:
                yield problem
        elif newer.attempt == older.attempt + 1:
            verdict.retries += 1
            if older.how == "ok":
                yield f"attempt {older.attempt} was done, and yet attempt {newer.attempt} ran"
            if older.how is None and older.process in around.died and newer.began > around.died[older.process].gone:
                yield f"attempt {older.attempt} died with its worker, which must not use up an attempt"
        else:
            yield f"attempt {newer.attempt} follows attempt {older.attempt}"


def explanation(older: Run, newer: Run, around: Surroundings) -> str | None:
    """Why the same attempt ran again in a later delivery; None when nothing explains it."""
    process = older.process
    asked = around.draining.get(process)
    # First, also when the worker died later: what it has handed back takes no takeover.
    if older.how == "cut" and asked is not None and older.ended is not None and asked <= older.ended:
        return HANDED_BACK
    death = around.died.get(process)
    if death is not None and death.how != DRAINED and older.began <= death.gone and death.alive <= newer.began:
        return f"its worker {death.how}"
    # A live worker renews each third of the lease. So the last renewal is at most that old when the trouble begins, and
    # the next comes about half a second after its end: only trouble that lasts for the rest of the lease costs it.
    if around.out_of_reach(process, older.began, newer.began) >= around.lease / 2:
        return "its worker was out of reach"
    return None


def _overlap(older: Run, newer: Run, around: Surroundings, verdict: Judgement) -> str | None:
    """Two handlers at once: allowed until the older one has had time to notice that its lease is gone."""
    death = around.died.get(older.process)
    end = older.ended if older.ended is not None else death.alive if death is not None else None
    if end is None or end <= newer.began:
        return None
    verdict.overlaps += 1
    verdict.longest_overlap = max(verdict.longest_overlap, end - newer.began)
    aware = end - newer.began - around.out_of_reach_within(older.process, newer.began, end)
    if aware > around.lease / 3 + _NOTICE_SECONDS:
        return (
            f"delivery {older.delivery} went on for {aware:.1f} s beside delivery {newer.delivery}, "
            "with its worker within reach"
        )
    return None


def _name(story: Story) -> str:
    return f"task {story.n} ({story.kind}, queue {story.queue}, id {story.id}, {story.answer})"


def _tell(story: Story) -> str:
    outcome = story.outcome
    runs = ", ".join(
        f"{e.process} attempt {e.attempt} delivery {e.delivery} "
        f"{e.began:.3f}..{'…' if e.ended is None else f'{e.ended:.3f}'} {e.how or 'no end'}"
        for e in story.executions
    )
    letter = (
        f" ({outcome.reason}, attempts {outcome.attempts}, deliveries {outcome.deliveries})" if outcome.letter else ""
    )
    return f"sent {story.sent:.3f}; runs [{runs}]; in Redis {outcome.state} {outcome.value}{letter}"
