"""The metrics of an operator that is not connected to anything, with figures that a test sets."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from taskfleet_operator.control.leading.leadership import Leadership
from taskfleet_operator.control.monitoring.metrics import OperatorCollector, TermFigures
from taskfleet_operator.control.store.cluster_store import ClusterStore
from taskfleet_operator.control.store.informer import Informers


class Cluster:
    """The calls that were counted."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()


def collector(cluster: Cluster | None = None, term: TermFigures | None = None) -> OperatorCollector:
    """To be called on a loop. Without a `term` it is that of a standby."""
    api: Any = cluster or Cluster()
    informers = Informers(api, ClusterStore(), lambda _kind, _keys: None)
    return OperatorCollector(Leadership(None, "a_1"), cast("Any", api), informers, lambda: 2, lambda: term)
