"""The record of changes: who did what, when, and how it came out. It never holds a payload."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from taskfleet import showing
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.noting import AUDIT_ENTRIES
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.scalers import AuditAnswer, AuditRow
from taskfleet_dashboard.refusals import Refused

logger = showing.logger("taskfleet.dashboard.audit")

_TOGETHER = 50


class Audit:
    """Writes and reads it: a list in Redis of at most 5,000 entries, and a line of the log for each."""

    async def note(
        self, broker: RedisBroker, *, user: str, action: str, subject: str, detail: str = "", outcome: str = "done"
    ) -> None:
        """Add an entry."""
        row = AuditRow(
            at=datetime.now(UTC),
            user=text.line(user),
            action=action,
            subject=text.line(subject),
            detail=text.line(detail),
            outcome=text.line(outcome),
        )
        about = f"{row.subject} ({row.detail})" if row.detail else row.subject
        logger.info("%s: %s %s: %s", row.user or "somebody", row.action, about, row.outcome)
        await broker.note_change(row.model_dump_json().encode("utf-8", "replace"))

    async def page(self, broker: RedisBroker, cursor: str | None) -> AuditAnswer:
        """Some entries, the latest first. Errors: `Refused` for a cursor that is none."""
        offset = 0
        if cursor is not None:
            if not (cursor.isascii() and cursor.isdigit() and int(cursor[:9]) <= AUDIT_ENTRIES):
                raise Refused(422, "cursor is none of this listing; pass the one of the page before it")
            offset = int(cursor[:9])
        found = await broker.noted_changes(offset, _TOGETHER)
        more = str(offset + len(found)) if len(found) == _TOGETHER else None
        return AuditAnswer(items=[_row(each) for each in found], cursor=more)


def _row(entry: bytes) -> AuditRow:
    """An entry; what another program has written is shown as that."""
    try:
        known: dict[str, Any] = json.loads(entry[:20_000])
        row = AuditRow.model_validate({name: known.get(name) for name in AuditRow.model_fields})
    except (ValueError, RecursionError, AttributeError):
        return AuditRow(
            at=datetime.fromtimestamp(0, UTC), user="", action="unreadable", subject="", outcome="",
            detail=text.line(entry[:200].decode("utf-8", "backslashreplace")),
        )  # fmt: skip
    cleaned = {name: text.line(getattr(row, name)) for name in ("user", "action", "subject", "detail", "outcome")}
    return row.model_copy(update=cleaned)
