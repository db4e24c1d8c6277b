"""What happened in the last hour, day and week: figures of queues, decisions of scalers. All of it has bounds in Redis.

Recorder(broker).run()                   records the figures of all queues; one process of a fleet does
await read(broker, "default", "1h")      the figures of one queue over time
await sparklines(broker, names)          ready tasks of many queues, minute by minute
await decisions(broker, scaler, since)   why a fleet had its size
await heaviest_keys(broker, "default")   the limit keys and fair keys with the most tasks
"""

from __future__ import annotations

from taskfleet.history.decision_log import DecisionLog, record_decision
from taskfleet.history.decision_reading import (
    ReplicasPoint,
    ScalerSummary,
    decisions,
    replicas_over_time,
    scalers,
)
from taskfleet.history.decision_record import DecisionRecord
from taskfleet.history.heaviest import HeaviestKeys, KeyLoad, heaviest_keys
from taskfleet.history.reading import SPANS, History, HistoryPoint, Span, read, sparklines
from taskfleet.history.recorder import Recorder

__all__ = [
    "SPANS",
    "DecisionLog",
    "DecisionRecord",
    "HeaviestKeys",
    "History",
    "HistoryPoint",
    "KeyLoad",
    "Recorder",
    "ReplicasPoint",
    "ScalerSummary",
    "Span",
    "decisions",
    "heaviest_keys",
    "read",
    "record_decision",
    "replicas_over_time",
    "scalers",
    "sparklines",
]
