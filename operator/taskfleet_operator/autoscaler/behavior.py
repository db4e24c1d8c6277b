"""HPA's `behavior`: how far the replicas may move within a period, as Kubernetes 1.36 counts it.

A policy's period starts from `current - added + deleted`: the changes within the period are taken back, in both
directions. If only one direction counted, a fleet that goes up and down could move without a limit.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..resource.autoscaler_spec import ScaleDownRules, ScaleUpRules, ScalingPolicy
from .history import ScaleEvent

UNLIMITED = 2**31 - 1


def scale_up_limit(current: int, events: Iterable[ScaleEvent], rules: ScaleUpRules, now: float) -> int:
    """The most replicas allowed now; never less than `current`, and never less than the first replica."""
    if rules.select_policy == "Disabled":
        return current
    limits = [_highest(policy, _at_period_start(policy, current, events, now)) for policy in rules.policies]
    limit = min(limits) if rules.select_policy == "Min" else max(limits)
    # HPA never starts from zero replicas. A percentage of zero is zero, so the first replica is always allowed.
    return max(limit, current, 1)


def scale_down_limit(current: int, events: Iterable[ScaleEvent], rules: ScaleDownRules, now: float) -> int:
    """The fewest replicas allowed now; never more than `current`."""
    if rules.select_policy == "Disabled":
        return current
    limits = [_lowest(policy, _at_period_start(policy, current, events, now)) for policy in rules.policies]
    # "Max" selects the policy that allows the largest change: downwards, the one that leaves the fewest replicas.
    limit = max(limits) if rules.select_policy == "Min" else min(limits)
    return max(0, min(limit, current))


def longest_period(*rules: ScaleUpRules | ScaleDownRules) -> int:
    """How long a scale event has to be remembered, in seconds."""
    return max(policy.period_seconds for rule in rules for policy in rule.policies)


def _at_period_start(policy: ScalingPolicy, current: int, events: Iterable[ScaleEvent], now: float) -> int:
    return current - sum(event.change for event in events if event.at > now - policy.period_seconds)


def _highest(policy: ScalingPolicy, start: int) -> int:
    if policy.type == "Pods":
        return start + policy.value
    return min(UNLIMITED, -(-start * (100 + policy.value) // 100))  # rounded up, for a value of any size


def _lowest(policy: ScalingPolicy, start: int) -> int:
    if policy.type == "Pods":
        return start - policy.value
    kept = start * (100 - policy.value)
    return kept // 100 if kept >= 0 else -(-kept // 100)
