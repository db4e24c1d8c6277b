"""The metrics of a process as plain data, which one process can hand to another, and which can be added up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from taskfleet.runtime.state.tally import BOUNDS

if TYPE_CHECKING:  # a worker without probes does without the library of the metrics
    from prometheus_client.core import Metric
    from prometheus_client.samples import Exemplar

Kind = Literal["counter", "gauge", "largest", "histogram"]
"""A `largest` is a gauge whose values are not added up: of several processes the largest counts."""

Labels = tuple[str, ...]

_LE = [*(repr(bound) for bound in BOUNDS), "+Inf"]


@dataclass(slots=True)
class Distribution:
    """Seconds by bucket; a bucket counts what is in no smaller one. Exemplars (labels, value, Unix time) by bucket."""

    buckets: list[int]
    total: float
    exemplars: dict[int, tuple[dict[str, str], float, float]] = field(
        default_factory=dict[int, tuple[dict[str, str], float, float]]
    )

    def plus(self, other: Distribution) -> Distribution:
        newest = dict(self.exemplars)
        for at, one in other.exemplars.items():
            if at not in newest or newest[at][2] < one[2]:
                newest[at] = one
        buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        return Distribution(buckets, self.total + other.total, newest)


@dataclass(slots=True)
class Family:
    """One metric: its values by the values of its labels. The values of a histogram are distributions."""

    name: str
    kind: Kind
    meaning: str
    labels: Labels = ()
    values: dict[Labels, float] = field(default_factory=dict[Labels, float])
    distributions: dict[Labels, Distribution] = field(default_factory=dict[Labels, Distribution])

    def add(self, labels: Labels, value: float) -> None:
        """Add to the value with these labels."""
        before = self.values.get(labels)
        if before is None:
            self.values[labels] = value
        else:
            self.values[labels] = max(before, value) if self.kind == "largest" else before + value

    def add_distribution(self, labels: Labels, one: Distribution) -> None:
        before = self.distributions.get(labels)
        self.distributions[labels] = one if before is None else before.plus(one)

    def metric(self) -> Metric:
        """As prometheus-client has it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        made: Any
        if self.kind == "histogram":
            made = HistogramMetricFamily(self.name, self.meaning, labels=self.labels)
            for labels, one in sorted(self.distributions.items()):
                made.add_metric(labels, list(_buckets(one)), sum_value=one.total)
        else:
            family = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
            made = family(self.name, self.meaning, labels=self.labels)
            for labels, value in sorted(self.values.items()):
                made.add_metric(labels, value)
        metric: Metric = made
        return metric


def _buckets(one: Distribution) -> Iterator[tuple[str, float, Exemplar | None]]:
    from prometheus_client.samples import Exemplar

    for at, (bound, count) in enumerate(zip(_LE, accumulate(one.buckets), strict=True)):
        shown = one.exemplars.get(at)
        yield bound, float(count), Exemplar(*shown) if shown is not None else None


def added(many: Iterable[Iterable[Family]]) -> list[Family]:
    """The families of several processes, each the sum of all."""
    found: dict[str, Family] = {}
    for families in many:
        for one in families:
            sum_of = found.setdefault(one.name, Family(one.name, one.kind, one.meaning, one.labels))
            for labels, value in one.values.items():
                sum_of.add(labels, value)
            for labels, distribution in one.distributions.items():
                sum_of.add_distribution(labels, distribution)
    return list(found.values())


def lasting(families: Iterable[Family]) -> list[Family]:
    """What stays of a process that has ended: what it has counted. The values of gauges go with it."""
    return [
        one if one.kind in ("counter", "histogram") else Family(one.name, one.kind, one.meaning, one.labels)
        for one in families
    ]


def dumped(families: Iterable[Family]) -> list[Any]:
    """For JSON."""
    return [
        [
            one.name, one.kind, one.meaning, one.labels, list(one.values.items()),
            [
                [labels, each.buckets, each.total, list(each.exemplars.items())]
                for labels, each in one.distributions.items()
            ],
        ]
        for one in families
    ]  # fmt: skip


def loaded(data: Iterable[Any]) -> list[Family]:
    """What `dumped` made, in another process of the same version. Errors: `ValueError`, `TypeError`."""
    return [
        Family(
            name, kind, meaning, tuple(labels), {tuple(key): value for key, value in values},
            {
                tuple(key): Distribution(list(buckets), total, {at: (dict(x[0]), x[1], x[2]) for at, x in exemplars})
                for key, buckets, total, exemplars in distributions
            },
        )
        for name, kind, meaning, labels, values, distributions in data
    ]  # fmt: skip


def to_json(found: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(found, separators=(",", ":")).encode() + b"\n"
