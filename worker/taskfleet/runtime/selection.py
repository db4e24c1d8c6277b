"""Which queue to claim from next: strict tiers, weights inside a tier, and which queues are worth asking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taskfleet import queue_names
from taskfleet.engine import keys
from taskfleet.errors import ConfigurationError

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

_WEIGHT_DIGITS = 9


@dataclass(slots=True)
class Tier:
    """Partitions of the queues of one priority, with their weights. `credit` is what each is owed of past claims."""

    weights: dict[str, float]
    credit: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.weights)


def tiers_of(queue: TaskQueue, queues: Sequence[str] | None) -> list[Tier]:
    """Tiers, higher first.

    Without `queues`: the queues of the options and of the task definitions. `name:weight` puts all named queues into
    one weighted tier; bare names keep the priorities and weights of their options. A text that is as a whole the name
    of such a queue is that queue: `tenant:42` is not the queue `tenant`.
    """
    known = {options.name for options in queue.queue_options}
    known |= {definition.options.queue for definition in queue.registry}
    chosen: dict[str, int | None] = {}
    for item in queues or sorted(known) or [queue_names.DEFAULT]:
        name, weight = (item, None) if item in known else _name_and_weight(item)
        if chosen.setdefault(queue_names.validate(name), weight) != weight:
            raise ConfigurationError(f"queue {name!r} is named twice, with different weights")
    one_tier = any(weight is not None for weight in chosen.values())
    by_priority: dict[int, dict[str, float]] = {}
    for name, asked in chosen.items():
        options = queue.options_of(name)
        tier = by_priority.setdefault(0 if one_tier else options.priority, {})
        for number in range(options.partitions):
            share = (asked or 1) if one_tier else options.weight
            tier[keys.partition(name, number)] = share / options.partitions
    return [Tier(by_priority[priority]) for priority in sorted(by_priority, reverse=True)]


def _name_and_weight(item: str) -> tuple[str, int | None]:
    name, colon, weight = item.rpartition(":")
    if not colon or not (weight.isascii() and weight.isdigit()):
        return item, None
    if len(weight) > _WEIGHT_DIGITS or int(weight) < 1:
        raise ConfigurationError(f"queue {name!r}: weight {weight[:20]} must be at least 1, and of at most 9 digits")
    return name, int(weight)


class Selection:
    """Remembers which queues may have work, so that an idle or busy queue costs no call."""

    def __init__(self, tiers: list[Tier]) -> None:
        self.tiers = tiers
        self.names = [name for tier in tiers for name in tier.names]
        self._served = set(self.names)
        self._hot = set(self.names)
        self._event: dict[str, float] = {}  # loop time of the next due task or lease end

    def __str__(self) -> str:
        return " > ".join(",".join(f"{n}:{w:g}" for n, w in tier.weights.items()) for tier in self.tiers)

    @property
    def queues(self) -> list[str]:
        """The queues, each once, whatever its partitions."""
        return list(dict.fromkeys(keys.queue_of(name) for name in self.names))

    def add(self, partition: str) -> bool:
        """Serve a partition that a queue of ours had before it was given fewer; what is left there is drained.

        Returns whether it is new. Of other queues nothing is ever added, whatever is found in Redis.
        """
        if partition in self._served:
            return False
        queue = keys.queue_of(partition)
        for tier in self.tiers:
            if queue in tier.weights:
                tier.weights[partition] = tier.weights[queue]
                self.names.append(partition)
                self._served.add(partition)
                self._hot.add(partition)
                return True
        return False

    def all_hot(self) -> None:
        self._hot.update(self.names)

    def make_hot(self, name: str) -> None:
        self._hot.add(name)

    def hot(self, now: float) -> bool:
        """Whether any queue is worth asking."""
        return bool(self._hot) or any(at <= now for at in self._event.values())

    def next_event(self, now: float) -> float | None:
        """Seconds until a queue is worth asking again without being told."""
        return max(0.0, min(self._event.values()) - now) if self._event else None

    def seen(self, name: str, left: int, horizon: float | None, now: float) -> None:
        """What a call's reply says: how much is still ready, and when something is due next (s)."""
        if left:
            self._hot.add(name)
        else:
            self._hot.discard(name)
        if horizon is None:
            self._event.pop(name, None)
        else:
            # Rounded up: a call a moment too early would find nothing and come again.
            self._event[name] = now + horizon + 0.001

    def shares(self, tier: Tier, room: int, now: float) -> dict[str, int]:
        """How many to claim from each queue of the tier, by weight; what a queue does not use, others get next."""
        names = [name for name in tier.weights if name in self._hot or self._event.get(name, now + 1) <= now]
        if room <= 0 or not names:
            return {}
        if len(names) == 1:
            return {names[0]: room}
        total = sum(tier.weights[name] for name in names)
        shares: dict[str, int] = {}
        for name in names:
            owed = min(tier.credit.get(name, 0.0), float(room)) + room * tier.weights[name] / total
            shares[name] = int(owed)
            tier.credit[name] = owed - shares[name]
        if not any(shares.values()):
            # Less room than queues: the one that is owed most.
            name = max(names, key=lambda n: tier.credit[n])
            shares[name] = 1
            tier.credit[name] -= 1.0
        return shares
