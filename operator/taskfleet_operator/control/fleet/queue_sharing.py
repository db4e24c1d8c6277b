"""TaskQueues that serve the same queue of the same Redis: the demand of it is divided among them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ...scaling.order import QueueShare, ScalingOrder
from ..store.cluster_store import Key

P = TypeVar("P", bound=Hashable)


@dataclass(frozen=True, slots=True)
class QueueSharing:
    """The parts of one TaskQueue, and the others that serve its queues, by the queue's name."""

    shares: Mapping[str, QueueShare]
    others: Mapping[str, Sequence[Key]]

    @property
    def message(self) -> str:
        """One line that names the queues, the others, and the part that is served here; "" when nothing is shared."""
        told = [
            f"queue {name} is also served by {', '.join('/'.join(key) for key in keys)}; "
            f"{self.shares[name].width:.0%} of its tasks are counted here"
            for name, keys in self.others.items()
        ]
        return "; ".join(told)


ALONE = QueueSharing({}, {})


def sharing(orders: Mapping[Key, ScalingOrder], capacities: Mapping[Key, int]) -> dict[Key, QueueSharing]:
    """Divide each queue by the slots that each TaskQueue may have at most. All of them are on one Redis and prefix.

    A TaskQueue that is suspended, or paused without a replica, runs nothing: its part is nothing.
    """
    serving: dict[str, list[Key]] = {}
    for key in sorted(orders):
        for target in orders[key].queues:
            serving.setdefault(target.name, []).append(key)
    shares: dict[Key, dict[str, QueueShare]] = {key: {} for key in orders}
    others: dict[Key, dict[str, list[Key]]] = {key: {} for key in orders}
    for name, keys in serving.items():
        if len(keys) < 2:
            continue
        parts = [capacities[key] for key in keys]
        if not any(parts):
            parts = [1] * len(keys)
        before, whole = 0, sum(parts)
        for key, capacity in zip(keys, parts, strict=True):
            shares[key][name] = QueueShare(before / whole, (before + capacity) / whole)
            others[key][name] = [other for other in keys if other != key]
            before += capacity
    return {key: QueueSharing(shares[key], others[key]) for key in orders}


def joined(marks: Mapping[P, Iterable[str]]) -> list[set[P]]:
    """The places in groups: those that have a mark in common, directly or through others, are in one."""
    groups: list[tuple[set[P], set[str]]] = []
    for place, own in marks.items():
        places, all_marks = {place}, set(own)
        apart: list[tuple[set[P], set[str]]] = []
        for group in groups:
            if all_marks.isdisjoint(group[1]):
                apart.append(group)
            else:
                places, all_marks = places | group[0], all_marks | group[1]
        groups = [*apart, (places, all_marks)]
    return [places for places, _ in groups]
