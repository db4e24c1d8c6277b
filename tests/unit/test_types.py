"""Wrong calls must fail type checking: mypy is run on calls with the error each of them must have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CALLS = """
from taskfleet import TaskQueue, TaskHandle

queue = TaskQueue()

@queue.task
async def add(a: int, b: int = 1) -> str: return str(a + b)

@queue.task(max_retries=1)
def plain(a: int) -> bytes: return bytes(a)

async def calls() -> None:
    handle: TaskHandle[str] = await add.enqueue(1, b=2)
    text: str = await handle.result()
    data: bytes = plain(1)
    other: TaskHandle[bytes] = await plain.options(delay=1).enqueue(1)
    await queue.enqueue_many([add.message(1), add.message(2)])
    await add.enqueue("x")  # error: arg-type
    await add.enqueue(1, c=2)  # error: call-arg
    await plain.options(delay=1).enqueue()  # error: call-arg
    plain.options(dealy=1)  # error: call-arg
    wrong: int = await handle.result()  # error: assignment
    queue.task(quue="x")  # error: call-overload
    await queue.add_schedule(name="a", schedule="@daily", task=add, args=[1])
    await queue.add_schedule(name="b", every=60, task=plain, kwargs={"a": 1}, concurrency_policy="Forbid")
    await queue.add_schedule(name="c", schedule="@daily", task="add", concurrency_policy="forbid")  # error: arg-type
    await queue.add_schedule(name="d", schedule="@daily", task=5)  # error: arg-type
"""


def test_wrong_calls_fail_type_checking(tmp_path: Path) -> None:
    path = tmp_path / "calls.py"
    path.write_text(CALLS)
    expected = {
        (number, match[1])
        for number, line in enumerate(CALLS.splitlines(), 1)
        if (match := re.search(r"# error: ([\w-]+)", line))
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", str(root / "pyproject.toml"), str(path)],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    found = {
        (int(match[1]), match[2])
        for match in re.finditer(r"calls\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    }
    assert found == expected, done.stdout + done.stderr
