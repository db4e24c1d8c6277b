"""The results that a task of a workflow has waited for, as its worker gets them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from taskfleet.errors import BadSignatureError, SerializationError
from taskfleet.protocol import result_record, unpacking
from taskfleet.protocol.sealing import PLAIN, Seal
from taskfleet.travel import carried

_BYTES_PER_CONTAINER = 24  # of the results of one first argument, when their sum exceeds the limit of one result

# The nesting of the results of several nodes: 1 is one result, a list is a list of such.
Shape: TypeAlias = "int | list[Any]"


def first_argument(shape: Shape, records: Sequence[bytes], sources: Any = None, seal: Seal = PLAIN) -> Any:
    """The first argument of a task: the results of the tasks that it waited for, from their records.

    Each result keeps its form. `sources` has the queue and the id of the task of each result, where results are sealed.
    """
    if sources is None:
        sources = [("", "")] * len(records)
    elif len(sources) != len(records):
        raise BadSignatureError(f"it waits for {len(sources)} results and was given {len(records)}")
    wanted = _count(shape)
    if len(records) < wanted:
        raise SerializationError(f"it waits for {wanted} results and was given {len(records)}")
    size = sum(map(len, records))
    budget = None
    if size > seal.limit and not seal.requires:
        # Each result may have the full size of one, so the memory for all of them together is bounded, too.
        budget = unpacking.Budget.of_limit(max(2 * seal.limit, size // _BYTES_PER_CONTAINER))
    values = [
        result_record.unpack_result(record, queue=queue, task_id=task_id, seal=seal, budget=budget)
        for record, (queue, task_id) in zip(records, sources, strict=True)
    ]
    return carried.argument(_nest(shape, iter(values)))


def traces_of(records: Sequence[bytes], sources: Any = None, seal: Seal = PLAIN) -> tuple[str, ...]:
    """The `traceparent` that each of the records has; records without one are left out. Their seals were checked."""
    found: list[str] = []
    for position, record in enumerate(records):
        if sources is not None:
            queue, task_id = sources[position]
            record = seal.open("result", queue, task_id, record)
        if trace := result_record.trace_in(record):
            found.append(trace)
    return tuple(found)


def _count(shape: Shape) -> int:
    """The number of results in a shape."""
    return sum(map(_count, shape)) if isinstance(shape, list) else 1


def _nest(shape: Shape, values: Iterator[Any]) -> list[Any]:
    if not isinstance(shape, list):
        return carried.one(next(values))
    return carried.several([_nest(each, values) for each in shape])
