"""The workers, and what can be done with one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from taskfleet_dashboard.answers.answer import DoneAnswer
from taskfleet_dashboard.answers.fleet import WorkersAnswer
from taskfleet_dashboard.routes.asking import Changing, Viewing

Name = Annotated[str, Path(max_length=1000, description="The name of the worker: in a cluster, that of its pod.")]

router = APIRouter(prefix="/workers", tags=["fleet"])


@router.get("")
async def workers(visit: Viewing) -> WorkersAnswer:
    """The workers that live, and what they run."""
    return await visit.desk.workers()


@router.post("/{name}/cordon")
async def cordon(visit: Changing, name: Name) -> DoneAnswer:
    """Let a worker claim nothing more, for a day or until it is uncordoned; its tasks go on.

    Its state is `cordoned`, and `drained` when it runs nothing any more. Autoscalers leave such a cordon alone.
    """
    return await visit.changes.cordon(name)


@router.post("/{name}/uncordon")
async def uncordon(visit: Changing, name: Name) -> DoneAnswer:
    """Let it claim again. A cordon of an autoscaler, which is about to remove it, stays."""
    return await visit.changes.uncordon(name)
