"""Whether and when a run that failed is tried again, whatever its error and its task's options are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from taskfleet.protocol import call_settings
from taskfleet.protocol.partitions import Partition
from taskfleet.retry import DEFAULT_RETRY, MAX_SECONDS, Retry, RetryLater, seconds_of_delay
from taskfleet.runtime.job import Job
from taskfleet.runtime.process_child import class_name
from taskfleet.runtime.process_executor import ChildError


def is_wanted(job: Job, error: BaseException, now: Callable[[Partition], float]) -> bool:
    """Whether the options of the task and of the call let it run again. `now`: the time in s where a queue lives."""
    options = job.definition.options
    max_age = job.setting(call_settings.MAX_AGE, options.max_age)
    if max_age is not None and now(job.partition) - job.envelope.enqueued_ms / 1000 > max_age:
        return False
    if options.never_retry and is_any(error, options.never_retry):
        return False
    if job.attempt <= job.setting(call_settings.MAX_RETRIES, options.max_retries):
        return True
    return bool(options.always_retry) and is_any(error, options.always_retry)


def is_any(error: BaseException, kinds: Any) -> bool:
    """`isinstance`, also for an exception of another process, and for kinds that are in a list or stand alone."""
    several: tuple[Any, ...] = tuple(kinds) if isinstance(kinds, Iterable) else (kinds,)
    if type(error) is ChildError:
        return any(class_name(kind) in error.classes for kind in several)
    try:
        return isinstance(error, several)
    except Exception:
        # What is no class, or a class with an answer of its own that fails: the plain answer decides.
        return any(kind in type.mro(type(error)) for kind in several)


def delay_seconds(job: Job, error: BaseException) -> float:
    """How long to wait: what the error asks for, or else what the policy of the call or of the task says."""
    asked = _asked(error)
    if asked is not None:
        return asked
    with contextlib.suppress(Exception):
        seconds = float(_policy_of(job).seconds(job.attempt))
        if seconds >= 0.0:
            return min(seconds, MAX_SECONDS)
    return DEFAULT_RETRY.seconds(job.attempt)


def _asked(error: BaseException) -> float | None:
    kind = type(error)
    if kind is not ChildError and not issubclass(kind, RetryLater):
        return None
    try:
        # A subclass that sets it itself, or nothing, asks for whatever is there.
        return seconds_of_delay(error.delay)  # type: ignore[attr-defined]
    except Exception:
        return None


def _policy_of(job: Job) -> Retry:
    own = job.setting(call_settings.RETRY_POLICY, None)
    with contextlib.suppress(TypeError, ValueError):
        if own is not None:
            return Retry(*own)
    return job.definition.options.retry
