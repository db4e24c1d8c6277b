"""Models of what a reader may have instead: KEDA with HPA on the length of the list, HPA on utilisation.

Both scale by HPA's rules: a look every 15 s, tolerance 0.1, up by 100 % or 4 pods in 15 s, down by 100 % in 15 s to the
highest recommendation of 300 s. Which pods go is the ReplicaSet controller's choice.
"""

from __future__ import annotations

import math

from ..autoscaler.behavior import scale_down_limit, scale_up_limit
from ..autoscaler.history import Recommendation, ScaleEvent
from ..autoscaler.stabilise import stabilise
from ..resource.autoscaler_spec import BehaviorSpec
from .simulated_fleet import SimulatedFaults, SimulatedFleet

_SYNC_SECONDS = 15.0
_KEDA_POLL_SECONDS = 30.0
_KEDA_COOLDOWN_SECONDS = 300.0
_TOLERANCE = 0.1
_HPA = BehaviorSpec.model_validate(
    {
        "scaleUp": {
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 15},
                {"type": "Pods", "value": 4, "periodSeconds": 15},
            ]
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
    }
)


class _HorizontalPodAutoscaler:
    """HPA's steps after the metric: tolerance, stabilisation, rates, limits."""

    def __init__(self, name: str, maximum: int, faults: SimulatedFaults) -> None:
        self.name = name
        self._maximum = maximum
        self._faults = faults
        self._recommendations: list[Recommendation] = []
        self._events: list[ScaleEvent] = []

    def woken(self, fleet: SimulatedFleet, now: float) -> float:
        return math.inf

    def _follow(self, fleet: SimulatedFleet, wanted: int, now: float) -> None:
        current = fleet.current
        self._recommendations = [entry for entry in self._recommendations if entry.at > now - 300]
        self._events = [event for event in self._events if event.at > now - 15]
        replicas = stabilise(current, wanted, self._recommendations, _HPA, now)
        self._recommendations.append(Recommendation(now, wanted))
        if replicas > current:
            replicas = min(replicas, scale_up_limit(current, self._events, _HPA.scale_up, now))
        elif replicas < current:
            replicas = max(replicas, scale_down_limit(current, self._events, _HPA.scale_down, now))
        replicas = min(max(replicas, 1), self._maximum)
        if replicas != current:
            self._events.append(ScaleEvent(now, replicas - current))
            fleet.resize(replicas, now)


class KedaWithHpa(_HorizontalPodAutoscaler):
    """KEDA's scaler for Redis lists: `listLength` waiting tasks a pod. Running tasks are not seen.

    KEDA itself takes the step from zero at its poll of 30 s, and the step to zero after a cooldown of 300 s.
    """

    def __init__(self, name: str, list_length: float, maximum: int, faults: SimulatedFaults) -> None:
        super().__init__(name, maximum, faults)
        self._list_length = list_length
        self._active_at = -math.inf
        self._polled = -math.inf

    def look(self, fleet: SimulatedFleet, now: float) -> float:
        lost = self._faults.loses(now)
        if now >= self._polled + _KEDA_POLL_SECONDS:
            self._polled = now
            if fleet.backlog and not lost:
                self._active_at = now
                if not fleet.current:
                    fleet.resize(1, now)
            elif fleet.current and not lost and now - self._active_at >= _KEDA_COOLDOWN_SECONDS:
                fleet.resize(0, now)
        elif fleet.current and not lost:
            ratio = fleet.backlog / (self._list_length * fleet.current)
            near = abs(ratio - 1) <= _TOLERANCE
            self._follow(fleet, fleet.current if near else math.ceil(fleet.backlog / self._list_length), now)
        fleet.dispatch(now)
        return now + _SYNC_SECONDS


class HpaOnUtilisation(_HorizontalPodAutoscaler):
    """HPA on the share of the slots that is busy, 80 % as its target; never fewer than one pod.

    As HPA does it, a pod that has not started counts as idle when the fleet should grow.
    """

    _TARGET = 0.8

    def look(self, fleet: SimulatedFleet, now: float) -> float:
        ready = fleet.registered
        if not fleet.current:
            fleet.resize(1, now)
        elif ready and not self._faults.loses(now):
            used = min(1.0, fleet.in_flight / (ready * fleet.slots)) / self._TARGET
            counted = ready
            if used > 1 and fleet.current > ready:
                counted = fleet.current
                used = fleet.in_flight / (counted * fleet.slots) / self._TARGET
                used = max(1.0, used)
            near = abs(used - 1) <= _TOLERANCE
            self._follow(fleet, fleet.current if near else math.ceil(used * counted), now)
        fleet.dispatch(now)
        return now + _SYNC_SECONDS
