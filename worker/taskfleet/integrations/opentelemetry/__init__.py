"""OpenTelemetry: `instrument(queue)` makes spans and metrics of every enqueue and run. docs/how-to/tracing.md."""

from __future__ import annotations

import importlib.util
import re

_LEAST = (1, 30)  # since this version a histogram may advise its buckets


def _check() -> None:
    # `opentelemetry` alone is a folder of many packages, some of which are no API.
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.trace") is None:
        raise ImportError(
            "taskfleet.integrations.opentelemetry needs opentelemetry-api: pip install 'taskfleet[otel]'",
            name="opentelemetry",
        )
    from importlib.metadata import version

    found = version("opentelemetry-api")
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < _LEAST:
        least = ".".join(map(str, _LEAST))
        raise ImportError(
            f"taskfleet.integrations.opentelemetry needs opentelemetry-api {least} or newer, and {found} is installed: "
            "pip install --upgrade 'taskfleet[otel]'"
        )


_check()

from taskfleet.integrations.opentelemetry.instrumenting import instrument  # noqa: E402

__all__ = ["instrument"]
