"""The Prometheus metrics of the operator, computed when they are scraped.

The parts count in plain numbers, and know nothing of Prometheus. A label that grows with the cluster names a TaskQueue
that exists: its figures go when it goes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from taskfleet.fleet_metrics import FleetCollector, Readings

from ..api.kubernetes_api import KubernetesApi
from ..leading.leadership import Leadership
from ..store.informer import Informers
from ..workqueue import WorkQueue
from .loop_figures import LAG_BUCKETS, LoopFigures, RedisFigures

_PREFIX = "taskfleet_operator"
_QUEUE = ["namespace", "name"]


@dataclass(frozen=True)
class TermFigures:
    """The figures of the term that runs now."""

    work: WorkQueue
    loops: LoopFigures
    redis: list[RedisFigures]


class OperatorCollector(Collector):
    """Converts the figures of the operator's parts. `term` is asked at each scrape: a standby has none."""

    def __init__(
        self,
        leadership: Leadership,
        cluster: KubernetesApi,
        informers: Informers,
        queues: Callable[[], int],
        term: Callable[[], TermFigures | None],
    ) -> None:
        self._leadership = leadership
        self._cluster = cluster
        self._informers = informers
        self._queues = queues
        self._term = term
        self._fleets = FleetCollector(self._readings, _QUEUE)

    def collect(self) -> Iterator[Metric]:
        term = self._term()
        yield from self._leader()
        yield from self._api()
        yield from self._watches()
        yield from _work(term)
        yield from _decisions(term.loops if term else LoopFigures())
        yield from _redis(term.redis if term else [], term.loops.closed if term else Counter())
        yield from self._fleets.collect()

    def _readings(self) -> Readings:
        term = self._term()
        if term is None:
            return Readings()
        fleets = [queue.fleet for queue in term.loops.queues.copy().values() if queue.fleet is not None]
        return Readings(fleets, [one.servers for one in term.redis if one.servers is not None])

    def _leader(self) -> Iterator[Metric]:
        yield _gauge("leader", "1 when this process leads.", float(self._leadership.is_leading()))
        yield _counter("terms", "How often this process began to lead.", self._leadership.terms)

    def _api(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            f"{_PREFIX}_api_calls", "Calls of the Kubernetes API by verb and HTTP status.", labels=["verb", "code"]
        )
        for (verb, code), count in sorted(self._cluster.calls.copy().items()):
            calls.add_metric([verb, str(code)], count)
        yield calls

    def _watches(self) -> Iterator[Metric]:
        yield _gauge("taskqueues", "TaskQueues that this process serves or stands by for.", self._queues())
        lists: Counter[str] = Counter()
        watches: Counter[str] = Counter()
        silence: dict[str, float] = {}
        now = time.monotonic()
        for informer in self._informers.all:
            kind = informer.watched.kind
            lists[kind] += informer.lists
            watches[kind] += informer.watches
            silence[kind] = max(silence.get(kind, 0.0), now - informer.last_answer)
        yield _by("informer_lists", "Complete lists of the objects of a kind.", "kind", lists, CounterMetricFamily)
        yield _by("informer_watches", "Watches that were opened.", "kind", watches, CounterMetricFamily)
        yield _by(
            "informer_silence_seconds",
            "Seconds since the API server last showed anything, bookmarks included.",
            "kind",
            silence,
            GaugeMetricFamily,
        )


def _work(term: TermFigures | None) -> Iterator[Metric]:
    work = term.work if term else None
    yield _gauge("work_queue_depth", "TaskQueues that wait to be reconciled.", work.depth if work else 0)
    yield _gauge(
        "work_queue_oldest_seconds", "How long the first of them has waited.", work.oldest_seconds if work else 0
    )
    yield _gauge(
        "reconcile_longest_seconds",
        "How long the longest reconcile that runs now has taken.",
        work.longest_call_seconds if work else 0,
    )


