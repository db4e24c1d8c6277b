"""What `decide` would have said to recorded samples, had the rules been others.

It is an open loop: each sample is as it was recorded, with the replicas and the backlog that the real decisions have
caused. So it shows what would have been asked for at each moment of the real hour, and not how an hour would have gone
on with more or fewer workers: the simulator (`taskfleet_operator.simulate`) closes the loop over an invented load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from pydantic import ValidationError

from ..resource.autoscaler_spec import AutoscalerSpec
from .decide import decide
from .history import ScalingState
from .recorded import sample_of, state_of
from .sample import FleetSample

_OTHER_CLOCK_SECONDS = 30.0  # so late may a decision be written, and by so much may a clock be set
_QUEUE_TARGET = "targetLatencySeconds"
_MOST_TARGET = 86_400


class RecordedDecision(Protocol):
    """What a replay needs of a record; `taskfleet.history.DecisionRecord` has it."""

    @property
    def at(self) -> datetime: ...
    @property
    def now(self) -> float: ...
    @property
    def current(self) -> int: ...
    @property
    def desired(self) -> int: ...
    @property
    def sample(self) -> Mapping[str, Any]: ...
    @property
    def spec(self) -> Mapping[str, Any]: ...
    @property
    def state(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class ReplayedDecision:
    """One recorded moment: the replicas that there were, the number that was wanted, and what would have been wanted.

    `reason`, `message` and `limited_by` are those of the replayed decision.
    """

    at: datetime
    current: int
    desired: int
    would: int
    reason: str
    message: str
    limited_by: str


def changed_spec(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> AutoscalerSpec:
    """`spec.autoscaler` of a manifest with some fields changed, as a merge patch does. `ValueError`, on one line."""
    try:
        return AutoscalerSpec.model_validate(_merged(spec, {k: v for k, v in changes.items() if k != _QUEUE_TARGET}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {what}" if where else what) from None


def _merged(into: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(into)
    for name, value in changes.items():
        before = found.get(name)
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            found[name] = _merged(before, value)
        else:
            found[name] = value
    return found


def replay(
    records: Sequence[RecordedDecision], changes: Mapping[str, Any] | AutoscalerSpec | None = None
) -> list[ReplayedDecision]:
    """What `decide` says to each recorded sample, oldest first, with the changed rules.

    `changes` are fields of `spec.autoscaler` as in a manifest, merged into the rules of each record, or a whole spec in
    their place. `targetLatencySeconds` among them is the target of every queue. The memory begins as it was before the
    first record, and goes on with what is decided here. A record that cannot be read is left out. `ValueError`, on one
    line, for rules that a manifest could not have.
    """
    target = _target(changes)
    found: list[ReplayedDecision] = []
    state: ScalingState | None = None
    before: RecordedDecision | None = None
    for record in records:
        try:
            sample = sample_of(record.sample)
            known = AutoscalerSpec.model_validate(record.spec)
        except ValueError:
            continue  # another program has written it
        spec = known
        if isinstance(changes, AutoscalerSpec):
            spec = changes
        elif changes:
            spec = changed_spec(record.spec, changes)
        if target is not None:
            sample = replace(
                sample, queues=tuple(replace(queue, target_latency_seconds=target[0]) for queue in sample.queues)
            )
        if state is None or before is None or _is_another_clock(before, record):
            state = _state_before(record, sample)
        decision = decide(sample, state, spec, record.now)
        state, before = decision.state, record
        found.append(
            ReplayedDecision(
                record.at,
                record.current,
                record.desired,
                decision.desired,
                decision.reason,
                decision.message,
                decision.limited_by,
            )
        )
    return found


def _target(changes: object) -> tuple[float | None] | None:
    """The changed target of all queues, which may be none."""
    if not isinstance(changes, Mapping) or _QUEUE_TARGET not in changes:
        return None
    value = changes[_QUEUE_TARGET]
    if value is None:
        return (None,)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 1 <= value <= _MOST_TARGET
        or value != int(value)
    ):
        raise ValueError(f"{_QUEUE_TARGET}: must be a whole number of seconds from 1 to {_MOST_TARGET}")
    return (float(value),)


def _is_another_clock(before: RecordedDecision, record: RecordedDecision) -> bool:
    """Whether another process has decided since, whose memory is another, and mostly its clock too.

    Processes of one machine may share a clock; then the memory, which comes with the first record, has begun since.
    """
    passed = (record.at - before.at).total_seconds()
    if record.now < before.now or abs(record.now - before.now - passed) > _OTHER_CLOCK_SECONDS:
        return True
    started = None if record.state is None else record.state.get("started")
    return isinstance(started, (int, float)) and started > before.now


def _state_before(record: RecordedDecision, sample: FleetSample) -> ScalingState:
    if record.state is not None:
        try:
            return state_of(record.state)
        except ValueError:
            pass  # another program has written it
    return ScalingState.initial(sample.current_replicas, record.now)
