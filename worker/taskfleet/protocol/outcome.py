"""An outcome: how one delivery of a task ended, as a worker reports it and lua/step.lua records it.

An outcome is a plain tuple, since a worker makes one for every task and a named tuple costs three times as much. Code
unpacks it, or reads it by the indexes below.
"""

from __future__ import annotations

from typing import Any, Final

Outcome = tuple[str, int, str, int, bytes, int, Any]
"""Task id, delivery, code, busy time in ms, result record, its time to live in ms, and an extra that the code
defines."""

OUTCOME_ID: Final = 0
OUTCOME_DELIVERY: Final = 1
OUTCOME_CODE: Final = 2
OUTCOME_BUSY_MS: Final = 3
OUTCOME_RESULT: Final = 4
OUTCOME_TTL_MS: Final = 5
OUTCOME_EXTRA: Final = 6

# Codes. If the task was cancelled in the meantime, the result record of the last four, or the extra of an expiry, is
# recorded in place of the outcome.
SUCCEEDED: Final = "s"
CANCELLED: Final = "c"
EXPIRED: Final = "x"
RETRIED: Final = "r"  # extra: (delay in ms until the next attempt, error record), or only the delay
RETURNED: Final = "n"  # handed back unstarted or unfinished; extra: delay in ms
FAILED: Final = "f"  # a dead letter, its retries used up; extra: the error record
DEAD: Final = "d"  # a dead letter that could not be run; extra: the error record

NAMES = {
    SUCCEEDED: "succeeded",
    CANCELLED: "cancelled",
    EXPIRED: "expired",
    RETRIED: "retried",
    RETURNED: "returned",
    FAILED: "failed",
    DEAD: "dead",
}
