"""What a fleet tells of its looks: the status of its TaskQueue, Events, and figures for the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from taskfleet import showing
from taskfleet.fleet_metrics import FleetFigures

from ...autoscaler import ScalingDecision
from ...children.names import selector
from ...resource.taskqueue import TaskQueueResource
from ...scaling.clock import ScalingClock
from ...scaling.port import Look
from ..api.kubernetes_api import ApiError
from ..monitoring.loop_figures import LoopFigures, QueueFigures
from ..status.conditions import rfc3339
from ..status.events import EventPoster
from ..status.reachability import Reachability
from ..status.status_fields import fields_of
from ..status.status_teller import StatusTeller
from ..status.verdicts import Facts, verdicts
from ..store.cluster_store import Key


class FleetReport:
    """The reports of one TaskQueue's fleet. Nothing in it is waited for."""

    def __init__(
        self,
        key: Key,
        clock: ScalingClock,
        teller: StatusTeller,
        events: EventPoster,
        figures: LoopFigures,
    ) -> None:
        self._key = key
        self._clock = clock
        self._teller = teller
        self._events = events
        self._figures = figures
        self._told: dict[str, Any] = {}  # the field `autoscaler` of status
        self._dead: int | None = None  # tasks that have failed for good, at the last look
        self._reachability = Reachability()

    def begin(self, told: Mapping[str, Any]) -> None:
        """Go on from the field `autoscaler` that an earlier operator has written."""
        self._told = dict(told)

    def other_redis(self) -> None:
        """Forget how well the Redis before could be reached."""
        self._reachability = Reachability()

    def resized(self, decision: ScalingDecision, replicas: int) -> None:
        """Tell of a number that was set: by an Event, and in `lastDecision`."""
        current = decision.current
        self._figures.count_change(self._key, current, replicas)
        reason = "ScaledUp" if replicas > current else "ScaledDown"
        limit = f" (limited by {decision.limited_by})" if decision.limited_by else ""
        self._events.post(reason, f"{current} → {replicas}  {decision.reason}: {decision.message}{limit}")
        self._told["lastDecision"] = self._change(decision, replicas)
        self._told["lastScaleTime"] = self._told["lastDecision"]["time"]

    def tell(
        self,
        look: Look,
        decision: ScalingDecision,
        resource: TaskQueueResource,
        *,
        asked: int,
        trouble: tuple[str, str] | None,
        shared: str,
    ) -> None:
        """Have the status written, and Events posted.

        `asked` is the number of replicas that is asked for now, `trouble` why pods do not start, `shared` who shares
        the queues.
        """
        if decision.advice and decision.changed:
            self._recommend(decision)
        self._told["lastActiveTime"] = rfc3339(self._clock.wall(decision.state.last_active))
        if decision.state.panic_until:
            self._told["panicUntil"] = rfc3339(self._clock.wall(decision.state.panic_until))
        self._count(look, decision)
        fields = fields_of(
            decision,
            look.reading,
            [target.name for target in look.order.queues],
            replicas=len(look.replicas.ages),
            ready=look.replicas.ready,
            selector=",".join(f"{name}={value}" for name, value in selector(resource).items()),
            autoscaler=self._told,
        )
        self._reachability.saw(look.sample.failure, self._clock.now())
        facts = Facts(
            decision,
            look.sample,
            resource,
            asked,
            len(look.replicas.ages),
            failure=self._reachability.failure,
            flapping=self._reachability.flapping,
            notice=look.notice,
            trouble=trouble,
            shared=shared,
            rollout=look.replicas.hold,
            dead=fields.get("totalDead"),
            refused=_refusal(look.refused),
        )
        self._warn(look, trouble)
        conditions = [replace(one, generation=resource.metadata.generation) for one in verdicts(facts)]
        self._teller.tell(fields, conditions)

    def close(self) -> list[asyncio.Task[Any]]:
        """Tell nothing any more. Returns what is on its way."""
        telling = self._teller.close()
        return [*self._events.close(), *([telling] if telling is not None else [])]

    def _count(self, look: Look, decision: ScalingDecision) -> None:
        if look.reading is not None:  # else it tells how long a Redis that does not answer was waited for
            self._figures.lag.add(look.lag_seconds)
        self._figures.decisions[decision.reason] += 1
        self._figures.queues[self._key] = QueueFigures(
            decision.desired,
            decision.current,
            decision.reason,
            decision.limited_by,
            bool(look.sample.failure),
            decision.terms,
            self._fleet_of(look),
            refused=look.refused is not None,
        )

    def _fleet_of(self, look: Look) -> FleetFigures | None:
        """The reading as the metrics show it, of heartbeats those of this fleet."""
        if look.reading is None:
            return None
        order = look.order
        every = float(order.autoscaler.target.drain_seconds)
        return FleetFigures(
            owner=self._key,
            queues={target.name: look.reading.stats[target.name] for target in order.queues},
            workers=[one for name in look.replicas.ages for one in look.reading.workers.get(name, ())],
            serving=look.reading.serving,
            targets={target.name: target.target_latency_seconds or every for target in order.queues},
        )

    def _warn(self, look: Look, trouble: tuple[str, str] | None) -> None:
        """Post Events about pods that do not start, and about tasks that have failed for good since the last look."""
        if trouble is not None:
            self._events.warn(*trouble)
        if look.reading is None:
            return
        stats = {target.name: look.reading.stats[target.name] for target in look.order.queues}
        failed = sum(one.failed_total for one in stats.values())
        grown = failed - (failed if self._dead is None else self._dead)
        if grown > 0:
            most = max(stats, key=lambda name: stats[name].dead)
            message = f"{grown} more tasks have failed for good; `taskfleet dead list {most}` shows them"
            if not self._events.warn("DeadLetters", message):
                return  # they are told with those that follow
        self._dead = failed

    def _recommend(self, decision: ScalingDecision) -> None:
        """Tell a decision that nobody carries out. One that asks for the same, for the same reason, is no news."""
        change = self._change(decision, decision.desired)
        before = self._told.get("lastDecision") or {}
        if any(change.get(name) != before.get(name) for name in ("from", "to", "reason", "limitedBy")):
            self._told["lastDecision"] = change

    def _change(self, decision: ScalingDecision, replicas: int) -> dict[str, Any]:
        """A change of the number, as `status.autoscaler.lastDecision` has it."""
        told: dict[str, Any] = {
            "time": rfc3339(self._clock.wall(self._clock.now())),
            "from": decision.current,
            "to": replicas,
            "reason": decision.reason,
            "message": showing.shown(decision.message, 1000),
        }
        return told | ({"limitedBy": decision.limited_by} if decision.limited_by else {})


def _refusal(error: Exception | None) -> str:
    """What a status should say about an error in carrying out a decision; nothing about one that passes by itself."""
    if not isinstance(error, ApiError) or error.conflict or error.status in (0, 401, 404, 429) or error.status >= 500:
        return ""
    return str(error)
