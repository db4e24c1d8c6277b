"""Selection of the queues to claim from next: strict tiers, weights inside a tier, and queues that may have work."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from taskfleet import queue_names
from taskfleet.application import Application
from taskfleet.errors import ConfigurationError
from taskfleet.protocol.partitions import Partition, partition_name, queue_of

_WEIGHT_DIGITS = 9
_LOOKS_PER_SECOND = 200.0  # how often a busy worker checks whether its cold queues are still empty
_LOOKS_AT_ONCE = 100.0
_LOOK_SECONDS = 1.0  # the longest time for which a busy worker does not check a queue
# The shortest time between two checks of a queue whose tasks a worker without a free slot cannot run
_EVENT_SECONDS = 0.1
_LOOKS_TOGETHER = 16


@dataclass(slots=True)
class Tier:
    """Partitions of the queues of one priority, with their weights. `credit` is the share that each is owed so far."""

    weights: dict[Partition, float]
    credit: dict[Partition, float] = field(default_factory=dict)

    @property
    def names(self) -> list[Partition]:
        return list(self.weights)


def tiers_of(application: Application, queues: Sequence[str] | None) -> list[Tier]:
    """The tiers, the highest first.

    Without `queues`: the named queues of the application.
    `name:weight` puts all named queues into one weighted tier; bare names keep the priorities and weights of their
    options. A text that is a name of such a queue as a whole means that queue: `tenant:42` is then not the queue
    `tenant`.
    """
    known = application.named_queues
    chosen: dict[str, int | None] = {}
    for item in queues or sorted(known) or [queue_names.DEFAULT]:
        name, weight = (item, None) if item in known else _name_and_weight(item)
        if chosen.setdefault(queue_names.validate(name), weight) != weight:
            raise ConfigurationError(f"queue {name!r} is named twice, with different weights")
    one_tier = any(weight is not None for weight in chosen.values())
    by_priority: dict[int, dict[Partition, float]] = {}
    for name, asked in chosen.items():
        options = application.options_of(name)
        tier = by_priority.setdefault(0 if one_tier else options.priority, {})
        for number in range(options.partitions):
            share = (asked or 1) if one_tier else options.weight
            tier[partition_name(name, number)] = share / options.partitions
    return [Tier(by_priority[priority]) for priority in sorted(by_priority, reverse=True)]


def _name_and_weight(item: str) -> tuple[str, int | None]:
    name, colon, weight = item.rpartition(":")
    if not colon or not (weight.isascii() and weight.isdigit()):
        return item, None
    if len(weight) > _WEIGHT_DIGITS or int(weight) < 1:
        raise ConfigurationError(f"queue {name!r}: weight {weight[:20]} must be at least 1, and of at most 9 digits")
    return name, int(weight)


class Selection:
    """Remembers which queues may have work, so that an empty queue costs few calls, and an idle worker none.

    A queue that was found empty is cold. An idle worker is notified of new tasks in a cold queue. A busy worker gets no
    notifications, so it checks cold queues itself: before a slot goes to another queue, and at the latest after
    `_LOOK_SECONDS`.
    """

    def __init__(self, tiers: list[Tier]) -> None:
        self.tiers = tiers
        self.names = [name for tier in tiers for name in tier.names]
        self.rank = {name: number for number, tier in enumerate(tiers) for name in tier.names}  # the highest tier is 0
        self.is_one_queue = len(self.queues) == 1
        self._hot = set(self.names)
        self._event: dict[Partition, float] = {}  # loop time at which the next task is due or the next lease expires
        self._looked: dict[Partition, float] = {}  # loop time of the last reply
        self._left: dict[Partition, int] = {}  # tasks that were still ready at the last reply, if there were any
        self._unheard: set[Partition] = set()  # partitions whose last call has failed
        self._looks = _LOOKS_AT_ONCE  # a bucket of tokens
        self._looks_counted = 0.0

    def __str__(self) -> str:
        return " > ".join(",".join(f"{n}:{w:g}" for n, w in tier.weights.items()) for tier in self.tiers)

    @property
    def lowest(self) -> int:
        """The rank of the last tier."""
        return len(self.tiers) - 1

    @property
    def queues(self) -> list[str]:
        """The names of the queues, once each, without their partitions."""
        return list(dict.fromkeys(queue_of(name) for name in self.names))

    def add(self, partition: Partition) -> bool:
        """Serve a partition that the queue had before its number of partitions was lowered, until it is empty.

        Returns whether it is new. Partitions of other queues are never added, even if Redis contains them.
        """
        first = partition_name(queue_of(partition), 0)
        if partition in self.rank or first not in self.rank:
            return False
        tier = self.tiers[self.rank[first]]
        tier.weights[partition] = tier.weights[first]
        self.names.append(partition)
        self.rank[partition] = self.rank[first]
        self._hot.add(partition)
        return True

    def all_hot(self) -> None:
        self._hot.update(self.names)

    def make_hot(self, partition: Partition) -> None:
        self._hot.add(partition)

    def hot(self, now: float) -> bool:
        """Whether any queue may have work."""
        return bool(self._hot) or any(at <= now for at in self._event.values())

    def first_hot(self, now: float) -> int | None:
        """The highest tier with a queue that may have work."""
        if not self._hot and not self.hot(now):
            return None
        return min((self.rank[name] for name in self.names if self._is_hot(name, now)), default=None)

    def any_hot_from(self, rank: int, now: float) -> bool:
        """Whether a queue of that tier or a lower one may have work."""
        return any(self._is_hot(name, now) for tier in self.tiers[rank:] for name in tier.weights)

    def _is_hot(self, partition: Partition, now: float) -> bool:
        return partition in self._hot or self._event.get(partition, now + 1) <= now

    def next_event(self, now: float) -> float | None:
        """Seconds until a queue may have work again without a notification."""
        return max(0.0, min(self._event.values()) - now) if self._event else None

    def seen(self, partition: Partition, left: int, horizon: float | None, now: float) -> None:
        """Take note of a reply: the number of tasks that are still ready, and the time (s) until the next is due."""
        self._looked[partition] = now
        self._unheard.discard(partition)
        if left:
            self._hot.add(partition)
            self._left[partition] = left
        else:
            self._hot.discard(partition)
            self._left.pop(partition, None)
        if horizon is None:
            self._event.pop(partition, None)
        else:
            # Rounded up: a call that comes a moment too early would find nothing and have to be repeated.
            self._event[partition] = now + horizon + 0.001

    def left(self, partition: Partition) -> int:
        """The number of tasks that were still ready there at the last reply; 0 before the first."""
        return self._left.get(partition, 0)

    def unheard(self, partition: Partition) -> None:
        """A call got no reply. The state of the partition is unknown, which is no reason to let lower tiers wait."""
        self._unheard.add(partition)

    def has_more(self, tier: Tier) -> bool:
        """Whether the last replies leave work in that tier, for which lower tiers wait."""
        return any(name in self._hot and name not in self._unheard for name in tier.weights)

    def look_again(self, tier: Tier, now: float) -> bool:
        """Ask cold queues of the tier before a slot goes to another tier, as far as the rate of such checks allows.

        The worker checks at each slot that becomes free, up to some hundred times a second, and otherwise every few
        milliseconds. Returns whether any queue is to be asked.
        """
        cold = [name for name in tier.weights if name not in self._hot]
        if not cold:
            return False
        self._looks = min(_LOOKS_AT_ONCE, self._looks + (now - self._looks_counted) * _LOOKS_PER_SECOND)
        self._looks_counted = now
        if self._looks < len(cold):
            cold = sorted(cold, key=lambda name: self._looked.get(name, 0.0))[: int(self._looks)]
        self._looks -= len(cold)
        self._hot.update(cold)
        return bool(cold)

    def overdue(self, now: float) -> list[Partition]:
        """Queues without a recent check, the longest first; leases or delays may have ended there."""
        if all(self._due_at(name) > now for name in self.names):
            return []
        due = [name for name in self.names if self._due_at(name) <= now]
        return sorted(due, key=lambda name: self._looked.get(name, 0.0))[:_LOOKS_TOGETHER]

    def next_look(self, now: float) -> float:
        """Seconds until a queue is overdue."""
        return max(0.0, min(map(self._due_at, self.names)) - now)

    def _due_at(self, partition: Partition) -> float:
        looked = self._looked.get(partition, 0.0)
        return min(looked + _LOOK_SECONDS, max(self._event.get(partition, math.inf), looked + _EVENT_SECONDS))

    def shares(self, tier: Tier, room: int, now: float) -> dict[Partition, int]:
        """The number of tasks to claim from each queue of the tier, by weight, and `room` in all.

        Others get an unused share in the next turn.
        """
        names = [name for name in tier.weights if self._is_hot(name, now)]
        if room <= 0 or not names:
            return {}
        if len(names) == 1:
            # The only queue uses up no credit, and the others are owed nothing for checks that found no task.
            tier.credit.clear()
            return {names[0]: room}
        total = sum(tier.weights[name] for name in names)
        shares: dict[Partition, int] = {}
        left = room  # queues that were found empty leave their shares, and together the others are owed more than fits
        for name in names:
            owed = min(tier.credit.get(name, 0.0), float(room)) + room * tier.weights[name] / total
            shares[name] = min(int(owed), left)
            left -= shares[name]
            tier.credit[name] = owed - shares[name]
        for name in heapq.nlargest(left, names, key=lambda name: tier.credit[name]):
            shares[name] += 1
            tier.credit[name] -= 1.0
        return shares
