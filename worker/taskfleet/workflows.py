"""Workflows: tasks that wait for other tasks. A chain, a group, a chord, or any graph with `after=[handle, …]`.

A workflow is compiled to nodes, each with the nodes that it waits for. All nodes are sent at once (workflow_sender.py),
waiting ones first. When a task succeeds, the script that records its outcome also counts down the tasks that wait for
it, so a callback is released exactly once, however often a worker dies. When a task ends without success, all tasks
after it are cancelled, and their error names the cause.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, overload

from taskfleet import ids
from taskfleet.errors import ConfigurationError
from taskfleet.handles import GroupHandle, TaskHandle
from taskfleet.tasks import class_tasks
from taskfleet.tasks.member import Handle_co, Input_contra, Member, Output_co
from taskfleet.tasks.message import Message
from taskfleet.tasks.workflow import AnyMember, Workflow
from taskfleet.waited_results import Shape

In = TypeVar("In")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
H = TypeVar("H")


class Chain(Workflow[Input_contra, Output_co, Handle_co]):
    """Members run one after the other; each gets the result of the one before as its first argument."""


class Group(Workflow[Input_contra, Output_co, Handle_co]):
    """Members run side by side; a task behind it gets the list of their results, in order."""


# Type checkers compare what each member gives with what the next one takes, in a chain of up to six members.
@overload
def chain(a: Member[In, A, H], /) -> Chain[In, A, H]: ...
@overload
def chain(a: Member[In, A, Any], b: Member[A, B, H], /) -> Chain[In, B, H]: ...
@overload
def chain(a: Member[In, A, Any], b: Member[A, B, Any], c: Member[B, C, H], /) -> Chain[In, C, H]: ...
@overload
def chain(
    a: Member[In, A, Any], b: Member[A, B, Any], c: Member[B, C, Any], d: Member[C, D, H], /
) -> Chain[In, D, H]: ...
@overload
def chain(
    a: Member[In, A, Any], b: Member[A, B, Any], c: Member[B, C, Any], d: Member[C, D, Any], e: Member[D, E, H], /
) -> Chain[In, E, H]: ...
@overload
def chain(
    a: Member[In, A, Any],
    b: Member[A, B, Any],
    c: Member[B, C, Any],
    d: Member[C, D, Any],
    e: Member[D, E, Any],
    f: Member[E, F, H],
    /,
) -> Chain[In, F, H]: ...
@overload
def chain(
    a: Member[In, Any, Any],
    b: AnyMember,
    c: AnyMember,
    d: AnyMember,
    e: AnyMember,
    f: AnyMember,
    /,
    *more: AnyMember,
) -> Chain[In, Any, TaskHandle[Any]]: ...
def chain(*members: AnyMember) -> AnyMember:
    """Run members one after the other, each with the result of the one before as its first argument.

    `task.partial(…)` is a call without its first argument. A class task has no argument to take a result: it only
    waits.
    """
    return Chain(members, "chain")


@overload
def group(a: Member[In, A, Any], /) -> Group[In, list[A], GroupHandle[tuple[A]]]: ...
@overload
def group(a: Member[In, A, Any], b: Member[In, B, Any], /) -> Group[In, list[A | B], GroupHandle[tuple[A, B]]]: ...
@overload
def group(
    a: Member[In, A, Any], b: Member[In, B, Any], c: Member[In, C, Any], /
) -> Group[In, list[A | B | C], GroupHandle[tuple[A, B, C]]]: ...
@overload
def group(
    a: Member[In, A, Any], b: Member[In, B, Any], c: Member[In, C, Any], d: Member[In, D, Any], /
) -> Group[In, list[A | B | C | D], GroupHandle[tuple[A, B, C, D]]]: ...
@overload
def group(
    a: Member[In, A, Any], b: Member[In, B, Any], c: Member[In, C, Any], d: Member[In, D, Any], e: Member[In, E, Any], /
) -> Group[In, list[A | B | C | D | E], GroupHandle[tuple[A, B, C, D, E]]]: ...
@overload
def group(
    a: Member[In, A, Any],
    b: Member[In, B, Any],
    c: Member[In, C, Any],
    d: Member[In, D, Any],
    e: Member[In, E, Any],
    f: Member[In, F, Any],
    /,
) -> Group[In, list[A | B | C | D | E | F], GroupHandle[tuple[A, B, C, D, E, F]]]: ...
@overload
def group(*members: Member[In, A, Any]) -> Group[In, list[A], GroupHandle[tuple[A, ...]]]: ...
def group(*members: AnyMember) -> AnyMember:
    """Run members side by side. The handle's result is the tuple of their results; a task behind them gets a list.

    Up to six members keep the types of their results apart.
    """
    return Group(members, "group")


@overload
def chord(members: Group[In, A, Any], callback: Member[A, B, H]) -> Chain[In, B, H]: ...
@overload
def chord(members: Iterable[Member[In, A, Any]], callback: Member[list[A], B, H]) -> Chain[In, B, H]: ...
def chord(members: AnyMember | Iterable[AnyMember], callback: AnyMember) -> AnyMember:
    """Run members side by side, then `callback` with the list of their results as its first argument.

    Members whose results have different types keep them apart in a group: `chord(group(a, b), callback)`.
    """
    first: AnyMember = members if isinstance(members, Workflow) else Group(members, "chord")  # type: ignore[arg-type]
    return Chain((first, callback), "chord")


@dataclass(eq=False, slots=True)
class Node:
    """One task of a workflow. It waits for the nodes `after`, of which the first `carried` pass their results on."""

    message: Message[Any, Any]
    id: str = field(default_factory=ids.new_id)
    after: list[Node] = field(default_factory=list)
    handles: list[TaskHandle[Any]] = field(default_factory=list)
    carried: int = 0
    shape: Shape = 0
    waited_for: bool = False  # another node takes its result

    @property
    def keeps_existing(self) -> bool:
        """Whether another task that has its unique key stands for the node."""
        return self.message.options.unique_mode == "keep_existing"

    @property
    def waits(self) -> bool:
        return bool(self.after or self.handles)


@dataclass(slots=True)
class WorkflowPlan:
    """The nodes of a workflow, each after those that it waits for. `ends` give the result, nested as in `shape`."""

    nodes: list[Node]
    starts: list[Node]
    ends: list[Node]
    shape: Shape


def compile_workflow(member: AnyMember) -> WorkflowPlan:
    """The nodes of a workflow. Errors: `ConfigurationError`."""
    if isinstance(member, Chain):
        plans = [compile_workflow(each) for each in member.members]
        for before, behind in itertools.pairwise(plans):
            for node in behind.starts:
                _let_wait(node, before)
        return WorkflowPlan(
            [node for plan in plans for node in plan.nodes], plans[0].starts, plans[-1].ends, plans[-1].shape
        )
    if isinstance(member, Workflow):
        plans = [compile_workflow(each) for each in member.members]
        return WorkflowPlan(
            [node for plan in plans for node in plan.nodes],
            [node for plan in plans for node in plan.starts],
            [node for plan in plans for node in plan.ends],
            [plan.shape for plan in plans],
        )
    message: Message[Any, Any] = class_tasks.message_of(member) if class_tasks.is_one(member) else cast("Any", member)
    node = Node(message, handles=list(message.options.after))
    return WorkflowPlan([node], [node], [node], 1)


def _let_wait(node: Node, before: WorkflowPlan) -> None:
    if node.message.unique_key is not None:
        raise ConfigurationError(
            f"task {node.message.task.name!r}: unique_key cannot be used inside a workflow: "
            "what comes after it would wait for a task that was never added"
        )
    node.after = list(before.ends)
    if node.message.takes_result:
        node.carried, node.shape = len(before.ends), before.shape
        for end in before.ends:
            end.waited_for = True
