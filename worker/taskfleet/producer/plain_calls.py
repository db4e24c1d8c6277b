"""Bulks of plain calls of one task: nothing but arguments is sent, so no message and no handle is made for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from taskfleet.handles import HandleFactory, TaskHandle
from taskfleet.protocol import envelope
from taskfleet.protocol.partitions import Partition
from taskfleet.tasks.definition import Definition
from taskfleet.travel.value import Value

R_co = TypeVar("R_co", covariant=True)


class Handles(Sequence[TaskHandle[R_co]], Generic[R_co]):
    """The handles of a bulk, in its order. Each is made when it is asked for."""

    def __init__(self, make: HandleFactory, ids: Sequence[str], partition: Partition, result: Value) -> None:
        self._make = make
        self._ids = ids
        self._partition = partition
        self._result = result

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> TaskHandle[R_co]: ...

    @overload
    def __getitem__(self, index: slice) -> Handles[R_co]: ...

    def __getitem__(self, index: int | slice) -> TaskHandle[R_co] | Handles[R_co]:
        if isinstance(index, slice):
            return Handles(self._make, self._ids[index], self._partition, self._result)
        return self._make(self._ids[index], self._partition, self._result)

    def __iter__(self) -> Iterator[TaskHandle[R_co]]:
        make, partition, result = self._make, self._partition, self._result
        return (make(each, partition, result) for each in self._ids)

    def __repr__(self) -> str:
        return f"<{len(self)} handles, queue={self._partition!r}>"


def envelopes(
    task: Definition,
    calls: Sequence[tuple[Any, ...]],
    settings: dict[str, Any] | None,
    most_bytes: int,
    most_together: int,
) -> list[bytes] | None:
    """The envelopes of calls whose arguments all have the plain types of their parameters, as `Message.encode` makes.

    `None` when a call is not so, has more than `most_bytes`, or is refused by messagepack, and when all have more than
    `most_together`: messages tell each such case apart.
    """
    plain = task.signature.plain
    if plain is None or (calls and set(map(_types, calls)) != {plain}):
        return None
    head, tail = envelope.around_arguments(task.name, settings)
    pack = envelope.packer()
    found: list[bytes] = []
    try:
        for args in calls:
            blob = head + pack([*args]) + tail
            most_together -= len(blob)
            if most_together < 0:
                return None  # at once, since the calls may share one large argument, and their envelopes do not
            found.append(blob)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if max(map(len, found), default=0) <= most_bytes else None


def _types(args: tuple[Any, ...]) -> tuple[type, ...]:
    return tuple(map(type, args))
