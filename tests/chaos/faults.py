"""The schedule of faults, which a seed decides."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.chaos.kinds import LEASE_SECONDS

# fault → (weight, target, shortest and longest duration in seconds, or number of times)
_FAULTS: dict[str, tuple[int, str, float, float]] = {
    # Processes.
    "kill": (16, "worker", 0, 0),
    "stop": (8, "worker", 0.3, LEASE_SECONDS / 2),
    "stop_long": (8, "worker", LEASE_SECONDS * 1.3, LEASE_SECONDS * 2),
    "terminate": (8, "worker", 0, 0),
    "kill_producer": (4, "producer", 0, 0),
    "stop_producer": (3, "producer", 0.3, LEASE_SECONDS),
    # The way to Redis.
    "cut": (12, "client", 0, 0),
    "lose": (14, "client", 1, 5),
    "tear": (6, "client", 1, 3),
    "late": (6, "client", 1, 2),
    "stall": (5, "client", 0.3, LEASE_SECONDS / 2),
    "stall_long": (6, "client", LEASE_SECONDS * 1.1, LEASE_SECONDS * 2),
    # Redis.
    "redis_kill": (7, "redis", 0, 0.5),
    "redis_stop": (6, "redis", 0.3, LEASE_SECONDS / 2),
    "redis_stop_long": (2, "redis", LEASE_SECONDS * 1.1, LEASE_SECONDS * 1.4),
    "script_flush": (6, "redis", 0, 0),
    "client_kill": (6, "redis", 0, 0),
    "client_pause": (6, "redis", 0.2, LEASE_SECONDS / 2),
}
_COUNTED = {"lose", "tear", "late"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `at` seconds after the start, for `amount` seconds (or times, for lose, tear and late)."""

    at: float
    what: str
    target: str
    amount: float


def schedule(seed: int, count: int, seconds: float, workers: list[str], producers: list[str]) -> list[Fault]:
    """`count` faults, evenly over `seconds` with jitter; each kind at least once where there are enough."""
    draw = Random(seed)
    names = list(_FAULTS)
    chosen = list(names) if count >= len(names) else draw.sample(names, count)
    chosen += draw.choices(names, [weight for weight, *_ in _FAULTS.values()], k=count - len(chosen))
    draw.shuffle(chosen)
    targets = {"worker": workers, "producer": producers, "client": workers + producers, "redis": ["redis"]}
    gap = seconds / max(1, count)
    faults: list[Fault] = []
    for i, what in enumerate(chosen):
        _, hits, least, most = _FAULTS[what]
        amount = float(draw.randint(int(least), int(most))) if what in _COUNTED else round(draw.uniform(least, most), 3)
        # A producer has many short calls, a worker one after another: half of these faults hit producers.
        pool = producers if what in {"lose", "late"} and draw.random() < 0.5 else targets[hits]
        faults.append(Fault(round((i + draw.random()) * gap, 3), what, draw.choice(pool), amount))
    return faults
