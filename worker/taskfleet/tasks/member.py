"""A member: a part of a workflow as type checkers see it. Messages, class tasks and workflows are members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskfleet import type_variables
from taskfleet.handles import TaskHandle

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)
Handle_co = TypeVar("Handle_co", covariant=True)
# `Task` alone is one with any result.
Result_co = type_variables.TypeVar("Result_co", covariant=True, default=Any)


class NoTaskBefore:
    """The input of a workflow that starts by itself. No value has this type: a member that needs an input cannot start.

    A member without a first argument to fill takes any input (`object`), also this one.
    """


class Member(Generic[Input_contra, Output_co, Handle_co]):
    """What a member takes from the task before it, what it passes on, and the handle that enqueueing it gives."""

    __slots__ = ()


class TaskCall(Member[Input_contra, Output_co, TaskHandle[Output_co]], Generic[Input_contra, Output_co]):
    """A member that is one task: a message or a class task."""

    __slots__ = ()


class TypedResult(TaskCall[object, Result_co], Generic[Result_co]):
    """The result type of a class task, for type checkers only.

    Pydantic would make a separate class of `Task[int]`, a task without an `execute`, and would want the type variable
    of the result among those of a generic task's fields.
    """

    if not TYPE_CHECKING:
        __slots__ = ()

        def __class_getitem__(cls, result: Any) -> Any:
            return cls
