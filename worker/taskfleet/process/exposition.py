"""The text of a scrape: OpenMetrics when it is asked for, which has exemplars, else the older format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector


def exposition(collector: Collector, accept: str = "") -> tuple[bytes, str]:
    """The text that Prometheus scrapes, and its content type, for this `Accept` header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        encoder, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        encoder, content_type = choose_encoder("")
    return encoder(registry), content_type
