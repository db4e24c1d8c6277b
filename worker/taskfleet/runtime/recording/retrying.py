"""Retries: whether a failed run is tried again, and after which delay. It is safe for any error and any options."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from taskfleet.protocol import call_settings
from taskfleet.protocol.partitions import Partition
from taskfleet.retry import DEFAULT_RETRY, MAX_SECONDS, Retry, RetryLater, seconds_of_delay
from taskfleet.runtime.executors.process_answers import ChildError, class_name
from taskfleet.runtime.state.job import Job


def is_wanted(job: Job, error: BaseException, now: Callable[[Partition], float]) -> bool:
    """Whether the options of the task and the call allow another run.

    `now` gives the time (s) of a partition's Redis.
    """
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
    """`isinstance` that also works for an exception of another process, and for a list of classes or a single one."""
    several: tuple[Any, ...] = tuple(kinds) if isinstance(kinds, Iterable) else (kinds,)
    if type(error) is ChildError:
        return any(class_name(kind) in error.classes for kind in several)
    try:
        return isinstance(error, several)
    except Exception:
        # When an entry is no class, or its `__instancecheck__` raises, the MRO of the error decides.
        return any(kind in type.mro(type(error)) for kind in several)


def delay_seconds(job: Job, error: BaseException) -> float:
    """The delay (s) that the error asks for, or else the delay of the retry policy of the call or the task."""
    asked = _requested_delay(error)
    if asked is not None:
        return asked
    with contextlib.suppress(Exception):
        seconds = float(_policy_of(job).seconds(job.attempt))
        if seconds >= 0.0:
            return min(seconds, MAX_SECONDS)
    return DEFAULT_RETRY.seconds(job.attempt)


def _requested_delay(error: BaseException) -> float | None:
    kind = type(error)
    if kind is not ChildError and not issubclass(kind, RetryLater):
        return None
    try:
        # A subclass may set the attribute itself, or not at all.
        return seconds_of_delay(error.delay)  # type: ignore[attr-defined]
    except Exception:
        return None


def _policy_of(job: Job) -> Retry:
    own = job.setting(call_settings.RETRY_POLICY, None)
    with contextlib.suppress(TypeError, ValueError):
        if own is not None:
            return Retry(*own)
    return job.definition.options.retry
