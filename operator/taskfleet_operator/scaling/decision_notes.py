"""Keeps decisions in Redis, beside the loops: no loop waits for it, and no failure of it reaches one."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.history import DecisionLog, DecisionRecord
from taskfleet.redis.broker import RedisBroker

from ..autoscaler import QueueTerms, ScalingDecision, plain_sample, plain_state
from .port import Look

logger = showing.logger("taskfleet.scaling")

_MOST_WAITING = 2000
_LATEST_SECONDS = 15.0  # a record has the time at which it is written: a later one would tell a wrong time
_MOST_LOGS = 4000


class _Note(NamedTuple):
    log: DecisionLog
    look: Look
    decision: ScalingDecision
    noted: float


class DecisionNotes:
    """The decisions of all loops on one Redis, written one after the other."""

    def __init__(self, subject: str, broker: RedisBroker) -> None:
        self._subject = subject
        self._broker = broker
        self._logs: dict[str, DecisionLog] = {}
        self._waiting: deque[_Note] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._failures = 0
        self.written = 0
        """Decisions that were written."""
        self.lost = 0
        """Decisions that were worth a record and have none: Redis was away, or refused it."""

    def note(self, scaler: str, look: Look) -> None:
        """Write the decision of this look soon, if it is worth a record."""
        if look.decision is None:
            return
        log = self._log(scaler)
        if not log.wants(_outcome(look.decision)):
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(_Note(log, look, look.decision, time.monotonic()))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write())

    async def close(self) -> None:
        """End. What has not been written is not."""
        if self._writing is not None:
            await end([self._writing])

    def _log(self, scaler: str) -> DecisionLog:
        log = self._logs.get(scaler)
        if log is None:
            if len(self._logs) >= _MOST_LOGS:
                del self._logs[next(iter(self._logs))]
            log = self._logs[scaler] = DecisionLog(self._broker, scaler)
        return log

    async def _write(self) -> None:
        while self._waiting:
            note = self._waiting.popleft()
            if time.monotonic() - note.noted > _LATEST_SECONDS:
                self.lost += 1
                continue
            if not note.log.wants(_outcome(note.decision)):
                continue  # one like it was written meanwhile
            try:
                record = record_of(note.look, note.decision, with_state=note.log.wants_state)
                await note.log.add(record, busy=note.look.sample.busy_workers)
                self.written += 1
                self._failures = 0
            except Exception as error:
                self.lost += 1
                self._failures += 1
                if self._failures & (self._failures - 1) == 0:
                    told = "%s: decisions are not recorded, and made all the same: %s (%d in a row)"
                    logger.warning(told, self._subject, error, self._failures)


def _outcome(decision: ScalingDecision) -> tuple[int, str, str]:
    return decision.desired, decision.reason, decision.limited_by


def record_of(look: Look, decision: ScalingDecision, *, with_state: bool) -> DecisionRecord:
    """The record of a decision; `with_state` also of the memory with which it was made."""
    return DecisionRecord(
        at=datetime.now(UTC),  # Redis gives it its own time
        current=decision.current,
        desired=decision.desired,
        decided=look.decided,
        reason=decision.reason,
        message=decision.message,
        limited_by=decision.limited_by,
        limit_message=decision.limit_message,
        terms={name: _figure(value) for name, value in decision.terms.items() if math.isfinite(value)},
        queues=tuple(map(_terms, decision.queues)),
        sample=plain_sample(look.sample),
        spec=look.order.autoscaler.model_dump(mode="json", by_alias=True),
        now=look.now,
        state=plain_state(look.before) if with_state and look.before is not None else None,
    )


def _terms(terms: QueueTerms) -> Mapping[str, Any]:
    """The terms of one queue. What has no bound is None: JSON has no infinity."""
    return {name: _figure(value) for name, value in asdict(terms).items()}


def _figure(value: Any) -> Any:
    """A figure for readers, in a few digits: nothing is computed from it again, and digits of chance take bytes."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
