"""What chains, groups and chords are: members that are sent together. workflows.py makes and compiles them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, TypeAlias

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.tasks.member import Handle_co, Input_contra, Member, Output_co

AnyMember: TypeAlias = Member[Any, Any, Any]


class Workflow(Member[Input_contra, Output_co, Handle_co]):
    """A chain, a group or a chord: `await queue.enqueue(workflow)`."""

    members: tuple[AnyMember, ...]

    def __init__(self, members: Iterable[AnyMember], kind: str) -> None:
        found = checks.several(f"{kind}() members", members, "task.message(…)")
        if not found:
            raise ConfigurationError(f"{kind}() needs at least one member")
        for member in found:  # a caller without a type checker may pass any value
            if not isinstance(member, Member):
                if inspect.iscoroutine(member):
                    member.close()
                raise ConfigurationError(
                    f"{kind}(): {checks.a_thing(member)} is no member; give task.message(…), a class task, a workflow"
                )
        self.members = tuple(found)
