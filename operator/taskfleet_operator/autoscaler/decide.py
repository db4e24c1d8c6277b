"""The decision: how many replicas a TaskQueue should have now.

The order of steps is the contract (docs/explanation/autoscaling.md): the recommendation, panic, tolerance,
stabilisation, `behavior` rates, pending replicas, busy workers, the limits, and zero only when idle.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..resource.autoscaler_spec import AutoscalerSpec
from . import activity, behavior, fallback, panic, plausibility, rates, recommend, stabilise, tolerance
from .decision import ScalingDecision
from .figures import describe
from .history import STABLE_WINDOW_SECONDS, Recommendation, ScaleEvent, ScalingState, is_another_poll
from .recommend import Wanted
from .sample import FleetSample


def decide(sample: FleetSample, state: ScalingState, spec: AutoscalerSpec, now: float) -> ScalingDecision:
    """The number of replicas for this sample. Pure: the same arguments give the same decision.

    `now` is in seconds on the same clock as the times in `state`, and does not go backwards. The caller carries out
    `next_steps` of the decision, and gives `decision.state` to the next call. The replicas that were really added or
    deleted are read from the next sample, so a decision that was not carried out does not count against the rates.
    """
    decision = _decided(sample, state, spec, now)
    if sample.overrides.suspend:
        return decision  # `suspend` stops the workers, also where a user or an HPA sets their number
    if spec.mode == "Recommend":
        return replace(decision, advice=True)
    if spec.mode == "Disabled":
        desired = sample.overrides.replicas
        return replace(
            decision, desired=desired, reason="Disabled", message="spec.replicas", limited_by="", fallback=False,
            panicking=False,
        )  # fmt: skip
    return decision


def _decided(sample: FleetSample, state: ScalingState, spec: AutoscalerSpec, now: float) -> ScalingDecision:
    state = state.until(now)
    sample, odd = plausibility.readable(sample, state)
    state = _with_scale_events(sample, state, spec, now)
    if sample.failure:
        return _without_sample(sample, state, spec, now)
    doubt = plausibility.cause(sample, state, odd)
    distrusted = rates.went_backwards(sample, state) or (bool(odd) and state.doubted_since is None)
    state = _with_sample(sample, state, spec, now, doubt=doubt)
    wanted = (
        recommend.threshold(sample, state, spec, now)
        if spec.policy == "Threshold"
        else recommend.drain_time(sample, state, spec)
    )
    state = replace(state, signals=wanted.signals, signalled_at=now if wanted.signalled else state.signalled_at)
    draft = _Draft(sample, state, spec, now, wanted)
    settled = _overridden(draft)
    if settled is not None:
        return settled
    if distrusted:
        held = min(max(sample.current_replicas, spec.min_replicas), spec.max_replicas)
        return draft.finish(held, "SuspectSample", f"{doubt}; holding {held}")
    return _scaled(draft)


class _Draft:
    """A decision in progress: the number so far, and the last rule that changed it."""

    def __init__(
        self, sample: FleetSample, state: ScalingState, spec: AutoscalerSpec, now: float, wanted: Wanted
    ) -> None:
        self.sample = sample
        self.state = state
        self.spec = spec
        self.now = now
        self.wanted = wanted
        self.current = sample.current_replicas
        self.replicas = wanted.replicas
        self.reason = wanted.reason
        self.message = wanted.message
        self.limited_by = ""
        self.panicking = False

    def limit(self, replicas: int, rule: str) -> None:
        if replicas != self.replicas:
            self.replicas, self.limited_by = replicas, rule

    def finish(self, desired: int, reason: str, message: str, *, limited_by: str = "") -> ScalingDecision:
        return ScalingDecision(
            desired=desired,
            current=self.current,
            reason=reason,
            message=message,
            limited_by=limited_by,
            terms=describe(self.sample, self.wanted, self.spec, panicking=self.panicking),
            queues=self.wanted.queues,
            state=replace(self.state, last_desired=desired, last_current=self.current, last_decided=self.now),
            panicking=self.panicking,
        )


def _scaled(draft: _Draft) -> ScalingDecision:
    """Apply the steps to the recommendation, in their order."""
    sample, spec, now, current = draft.sample, draft.spec, draft.now, draft.current
    idle = activity.is_idle(sample, draft.state, spec, now)
    asleep = current == 0 and spec.min_replicas == 0
    if asleep and not _activate(draft):
        draft.state = _remember(draft, 0)
        return draft.finish(0, "Idle", f"nothing to do: {sample.backlog} ready, none running, none due")
    if idle and _may_go_to_zero(draft):
        # The step to zero is KEDA's, not HPA's. It waits for the cooldown, and not for HPA's windows and rates.
        draft.state = _remember(draft, 0)
        return draft.finish(0, "Idle", f"nothing to do for {now - draft.state.last_active:.0f} s → 0")
    _panic(draft)
    if not draft.panicking:
        _tolerate(draft)
    _stabilise(draft)
    _limit_rates(draft)
    _limit_pending(draft)
    if asleep and draft.replicas == 0 and spec.behavior.scale_up.select_policy != "Disabled":
        draft.replicas = 1  # the first replica is not HPA's step either: HPA's windows start with it
    _keep_busy(draft)
    draft.limit(max(draft.replicas, spec.min_replicas), "TooFewReplicas")
    draft.limit(min(draft.replicas, spec.max_replicas), "TooManyReplicas")
    if draft.replicas == 0 and current > 0 and (not idle or sample.overrides.force_activation):
        draft.limit(1, "ForceActivation" if sample.overrides.force_activation else "Cooldown")
    if sample.overrides.paused_scale_in:
        draft.limit(max(draft.replicas, current), "PausedScaleIn")
    if sample.overrides.paused_scale_out:
        draft.limit(min(draft.replicas, current), "PausedScaleOut")
    return draft.finish(draft.replicas, draft.reason, draft.message, limited_by=draft.limited_by)


def _activate(draft: _Draft) -> bool:
    """Whether a queue without replicas is activated. Then it wants at least one."""
    why = activity.activation(draft.sample, draft.spec)
    if not why:
        return False
    first = draft.spec.threshold.scale_up_count if draft.spec.policy == "Threshold" else 1
    if draft.wanted.replicas < first or not draft.sample.backlog:
        first = max(first, draft.wanted.replicas)
        draft.replicas, draft.reason, draft.message = first, "Activated", f"{why} → {first}"
    return True


def _panic(draft: _Draft) -> None:
    cause = panic.cause(draft.sample, draft.wanted, draft.spec)
    if cause:
        draft.state = replace(draft.state, panic_until=draft.now + STABLE_WINDOW_SECONDS)
    draft.panicking = draft.spec.panic.mode == "Enabled" and draft.now < draft.state.panic_until
    if not draft.panicking:
        return
    # Without a new cause, the short window adds no replicas. The panic only keeps the fleet from shrinking.
    held = max(draft.replicas, draft.wanted.panic_replicas if cause else 0, draft.current)
    if held != draft.replicas:
        quiet = f"held until it has been quiet for {STABLE_WINDOW_SECONDS:.0f} s"
        draft.message = f"{cause or quiet}: {_formula(draft.message)} → {held}"
        draft.replicas, draft.reason = held, "Panic"


def _tolerate(draft: _Draft) -> None:
    settled = tolerance.settle(draft.sample, draft.wanted, draft.replicas, _formula(draft.message), draft.spec)
    draft.replicas, draft.message = settled.replicas, settled.message or draft.message
    if settled.stays:
        draft.reason = "WithinTolerance"


def _stabilise(draft: _Draft) -> None:
    rules, now = draft.spec.behavior, draft.now
    # Replicas that the short window wanted are kept for the down window, though only a panic adds replicas for it.
    # Otherwise a fleet with a burst every minute would shrink between two bursts.
    rush = draft.wanted.panic_replicas if draft.spec.panic.mode == "Enabled" else 0
    unstabilised = max(draft.replicas, min(rush, draft.current))
    draft.limit(unstabilised, "ScaleDownStabilized")
    stable = stabilise.stabilise(draft.current, unstabilised, draft.state.recommendations, rules, now)
    draft.limit(stable, "ScaleDownStabilized" if unstabilised < stable else "ScaleUpStabilized")
    draft.state = _remember(draft, unstabilised)


def _formula(message: str) -> str:
    return message.rsplit(" → ", 1)[0]


def _limit_rates(draft: _Draft) -> None:
    rules, current, now = draft.spec.behavior, draft.current, draft.now
    events = draft.state.events
    if draft.replicas > current:
        limit = behavior.scale_up_limit(current, events, rules.scale_up, now)
        draft.limit(min(draft.replicas, limit), "ScaleUpLimit")
    elif draft.replicas < current:
        limit = behavior.scale_down_limit(current, events, rules.scale_down, now)
        draft.limit(max(draft.replicas, limit), "ScaleDownLimit")


def _limit_pending(draft: _Draft) -> None:
    """While replicas wait for a node, more replicas would only wait, too."""
    if draft.replicas > draft.current:
        room = max(0, draft.spec.max_pending_replicas - draft.sample.pending_replicas)
        draft.limit(min(draft.replicas, draft.current + room), "MaxPendingReplicas")


def _keep_busy(draft: _Draft) -> None:
    """Keep the workers that the running tasks need, and those without which tasks that wait would be late.

    With several slots a replica, tasks that are spread over all workers fit into fewer: then the rest is drained, which
    takes no task away. Otherwise a fleet that is always a little busy would never shrink.
    """
    if draft.replicas >= draft.current:
        return
    sample, state = draft.sample, draft.state
    running = max(sample.in_flight, sample.busy_workers)
    busy = min(draft.current, sample.busy_workers, math.ceil(running / max(1, sample.slots_per_replica)))
    draft.limit(max(draft.replicas, busy), "BusyWorkers")
    if draft.spec.policy == "DrainTime":
        in_time = min(draft.current, math.ceil(draft.wanted.kept_slots / max(1, sample.slots_per_replica)))
        draft.limit(max(draft.replicas, in_time), "LateTasks")
    if draft.now < state.started + STABLE_WINDOW_SECONDS:
        draft.limit(max(draft.replicas, min(draft.current, state.restarted_with)), "JustStarted")
    if draft.now < state.hold_until:
        draft.limit(draft.current, "SuspectSample")


def _may_go_to_zero(draft: _Draft) -> bool:
    return (
        draft.spec.min_replicas == 0
        and draft.now >= draft.state.hold_until
        and (draft.now >= draft.state.started + STABLE_WINDOW_SECONDS or not draft.state.restarted_with)
        and draft.spec.behavior.scale_down.select_policy != "Disabled"
        and not draft.sample.overrides.paused_scale_in
        and not draft.sample.overrides.force_activation
    )


def _overridden(draft: _Draft) -> ScalingDecision | None:
    """The decision that the user has taken over by `spec.suspend` or a pause annotation, if any."""
    overrides, current = draft.sample.overrides, draft.current
    if overrides.suspend:
        draft.state = _remember(draft, draft.wanted.replicas)
        return draft.finish(0, "Suspended", "spec.suspend is true → 0")
    if overrides.paused_replicas is not None:
        draft.state = _remember(draft, draft.wanted.replicas)
        return draft.finish(
            overrides.paused_replicas, "Paused", f"paused by annotation at {overrides.paused_replicas} replicas"
        )
    if overrides.paused:
        draft.state = _remember(draft, draft.wanted.replicas)
        return draft.finish(current, "Paused", f"paused by annotation; {draft.wanted.message} is not followed")
    return None


def _remember(draft: _Draft, wanted: int) -> ScalingState:
    fresh = Recommendation(draft.now, wanted, draft.wanted.is_guess)
    kept = stabilise.remembered(draft.state.recommendations, fresh, draft.spec.behavior)
    return replace(draft.state, recommendations=kept)


def _with_scale_events(sample: FleetSample, state: ScalingState, spec: AutoscalerSpec, now: float) -> ScalingState:
    """Record replicas added or deleted since the last decision; drop events older than every policy's period."""
    change = sample.current_replicas - state.last_current
    longest = behavior.longest_period(spec.behavior.scale_up, spec.behavior.scale_down)
    events = tuple(event for event in state.events if event.at > now - longest)
    if change:
        ours = (state.last_desired - state.last_current) * change > 0
        events = (*events, ScaleEvent(state.last_decided if ours else now, change))
    return replace(state, events=events)


