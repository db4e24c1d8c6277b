"""What-if: what the autoscaler's decision says to the recorded samples with changed settings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from taskfleet.history import DecisionRecord
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.scalers import WhatIfAnswer, WhatIfPoint
from taskfleet_dashboard.refusals import Refused
from taskfleet_operator.autoscaler.replay import ReplayedDecision, replay


async def what_if_answer(records: Sequence[DecisionRecord], changes: Mapping[str, Any]) -> WhatIfAnswer:
    """The replay of an hour. Errors: `Refused` for settings that a TaskQueue could not have."""
    try:
        # A thousand decisions take a while, in which others want their answers.
        found = await asyncio.to_thread(replay, records, changes)
    except ValueError as error:
        raise Refused(422, str(error)) from None
    points = [
        WhatIfPoint(
            at=each.at,
            replicas=each.current,
            desired=each.desired,
            would=each.would,
            reason=text.line(each.reason),
            message=text.line(each.message),
        )
        for each in found
    ]
    return WhatIfAnswer(points=points, summary=summary(found))


def summary(found: Sequence[ReplayedDecision]) -> str:
    """The replay in sentences: the most workers and the mean, as they would have been and as they were."""
    if not found:
        return "No recorded decision can be read."
    other = sum(1 for each in found if each.would != each.desired)
    held = sum(1 for each in found if each.limited_by == "TooManyReplicas")
    told = f" maxReplicas would have held {held} of the {len(found)} back." if held else ""
    if not other:
        return f"All {len(found)} decisions of the hour would have been the same.{told}"
    was, would = [each.desired for each in found], [each.would for each in found]
    most = _beside(str(max(would)), str(max(was)))
    return (
        f"{other} of {len(found)} decisions would have been {'another' if other == 1 else 'others'}: at most {most}, "
        f"{_beside(_mean(would), _mean(was))} on average.{told} The backlog is the recorded one: it would have fallen "
        "faster with more workers, and slower with fewer."
    )


def _beside(would: str, was: str) -> str:
    workers = "worker" if would == "1" else "workers"
    return f"{would} {workers} as before" if would == was else f"{would} {workers} in place of {was}"


def _mean(numbers: Sequence[int]) -> str:
    return f"{sum(numbers) / len(numbers):.1f}"