def _decisions(figures: LoopFigures) -> Iterator[Metric]:
    lag = figures.lag
    buckets = [(str(limit), float(count)) for limit, count in zip(LAG_BUCKETS, lag.buckets, strict=True)]
    histogram = HistogramMetricFamily(
        f"{_PREFIX}_decision_lag_seconds", "How long after their time decisions about figures were made."
    )
    histogram.add_metric([], [*buckets, ("+Inf", float(lag.count))], sum_value=lag.total)
    yield histogram
    yield _by("decisions", "Decisions by their reason.", "reason", figures.decisions, CounterMetricFamily)
    terms = GaugeMetricFamily(
        f"{_PREFIX}_decision_term", "The numbers of the last decision, by name.", labels=[*_QUEUE, "term"]
    )
    desired = GaugeMetricFamily(f"{_PREFIX}_desired_replicas", "Replicas that were decided last.", labels=_QUEUE)
    current = GaugeMetricFamily(f"{_PREFIX}_current_replicas", "Replicas at the last decision.", labels=_QUEUE)
    failed = GaugeMetricFamily(
        f"{_PREFIX}_sample_failed", "1 when the queues could not be read for the last decision.", labels=_QUEUE
    )
    limited = GaugeMetricFamily(
        f"{_PREFIX}_scaling_limited", "1 when a rule has changed the recommended number.", labels=_QUEUE
    )
    reason = GaugeMetricFamily(
        f"{_PREFIX}_decision_reason", "1 for the reason of the last decision.", labels=[*_QUEUE, "reason"]
    )
    rule = GaugeMetricFamily(
        f"{_PREFIX}_scaling_rule",
        "1 for the rule that has changed the recommended number last, if one has.",
        labels=[*_QUEUE, "rule"],
    )
    refused = GaugeMetricFamily(
        f"{_PREFIX}_decision_refused", "1 when the last decision could not be carried out.", labels=_QUEUE
    )
    for key, queue in sorted(figures.queues.copy().items()):
        reason.add_metric([*key, queue.reason], 1.0)
        if queue.limited_by:
            rule.add_metric([*key, queue.limited_by], 1.0)
        refused.add_metric(list(key), float(queue.refused))
        for name, value in queue.terms.items():
            terms.add_metric([*key, name], value)
        desired.add_metric(list(key), queue.desired)
        current.add_metric(list(key), queue.current)
        failed.add_metric(list(key), float(queue.failed))
        limited.add_metric(list(key), float(bool(queue.limited_by)))
    yield from (terms, desired, current, reason, failed, limited, rule, refused)
    scaled = CounterMetricFamily(
        f"{_PREFIX}_scale_events", "Changes of the number of replicas.", labels=[*_QUEUE, "direction"]
    )
    # Before the first change it is 0: a series that begins with 1 would show no increase.
    none: Counter[str] = Counter()
    for key, counts in sorted((dict.fromkeys(figures.queues.copy(), none) | figures.scaled.copy()).items()):
        for direction in ("up", "down"):
            scaled.add_metric([*key, direction], counts[direction])
    yield scaled
    yield _counter(
        "wrong_departures",
        "Pods that a smaller number has taken although they were not drained.",
        figures.wrong_departures,
    )


def _redis(found: list[RedisFigures], closed: Counter[str]) -> Iterator[Metric]:
    def counted(name: str) -> float:
        value: float = closed[name] + sum(getattr(one, name) for one in found)
        return value

    yield _gauge("redis_connections", "Servers, prefixes and logins of Redis that are read.", len(found))
    yield _counter("redis_reads", "Readings of queues.", counted("reads"))
    yield _counter("redis_read_failures", "Readings that failed.", counted("failures"))
    yield _counter("redis_busy_seconds", "Time that the readings took.", counted("read_seconds_total"))
    yield _gauge(
        "redis_read_seconds",
        "Time of the last reading, of the slowest Redis.",
        max((one.read_seconds for one in found), default=0.0),
    )
    yield _counter("cordons", "Workers that were told to drain.", counted("cordons"))
    yield _counter("skipped_records", "Records in Redis that were skipped.", counted("skipped"))
    yield _counter("listener_restarts", "Subscriptions for work that were made anew.", counted("listener_restarts"))
    recorded = "Decisions that were kept for the dashboard."
    yield _counter("recorded_decisions", recorded, counted("decisions_recorded"))
    lost = "Decisions that should have been kept, and could not be: Redis was away, or refused them."
    yield _counter("lost_decisions", lost, counted("decisions_lost"))
    yield _gauge("deaf_listeners", "Subscriptions that hear nothing now.", sum(not one.listening for one in found))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, float], family: Any) -> Metric:
    made: Any = family(f"{_PREFIX}_{name}", text, labels=[label])
    for value, count in sorted(values.items()):
        made.add_metric([value], count)
    metric: Metric = made
    return metric
