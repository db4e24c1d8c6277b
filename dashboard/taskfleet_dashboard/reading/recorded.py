"""What is recorded over time: figures of queues, decisions of autoscalers, and the heaviest keys."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from taskfleet import history
from taskfleet.errors import ConfigurationError
from taskfleet.history import DecisionRecord, HeaviestKeys
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.overview import EarlierDecision, ScalerRow
from taskfleet_dashboard.answers.queues import HistoryAnswer, HistoryPoint, KeyRow, KeysAnswer
from taskfleet_dashboard.answers.scalers import DecisionAnswer, QueueTermRow, ScalerAnswer, ScalerPoint
from taskfleet_dashboard.refusals import Refused

_SPARK_SECONDS = 20.0  # a figure of a sparkline is one of a minute
_KEYS_SECONDS = 5.0
_EARLIER_SECONDS = 15.0
_MOST_EARLIER = 8  # scalers whose hour is read for the overview
_MOST_KEPT = 2000  # queues whose sparklines are kept
_KEYS = 50


class Recorded:
    """Reads it, and keeps for some seconds what many pages ask for."""

    def __init__(self) -> None:
        self._sparks: dict[str, tuple[float, list[int | None]]] = {}
        self._keys: dict[str, tuple[float, HeaviestKeys]] = {}
        self._earlier: dict[str, tuple[float, int, EarlierDecision | None]] = {}

    async def sparks(self, broker: RedisBroker, queues: Sequence[str]) -> dict[str, list[int | None]]:
        """The sparklines of these queues."""
        now = time.monotonic()
        wanted = [name for name in queues if now - self._sparks.get(name, (-1e9, []))[0] > _SPARK_SECONDS]
        if wanted:
            for name, line in (await history.sparklines(broker, wanted)).items():
                self._sparks.pop(name, None)
                self._sparks[name] = now, line
            while len(self._sparks) > _MOST_KEPT:
                del self._sparks[next(iter(self._sparks))]
        return {name: self._sparks[name][1] for name in queues if name in self._sparks}

    async def scalers(self, broker: RedisBroker) -> list[ScalerRow]:
        """The autoscalers of the last day, the first of them with the most workers of the last hour."""
        rows = await scaler_rows(broker)
        earlier: dict[str, tuple[float, int, EarlierDecision | None]] = {}
        now = time.monotonic()
        for row in rows[:_MOST_EARLIER]:
            known = self._earlier.get(row.name)
            if known is None or now - known[0] > _EARLIER_SECONDS or known[1] != row.desired:
                known = now, row.desired, most_workers(await _decided(broker, row.name))
            earlier[row.name] = known
        self._earlier = earlier
        return [_with_earlier(row, earlier[row.name][2]) if row.name in earlier else row for row in rows]

    async def keys(self, broker: RedisBroker, queue: str) -> HeaviestKeys:
        """The heaviest keys of a queue."""
        found = self._keys.get(queue)
        now = time.monotonic()
        if found is None or now - found[0] > _KEYS_SECONDS:
            self._keys = {name: each for name, each in self._keys.items() if now - each[0] <= _KEYS_SECONDS}
            found = self._keys[queue] = now, await history.heaviest_keys(broker, queue, _KEYS)
        return found[1]


def keys_answer(found: HeaviestKeys) -> KeysAnswer:
    """The heaviest keys of a queue, as an answer."""
    return KeysAnswer(
        limit_keys=[
            KeyRow(key=text.whole(key.key), waiting=key.waiting, running=key.running) for key in found.limit_keys
        ],
        fair_keys=[
            KeyRow(key=text.whole(key.key), waiting=key.waiting, running=key.running) for key in found.fair_keys
        ],
        whole=found.whole,
    )


async def history_answer(broker: RedisBroker, queue: str, span: Any) -> HistoryAnswer:
    """The figures of a queue over time."""
    found = await history.read(broker, queue, span)
    names = HistoryPoint.model_fields
    points = [HistoryPoint(**{name: getattr(point, name) for name in names}) for point in found.points]
    return HistoryAnswer(step_seconds=found.step_seconds, points=points)


async def scaler_rows(broker: RedisBroker) -> list[ScalerRow]:
    """The autoscalers that have decided something in the last day; none when another program has written their key."""
    try:
        found = await history.scalers(broker)
    except CallRefusedError as error:
        broker.skipped.add("list of scalers", "", error)
        return []
    return [
        ScalerRow(
            name=text.whole(each.name),
            replicas=each.replicas,
            desired=each.desired,
            busy=each.busy,
            reason=text.line(each.reason),
            message=text.line(each.message),
            limited_by=text.line(each.limited_by),
            at=each.at,
            earlier=None,
        )
        for each in found
    ]


async def _decided(broker: RedisBroker, scaler: str) -> list[DecisionRecord]:
    try:
        return await history.decisions(broker, scaler)
    except (CallRefusedError, ConfigurationError):  # another program has written its key, or its name
        return []


def most_workers(found: Sequence[DecisionRecord]) -> EarlierDecision | None:
    """The decision that began the last time of the most workers; `None` without decisions."""
    if not found:
        return None
    most = max(each.desired for each in found)
    last = max(i for i, each in enumerate(found) if each.desired == most)
    first = last
    while first and found[first - 1].desired == most:
        first -= 1
    # What held it at the most tells more than how fast it grew up to there.
    record = next((each for each in found[first : last + 1] if each.limited_by == "TooManyReplicas"), found[first])
    return EarlierDecision(
        at=found[first].at,
        until=found[last + 1].at if last + 1 < len(found) else None,
        desired=most,
        reason=text.line(record.reason),
        message=text.line(record.message),
        limited_by=text.line(record.limited_by),
    )


def _with_earlier(row: ScalerRow, earlier: EarlierDecision | None) -> ScalerRow:
    if earlier is None or earlier.desired <= row.desired:
        return row
    return row.model_copy(update={"earlier": earlier})


async def decisions(broker: RedisBroker, scaler: str) -> list[DecisionRecord]:
    """The decisions of the last hour, the oldest first. Errors: `Refused` when there are none."""
    found = await history.decisions(broker, scaler)
    if not found:
        raise Refused(404, f"autoscaler {scaler} has decided nothing within the last hour")
    return found


async def scaler_answer(broker: RedisBroker, scaler: str, span: str) -> ScalerAnswer:
    """An autoscaler over time. Errors: `Refused` for one that is not known."""
    if span == "24h":
        minutes = await history.replicas_over_time(broker, scaler)
        if not minutes:
            raise Refused(404, f"autoscaler {scaler} has decided nothing within the last day")
        points = [
            ScalerPoint(
                at=each.at, replicas=each.replicas, desired=each.desired, busy=each.busy, reason="", message="",
                limited_by="", limit_message="", terms={},
            )
            for each in minutes
        ]  # fmt: skip
        return ScalerAnswer(name=scaler, spec=None, points=points)
    found = await decisions(broker, scaler)
    return ScalerAnswer(name=scaler, spec=plain(found[-1].spec), points=[ScalerPoint(**_point(each)) for each in found])


def _point(record: DecisionRecord) -> dict[str, Any]:
    terms = {text.line(name): float(value) for name, value in record.terms.items()}
    return {
        "at": record.at, "replicas": record.current, "desired": record.desired,
        "busy": _number(record.terms.get("busy_workers")), "reason": text.line(record.reason),
        "message": text.line(record.message), "limited_by": text.line(record.limited_by),
        "limit_message": text.line(record.limit_message), "terms": terms,
    }  # fmt: skip


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


async def decision_answer(broker: RedisBroker, scaler: str, at: datetime) -> DecisionAnswer:
    """The decision of that time, or the last one before it. Errors: `Refused`."""
    if at.tzinfo is None:
        raise Refused(422, "at: give the time with its zone, as in 2026-01-31T12:00:00Z")
    found = await decisions(broker, scaler)
    # Times of answers have fewer digits. Nothing is added to what was asked for: it may be the last time that there is.
    record = next((each for each in reversed(found) if each.at - timedelta(milliseconds=1) <= at), None)
    if record is None:
        raise Refused(
            404, f"autoscaler {scaler} has no decision of that time; the first that is kept is of {found[0].at:%FT%TZ}"
        )
    queues = [
        QueueTermRow(
            queue=text.line(str(each.get("name", ""))),
            terms={text.line(name): _number(value) for name, value in each.items() if _number(value) is not None},
        )
        for each in record.queues
    ]
    return DecisionAnswer(**_point(record), queues=queues, sample=plain(record.sample) or {}, spec=plain(record.spec))


def plain(value: Mapping[str, Any]) -> dict[str, Any] | None:
    """A JSON object whose texts can be sent."""
    return _plain(value) if value else None


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return text.whole(value)
    if isinstance(value, Mapping):
        return {text.whole(str(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
