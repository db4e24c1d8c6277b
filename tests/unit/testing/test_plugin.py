"""The fixtures of the pytest plugin, in a separate run of pytest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "test-your-tasks.md"


def run(pytester: pytest.Pytester) -> pytest.RunResult:
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    return pytester.runpytest_subprocess("-p", "no:cacheprovider")


def test_the_fixtures_are_there_without_being_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from taskfleet import TaskQueue

        async def test_one(taskfleet_queue, taskfleet_worker, taskfleet_broker):
            @taskfleet_queue.task
            async def double(n: int) -> int:
                return 2 * n

            handle = await double.options(delay=60).enqueue(4)
            assert [task.args for task in taskfleet_broker.enqueued("double")] == [[4]]
            assert await taskfleet_worker.run_until_idle() == 0
            taskfleet_worker.advance(60)
            assert await taskfleet_worker.run_until_idle() == 1
            assert await handle.result() == 8

        async def test_another_starts_empty(taskfleet_broker):
            assert taskfleet_broker.enqueued() == []

        app = TaskQueue("redis://127.0.0.1:1/0")

        @app.task
        async def note() -> str:
            return "noted"

        async def test_an_application(taskfleet_in_memory):
            worker = taskfleet_in_memory(app)
            assert await worker.execute(note.message()) == "noted"

        def test_afterwards_it_is_as_it_was():
            assert app.url == "redis://127.0.0.1:1/0"
        """
    )
    run(pytester).assert_outcomes(passed=4)


def test_the_examples_of_the_guide_pass(pytester: pytest.Pytester) -> None:
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert {name for name, _ in blocks} >= {"shop", "test_shop"}
    for name, source in blocks:
        pytester.makepyfile(**{name: source})
    result = run(pytester)
    count = sum(source.count("def test_") for _, source in blocks)
    result.assert_outcomes(passed=count)
