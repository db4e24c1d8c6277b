"""The leases that a worker holds."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.protocol.claim import CLAIM_DELIVERY, CLAIM_ID, CLAIM_PARTITION, Claim
from taskfleet.protocol.outcome import OUTCOME_ID, Outcome
from taskfleet.protocol.partitions import Partition


class Held(dict[str, tuple[Partition, int]]):
    """Task id → (partition, delivery) of every lease: prefetched, running, or with an outcome not yet recorded.

    Leases are kept by the id of the task. A second task of the same id, in another queue, is a namesake: it is returned
    to its queue and waits until the first has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self._namesakes = False  # whether any namesake has been seen

    def has(self, claim: Claim) -> bool:
        """Whether the lease of this claim is still held."""
        return self.get(claim[CLAIM_ID]) == (claim[CLAIM_PARTITION], claim[CLAIM_DELIVERY])

    def add(self, partition: Partition, claims: list[Claim]) -> list[Claim]:
        """Hold the leases of new claims of a partition; returns the namesakes among them, whose leases are not held."""
        leases = {claim[CLAIM_ID]: (partition, claim[CLAIM_DELIVERY]) for claim in claims}
        namesakes: list[Claim] = []
        if not self.keys().isdisjoint(leases):
            namesakes = [claim for claim in claims if self._is_namesake(claim)]
            for claim in namesakes:
                del leases[claim[CLAIM_ID]]
            self._namesakes = self._namesakes or bool(namesakes)
        self.update(leases)
        return namesakes

    def _is_namesake(self, claim: Claim) -> bool:
        other, _ = self.get(claim[CLAIM_ID], (claim[CLAIM_PARTITION], 0))
        return other != claim[CLAIM_PARTITION]

    def recorded(self, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        """Redis has recorded these outcomes: their leases are no longer held."""
        for outcome in outcomes:
            if self._namesakes and self.get(outcome[OUTCOME_ID], (partition, 0))[0] != partition:
                continue  # a namesake was returned, while the first task of that id continues
            self.pop(outcome[OUTCOME_ID], None)

    def lost(self, deliveries: dict[str, int]) -> list[str]:
        """The ids among `deliveries` that are held with the same delivery.

        A task that ended and was claimed again by this worker in the meantime has another delivery.
        """
        return [task_id for task_id, delivery in deliveries.items() if self.get(task_id, ("", 0))[1] == delivery]