def _with_sample(
    sample: FleetSample, state: ScalingState, spec: AutoscalerSpec, now: float, *, doubt: str
) -> ScalingState:
    """The state with the counters and the activity of this sample, and the doubts about it."""
    prior = float(spec.target.processing_time_seconds)
    newly_doubted = bool(doubt) and (rates.went_backwards(sample, state) or state.doubted_since is None)
    window = spec.behavior.scale_down.stabilization_window_seconds
    return replace(
        state,
        failures=0,
        last_active=now if activity.was_active(sample, state) else state.last_active,
        doubted_since=(state.doubted_since if state.doubted_since is not None else now) if doubt else None,
        hold_until=now + window if newly_doubted else state.hold_until,
        queues=rates.record(sample, state, prior, now),
    )


def _without_sample(sample: FleetSample, state: ScalingState, spec: AutoscalerSpec, now: float) -> ScalingDecision:
    """Without a sample nothing changes, until the fallback applies."""
    current = sample.current_replicas
    failures = state.failures
    if not failures or is_another_poll(state.failed_at, now, spec.poll_interval_seconds):
        failures += 1
        state = replace(state, failures=failures, failed_at=now)
    draft = _Draft(sample, state, spec, now, Wanted(float(current), current, current, "SampleFailed", "", ()))
    if sample.overrides.suspend or sample.overrides.paused or sample.overrides.paused_replicas is not None:
        settled = _overridden(draft)
        assert settled is not None
        return replace(settled, state=replace(settled.state, recommendations=state.recommendations))
    if failures < spec.fallback.failure_threshold:
        return draft.finish(current, "SampleFailed", f"{sample.failure} ({failures} in a row); holding {current}")
    desired = fallback.replicas(current, spec)
    message = f"{sample.failure} ({failures} in a row); fallback {spec.fallback.behavior} → {desired}"
    return replace(draft.finish(desired, "Fallback", message), fallback=True)
