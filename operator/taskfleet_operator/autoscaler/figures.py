"""The figures behind a decision, by name, for metrics and status."""

from __future__ import annotations

from collections.abc import Mapping

from ..resource.autoscaler_spec import AutoscalerSpec
from .queue_terms import start_seconds
from .recommend import Wanted
from .sample import FleetSample


def describe(sample: FleetSample, wanted: Wanted, spec: AutoscalerSpec, *, panicking: bool) -> Mapping[str, float]:
    """The terms of the whole TaskQueue. Slots and tasks are sums over its queues, times are the longest of a queue."""
    queues = wanted.queues
    return {
        "arrivals_per_second": sum(terms.arrivals_per_second for terms in queues),
        "panic_arrivals_per_second": sum(terms.panic_arrivals_per_second for terms in queues),
        "service_seconds": max((terms.service_seconds for terms in queues), default=0.0),
        "effective_drain_seconds": max((terms.drain_seconds for terms in queues), default=0.0),
        "start_latency_seconds": start_seconds(sample.start_latency_seconds, spec),
        "backlog": float(sample.backlog),
        "in_flight": float(sample.in_flight),
        "due": float(sum(queue.due for queue in sample.queues)),
        "oldest_age_seconds": max((queue.oldest_age_seconds for queue in sample.queues), default=0.0),
        "steady_slots": wanted.steady_slots,
        "drain_slots": wanted.drain_slots,
        "late_slots": sum(terms.late_slots for terms in queues),
        "slots": wanted.slots,
        "slots_per_replica": float(sample.slots_per_replica),
        "recommended_replicas": float(wanted.replicas),
        "panic_replicas": float(wanted.panic_replicas),
        "busy_workers": float(sample.busy_workers),
        "panicking": 1.0 if panicking else 0.0,
    }
