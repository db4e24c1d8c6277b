"""The metrics of the dashboard itself, made at a scrape from plain numbers. They name no queue and no task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from taskfleet.fleet_metrics import FleetCollector, Readings
from taskfleet.redis.permission import CommandCount
from taskfleet_dashboard.changing.jobs import Jobs
from taskfleet_dashboard.events.hub import Hub
from taskfleet_dashboard.events.pace import ReadingPace
from taskfleet_dashboard.metrics.requests import RequestFigures

_PREFIX = "taskfleet_dashboard"


@dataclass(frozen=True, slots=True)
class OwnFigures:
    """The parts that count. `recorded`: by its recorder; `unread`: queues that no scrape has read."""

    requests: RequestFigures
    hub: Hub
    pace: ReadingPace
    jobs: Jobs
    recorded: CommandCount
    unread: Callable[[], int]


class DashboardCollector(Collector):
    """Shows what its parts have counted, and with `readings` the queues, the fleet and Redis."""

    def __init__(self, own: OwnFigures) -> None:
        self._own = own
        self._readings = Readings()
        self._fleet = FleetCollector(lambda: self._readings)

    def with_readings(self, readings: Readings) -> Collector:
        """These and those of queues, fleet and Redis. Names keep their labels from one scrape to the next."""
        self._readings = readings
        return _Together(self, self._fleet)

    def collect(self) -> Iterator[Metric]:
        """The metrics, as they are now."""
        own = self._own
        requests = CounterMetricFamily(
            f"{_PREFIX}_requests", "Requests that were answered, by route and status.", labels=["route", "status"]
        )
        for (route, status), count in sorted(own.requests.answered.items()):
            requests.add_metric([route, str(status)], count)
        yield requests
        yield _gauge("streams", "Open streams of events.", own.hub.streams)
        yield _gauge("topics", "Topics that somebody watches.", own.hub.topics)
        yield _gauge("jobs_running", "Jobs about dead letters that run here.", own.jobs.running)
        yield _counter("readings", "Readings of Redis for open pages and scrapes.", own.pace.readings_total)
        yield _gauge("unread_queues", "Queues that no scrape has read yet.", own.unread())
        commands = CounterMetricFamily(
            f"{_PREFIX}_redis_commands", "Commands that were sent to Redis, by what they were for.", labels=["purpose"]
        )
        commands.add_metric(["live"], own.pace.commands_total)
        commands.add_metric(["recorder"], own.recorded.commands)
        commands.add_metric(["request"], own.requests.commands.commands)
        yield commands
        yield _counter(
            "dropped_streams", "Streams that ended since their browser took nothing for 20 s.", own.hub.dropped_total
        )
        refused = CounterMetricFamily(
            f"{_PREFIX}_refused", "Streams and topics that were refused since there are too many.", labels=["what"]
        )
        refused.add_metric(["stream"], own.hub.refused_streams_total)
        refused.add_metric(["topic"], own.hub.refused_topics_total)
        yield refused


class _Together(Collector):
    def __init__(self, *collectors: Collector) -> None:
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for each in self._collectors:
            yield from each.collect()


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)
