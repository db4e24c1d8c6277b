"""The hook by which a histogram gets an example of what it counts: the trace of one run.

Whoever traces sets `source`; the library itself traces nothing. Prometheus gets the labels when it scrapes
OpenMetrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from taskfleet import showing

Source = Callable[[], Mapping[str, str] | None]

source: Source | None = None
"""Returns the labels of the run that ends now, such as `{"trace_id": "…"}`, or None. It is called in the context of the
run, on the worker's loop, once for each run; an error of it counts as None."""

MOST_CHARACTERS = 128  # of all names and values together: OpenMetrics, section "Exemplars"


def exemplar() -> dict[str, str] | None:
    """The labels for the run that ends now, None without any that OpenMetrics allows."""
    if source is None:
        return None
    try:
        given = source()
        if not given:
            return None
        labels = {str(name): showing.shown(str(value), MOST_CHARACTERS) for name, value in given.items()}
    except Exception:
        return None
    fits = sum(len(name) + len(value) for name, value in labels.items()) <= MOST_CHARACTERS
    return labels if fits and all(name.isidentifier() and name.isascii() for name in labels) else None
