"""No cancellation is lost: a part that is told to end, ends."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from taskfleet.cancellation import end
from taskfleet.handles import GroupHandle, TaskHandle

ROOT = Path(__file__).parents[2]


def test_nothing_uses_wait_for_of_asyncio() -> None:
    # On Python 3.11 it returns its result, and drops a cancellation that comes in the same moment.
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("worker", "operator")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr == "wait_for" and ast.unparse(node.value) == "asyncio")
        or (
            isinstance(node, ast.ImportFrom) and node.module == "asyncio" and "wait_for" in {a.name for a in node.names}
        )
    ]
    assert found == []


async def test_a_wake_together_with_a_cancellation_ends_the_waiter() -> None:
    async def loop(woken: asyncio.Event) -> None:
        while True:
            try:
                async with asyncio.timeout(60):
                    await woken.wait()
            except TimeoutError:
                pass
            woken.clear()

    for rounds in range(200):
        woken = asyncio.Event()
        task = asyncio.create_task(loop(woken))
        for _ in range(rounds % 4):
            await asyncio.sleep(0)
        woken.set()
        for _ in range(rounds % 3):
            await asyncio.sleep(0)
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=30)
        assert not pending


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def careless() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(careless())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end([task])
    assert lost == 3


async def test_a_group_whose_first_member_failed_waits_for_no_other() -> None:
    class Fails:
        async def result(self, timeout: Any) -> Any:
            raise ValueError("failed")

    class Hangs:
        lost = 0

        async def result(self, timeout: Any) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:  # as the Redis client does at the moment of a reply
                Hangs.lost += 1
            await asyncio.Event().wait()

    group = GroupHandle(cast("list[TaskHandle[Any]]", [Hangs(), Fails(), Hangs()]), [None, None, None])
    with pytest.raises(ValueError, match="failed"):
        async with asyncio.timeout(30):
            await group.result()
    assert Hangs.lost == 2
