"""Task functions and class tasks are pickled by name; handles and messages say what to send in their place."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from taskfleet import Task, TaskQueue, group

queue = TaskQueue("memory://pickling")


@queue.task
async def add(a: int, b: int = 1) -> int:
    return a + b


class Parcel(Task[int], queue="default"):
    weight: int

    async def execute(self) -> int:
        return self.weight


def name_of(task: Any) -> str:
    return str(task.name)


def test_a_task_function_arrives_in_another_process() -> None:
    assert pickle.loads(pickle.dumps(add)) is add
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(name_of, [add, Parcel(weight=1)])) == ["add", "parcel"]


def test_a_class_task_arrives_with_its_fields() -> None:
    assert pickle.loads(pickle.dumps(Parcel(weight=3))) == Parcel(weight=3)
    assert copy.deepcopy(Parcel(weight=3)) == Parcel(weight=3)


def test_a_task_that_has_no_name_in_its_module_cannot_be_pickled() -> None:
    @queue.task
    async def nested() -> None: ...

    with pytest.raises(pickle.PicklingError, match=r"task 'nested' is pickled by module and name, .* is not this task"):
        pickle.dumps(nested)


async def test_a_handle_says_to_send_its_id() -> None:
    handle = await add.enqueue(1)
    both = await queue.enqueue(group(add.message(1), add.message(2)))
    for one in (handle, both):
        with pytest.raises(
            TypeError, match=r"send its id, '\w+', and make a handle of it there with queue.handle\(id\)"
        ):
            pickle.dumps(one)
    assert copy.copy(handle).id == handle.id
    assert queue.handle(handle.id).id == handle.id
    await queue.close()


@pytest.mark.parametrize("thing", [add.message(1), add.partial(), add.options(delay=1), Parcel(weight=1).message()])
def test_a_message_says_to_send_the_task_and_its_arguments(thing: Any) -> None:
    with pytest.raises(TypeError, match="send the task function itself"):
        pickle.dumps(thing)
    assert copy.copy(thing) is not thing
