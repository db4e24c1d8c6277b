"""Whether a span would be dropped for sure, so that none of it has to be made."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import SpanContext, Tracer

_FOLLOWS = ("remoteParentNotSampled:AlwaysOffSampler", "localParentNotSampled:AlwaysOffSampler")

_NO_ROOT = ("AlwaysOffSampler", "ParentBased{root:AlwaysOffSampler,")


class Sampling:
    """Asks the sampler of a tracer, once for each: by its description, which is public."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer: Any = tracer
        self._asked: Any = None
        self._follows = False
        self._drops_roots = False

    def unsampled_root(self) -> str:
        """The `traceparent` of a new trace that the sampler drops whatever it is; '' when it might keep one."""
        real = getattr(self._tracer, "_tracer", self._tracer)
        sampler = getattr(real, "sampler", None)
        if sampler is None:
            return ""
        if sampler is not self._asked:
            self._ask(sampler)
        if not self._drops_roots:
            return ""
        ids = real.id_generator
        return f"00-{ids.generate_trace_id():032x}-{ids.generate_span_id():016x}-00"

    def drops(self, parent: SpanContext | None) -> bool:
        """Whether a span below `parent` is not kept: there is no SDK, or the sampler follows a parent that is not."""
        # A tracer of the API stands for that of the SDK, which may be set up later.
        if parent is not None and not parent.trace_flags & 1:
            return self.drops_unsampled()
        real = getattr(self._tracer, "_tracer", self._tracer)
        return getattr(real, "sampler", None) is None and not _may_record(real)

    def drops_unsampled(self) -> bool:
        """Whether a span below one that is not sampled is not kept."""
        real = getattr(self._tracer, "_tracer", self._tracer)
        sampler = getattr(real, "sampler", None)
        if sampler is None:
            return not _may_record(real)
        if sampler is not self._asked:
            self._ask(sampler)
        return self._follows

    def _ask(self, sampler: Any) -> None:
        description = _description(sampler)
        self._asked = sampler
        self._follows = description.startswith("ParentBased{") and all(text in description for text in _FOLLOWS)
        self._drops_roots = description.startswith(_NO_ROOT)


def _may_record(tracer: Any) -> bool:
    """Whether a tracer without a sampler is that of some other SDK."""
    return not type(tracer).__module__.startswith("opentelemetry.trace")


def _description(sampler: Any) -> str:
    try:
        return str(sampler.get_description())
    except Exception:
        return ""
