"""The checks of a TaskQueue that the schema cannot express, for the reconciler, the webhook and `validate`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from taskfleet.errors import ConfigurationError
from taskfleet.redis import urls
from taskfleet.scheduling.cron import Cron

from .taskqueue import TaskQueueSpec


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a field. `warning`: it may be put right elsewhere, such as by creating a secret."""

    field: str
    message: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def check(spec: TaskQueueSpec) -> list[Finding]:
    """All findings, in the order of the fields."""
    return [*_redis(spec), *_schedules(spec)]


def _redis(spec: TaskQueueSpec) -> Iterator[Finding]:
    if spec.redis.url is not None:
        try:
            urls.parse(spec.redis.url)
        except ConfigurationError as error:
            yield Finding("spec.redis.url", str(error))
    for block, one in (("sentinel", spec.redis.sentinel), ("cluster", spec.redis.cluster)):
        for number, address in enumerate(one.addresses if one is not None else ()):
            try:
                urls.parse_hosts([address], "standalone", f"address {address!r}")
            except ConfigurationError as error:
                yield Finding(f"spec.redis.{block}.addresses[{number}]", str(error))


def _schedules(spec: TaskQueueSpec) -> Iterator[Finding]:
    for number, schedule in enumerate(spec.schedules):
        path = f"spec.schedules[{number}]"
        try:
            Cron(schedule.schedule, "UTC")
        except ConfigurationError as error:
            yield Finding(f"{path}.schedule", str(error))
        try:
            Cron("@daily", schedule.time_zone)
        except ConfigurationError as error:
            yield Finding(f"{path}.timeZone", str(error))
