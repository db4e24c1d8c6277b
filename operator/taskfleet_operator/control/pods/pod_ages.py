"""The ages of pods, on the monotonic clock: the time of the API server and that of this process may differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ...scaling.clock import ScalingClock
from ..store.cluster_store import Object, seconds_of

_LATE_SECONDS = 60.0  # at most this long after its creation a new pod is seen, as when a watch was interrupted


class PodAges:
    """Remembers when each pod was made, from the first look at it.

    A clock that is set later changes no age. With a clock that is wrong, a pod that this process has seen appear is
    off by a minute at most.
    """

    def __init__(self, clock: ScalingClock, wall_clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._made: dict[str, float] | None = None

    def of(self, pods: Mapping[str, Object]) -> dict[str, float]:
        """The age of each pod in seconds. Pods that are not among them are forgotten."""
        now, before = self._clock.now(), self._made
        made: dict[str, float] = {}
        for name, pod in pods.items():
            known = None if before is None else before.get(name)
            if known is None:
                created = seconds_of(pod["metadata"].get("creationTimestamp"))
                age = 0.0 if created is None else max(0.0, self._wall_clock() - created)
                known = now - (age if before is None else min(age, _LATE_SECONDS))
            made[name] = known
        self._made = made
        return {name: now - at for name, at in made.items()}
