"""`taskfleet doctor`: finds and repairs broken invariants of the queues."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from taskfleet.cli import asking, listing
from taskfleet.cli.connecting import REDIS, with_queue
from taskfleet.cli.listing import Column
from taskfleet.cli.queues import JSON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskfleet.doctor.finding import Diagnosis
    from taskfleet.queue import TaskQueue
    from taskfleet.redis.broker import RedisBroker

_ROUNDS = 5  # a repair may bring something to light, such as a task that is parked now
_LISTED = 200  # lines of a table; --json has all

_COLUMNS: list[Column[Diagnosis]] = [
    Column("severity", lambda finding: finding.severity),
    Column("code", lambda finding: finding.code),
    Column("queue", lambda finding: finding.queue or "-"),
    Column("subject", lambda finding: finding.subject or "-"),
]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor(  # pyright: ignore[reportUnusedFunction]
        repair: bool = typer.Option(False, "--repair", help="Repair what can be repaired; asks first."),
        yes: bool = asking.YES,
        redis: str = REDIS,
        as_json: bool = JSON,
    ) -> int:
        """Look for broken invariants of the queues, and for dangers of this Redis. Exit code 1: something is broken."""

        async def examine(queue: TaskQueue) -> int:
            from taskfleet.doctor import checkup
            from taskfleet.errors import ConfigurationError
            from taskfleet.redis.broker import RedisBroker

            if not isinstance(queue.broker, RedisBroker):
                raise ConfigurationError("doctor looks at a Redis, and these queues are in memory")
            known = [options.name for options in queue.application.queue_options]
            found = await checkup.look(queue.broker, known)
            _show(found.findings, as_json=as_json)
            mendable = [finding for finding in found.errors if finding.is_mendable]
            if not repair or not mendable:
                return 1 if found.errors else 0
            asking.ask(f"Repair {_findings(len(mendable))}", yes=yes)
            await _repair(queue.broker, mendable)
            for _ in range(_ROUNDS):
                found = await checkup.look(queue.broker, known)
                again = [finding for finding in found.errors if finding.is_mendable and finding not in mendable]
                if not again:
                    break
                mendable = again
                await _repair(queue.broker, again)
            if found.errors:
                print(f"taskfleet: {_findings(len(found.errors))} left: see `taskfleet doctor`", file=sys.stderr)
            return 1 if found.errors else 0

        return with_queue(redis, examine)


def _show(findings: Sequence[Diagnosis], *, as_json: bool) -> None:
    if as_json:
        listing.show(findings, _COLUMNS, lambda finding: finding.record(), as_json=True, none="")
        return
    for finding in findings[:_LISTED]:
        print(_line(finding))
    if len(findings) > _LISTED:
        print(f"and {len(findings) - _LISTED} more; --json has all", file=sys.stderr)
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        print(f"{_findings(errors)} broken; --repair repairs what can be repaired", file=sys.stderr)
    else:
        print("no invariant is broken", file=sys.stderr)


def _line(finding: Diagnosis) -> str:
    """Two lines of a finding: what is wrong, and what to do."""
    from taskfleet.showing import shown

    where = f" of queue {finding.queue}" if finding.queue and finding.queue != finding.subject else ""
    who = f" {shown(finding.subject)}{where}" if finding.subject or where else ""
    verb = "repair" if finding.is_mendable else "do"
    return f"{finding.severity}: {finding.code}{who}: {shown(finding.what)}\n    {verb}: {shown(finding.repair)}"


async def _repair(broker: RedisBroker, findings: Sequence[Diagnosis]) -> None:
    from taskfleet.doctor import checkup
    from taskfleet.showing import shown

    told = {"repaired": "repaired", "gone": "not broken any more", "stays": "cannot be repaired"}
    async for finding, outcome in checkup.repair(broker, findings):
        print(f"{told[outcome]}: {finding.code} {shown(finding.subject)}: {shown(finding.repair)}", file=sys.stderr)


def _findings(number: int) -> str:
    return f"{number} invariant{'' if number == 1 else 's'}"
