from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet import BatchItem, ConfigurationError, Depends, TaskContext, TaskQueue
from taskfleet.runtime.running.batches import claim_size


@given(st.integers(1, 1000), st.integers(0, 2000), st.floats(0, 1))
def test_claims_leave_a_slot_for_a_probable_ordinary_task(share: int, capacity: int, batch_share: float) -> None:
    size = claim_size(share, capacity, batch_share)
    assert share <= size <= share + capacity
    assert size * (1 - batch_share) <= share + 1  # the other expected tasks have slots


def test_a_queue_of_nothing_but_items_is_claimed_by_the_batch() -> None:
    assert claim_size(2, 100, 1.0) == 100
    assert claim_size(2, 100, 0.0) == 2
    assert claim_size(2, 100, 0.5) == 4


def provider(task: TaskContext) -> str:
    return task.id


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"size": 0}, r"batch task 'work': size=0 must be a whole number of at least 1"),
        ({"size": 1.5}, r"batch task 'work': size=1\.5 must be a whole number"),
        ({"window_ms": -1}, r"batch task 'work': window_ms=-1 is negative"),
        ({"item": dict}, r"batch task 'work': item=<class 'dict'> is no function"),
        ({"max_retries": -1}, "max_retries=-1 is negative"),
        ({"timeout": 0}, "timeout=0 must be positive"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], problem: str) -> None:
    queue = TaskQueue()
    with pytest.raises(ConfigurationError, match=problem):

        @queue.batch_task(**options)
        async def work(items: list[BatchItem]) -> list[None]: ...


def test_a_batch_function_takes_its_items_and_dependencies() -> None:
    queue = TaskQueue()
    with pytest.raises(ConfigurationError, match=r"nothing else that is not injected; it has \(items, more\)"):

        @queue.batch_task()
        async def two(items: list[BatchItem], more: int) -> list[None]: ...

    with pytest.raises(ConfigurationError, match="a batch has no TaskContext; its items have one each"):

        @queue.batch_task()
        async def context(items: list[BatchItem], name: str = Depends(provider)) -> list[None]: ...


async def test_a_plain_call_takes_items_that_were_made_of_values() -> None:
    queue = TaskQueue()

    @queue.batch_task(item_class=complex)
    async def sizes(items: list[BatchItem[complex]]) -> list[float]:
        return [abs(item.value) for item in items]

    assert await sizes([BatchItem.made_of(3 + 4j), BatchItem.made_of(1j, id="b")]) == [5.0, 1.0]
    assert BatchItem.made_of(1j, id="b").id == "b"


def test_an_item_made_by_hand_has_no_context() -> None:
    item = BatchItem("id", (1,), {"a": 2})
    assert (item.id, item.args, item.kwargs) == ("id", (1,), {"a": 2})
    with pytest.raises(RuntimeError, match="only in a batch that a worker runs"):
        _ = item.context
