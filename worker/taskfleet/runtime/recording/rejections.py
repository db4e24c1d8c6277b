"""Payloads that this worker cannot run as they are: sealed, damaged, forged, or of a newer version."""

from __future__ import annotations

import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from taskfleet import describing, showing
from taskfleet.errors import BadSignatureError, NewerVersionError, SerializationError
from taskfleet.protocol import envelope
from taskfleet.protocol.envelope import Envelope
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.sealing import Seal

logger = showing.logger("taskfleet.worker")

# A task that needs a newer worker is returned with a growing delay: a tenth of the time that it has waited.
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 30.0
# A rollout takes minutes. A task that waits for longer needs an operator, so the warning is repeated.
_LONG_SECONDS = 300.0
_FORGET_SECONDS = 2 * _LONGEST_DELAY_SECONDS + _LONG_SECONDS / 10


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a task is not run here.

    With `delay_ms` it is returned to its queue; without, it is a dead letter.
    """

    reason: str
    message: str
    delay_ms: int = 0


class Rejections:
    """Examines payloads that the decoder has refused.

    Only the worker's loop calls it; other threads may read the figures.
    """

    def __init__(self, seal: Seal, clock: Callable[[], float] = time.time) -> None:
        self._seal = seal
        self._clock = clock
        self.counts: Counter[tuple[str, str]] = Counter()  # (queue, reason)
        self._seen_versions: set[int] = set()
        self._oldest: dict[str, tuple[float, float]] = {}  # queue → (seconds waited, loop time of that observation)
        self._warned_at: dict[str, float] = {}

    def look_closer(self, queue: str, task_id: str, blob: bytes, error: SerializationError) -> Envelope | Refusal:
        """The task if it can be read after all, or the refusal."""
        if isinstance(error, envelope.SealedError):
            # Sealed by a program that has keys or compression, while this process has neither.
            try:
                return self._seal.open_task(queue_of(queue), task_id, blob)
            except SerializationError as closer:
                error = closer
        return self.refuse(queue, blob, error, "undecodable")

    def refuse(self, queue: str, blob: bytes, error: BaseException, otherwise: str) -> Refusal:
        """The refusal of a task whose payload or arguments were refused with `error`."""
        kind = type(error)  # not isinstance: application code can define the `__class__` of an error
        if issubclass(kind, NewerVersionError):
            assert isinstance(error, NewerVersionError)
            self.counts[queue, "newer_version"] += 1
            return Refusal("newer_version", str(error), self._delay_ms(queue, blob, error.version))
        reason = "bad_signature" if issubclass(kind, BadSignatureError) else otherwise
        self.counts[queue, reason] += 1
        ours = issubclass(kind, SerializationError)
        return Refusal(reason, describing.text_of(error) if ours else describing.describe(error))

    def too_large(self, queue: str, size: int, most: int) -> Refusal:
        """The refusal of a task whose payload exceeds this worker's limit."""
        self.counts[queue, "too_large"] += 1
        limit = most - envelope.STAMP_BYTES
        return Refusal(
            "too_large",
            f"its payload has {size - envelope.STAMP_BYTES} bytes, more than max_payload_bytes={limit} of this worker; "
            "raise that where workers are started, or store the data elsewhere and pass its address",
        )

    def claim_too_large(self, partition: Partition) -> Refusal:
        """The refusal of a task whose claim, with the results that it takes, exceeds the limit of a reply."""
        self.counts[partition, "too_large"] += 1
        return Refusal(
            "too_large",
            "its payload, with the results that it waits for, is larger than one reply of Redis may be here; raise "
            "max_payload_bytes where workers are started, or store the data elsewhere and pass its address",
        )

    def waiting_seconds(self) -> dict[str, float]:
        """The waiting time of the oldest task of a newer version, for each queue that has had one lately."""
        now = self._clock()
        return {queue: waited for queue, (waited, at) in self._oldest.copy().items() if now - at < _FORGET_SECONDS}

    def _delay_ms(self, queue: str, blob: bytes, version: int) -> int:
        now = self._clock()
        waited = _age_seconds(blob, now)
        if version not in self._seen_versions:
            self._seen_versions.add(version)
            logger.warning(
                "queue %s holds tasks of envelope version %d, and this worker knows up to %d: they go back, for a "
                "newer worker to take them",
                queue,
                version,
                envelope.SEALED,
            )
        oldest, at = self._oldest.get(queue, (0.0, 0.0))
        if waited >= oldest or now - at >= _FORGET_SECONDS:
            self._oldest[queue] = (waited, now)
        if waited >= _LONG_SECONDS and now - self._warned_at.get(queue, 0.0) >= _LONG_SECONDS:
            self._warned_at[queue] = now
            logger.warning(
                "queue %s: a task of envelope version %d has waited %.0f s for a newer worker: start one, or upgrade "
                "this one",
                queue,
                version,
                waited,
            )
        delay = min(max(waited / 10, _FIRST_DELAY_SECONDS), _LONGEST_DELAY_SECONDS)
        # Jitter, so that a batch that arrived together does not return together each time.
        return int(1000 * delay * random.uniform(0.75, 1.0))


def _age_seconds(blob: bytes, now: float) -> float:
    """The time since the stamp, which precedes the envelope in all versions; 0 for an implausible stamp."""
    (stamp_ms,) = struct.unpack_from(">d", blob) if len(blob) >= envelope.STAMP_BYTES else (0.0,)
    age: float = now - stamp_ms / 1000
    return age if 0.0 <= age < now else 0.0
