"""The fixtures of the pytest plugin, in a separate run of pytest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer

pytest_plugins = ["pytester"]

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "test-your-tasks.md"


def run(pytester: pytest.Pytester, *options: str, mode: str = "auto") -> pytest.RunResult:
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


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


def write_the_guide(pytester: pytest.Pytester) -> int:
    """Write the files of the guide; returns the number of their tests."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for source in blocks:
        name = re.match(r"# (\w+)\.py\n", source)
        assert name, f"a block without the name of its file: {source}"
        pytester.makepyfile(**{name[1]: source})
    return sum(source.count("def test_") for source in blocks)


def test_the_examples_of_the_guide_pass(pytester: pytest.Pytester) -> None:
    count = write_the_guide(pytester)
    assert count >= 16
    run(pytester).assert_outcomes(passed=count)


def test_the_examples_of_the_guide_run_on_a_real_redis(pytester: pytest.Pytester) -> None:
    count = write_the_guide(pytester)
    result = run(pytester, "--taskfleet-redis=embedded", "-rs")
    result.assert_outcomes(passed=count - 6, skipped=6)
    result.stdout.fnmatch_lines(
        [
            "taskfleet: queues in Redis (embedded)",
            "*--taskfleet-redis: worker.advance(86400): the clock of a real Redis cannot be moved; this test needs*",
            "*--taskfleet-redis: through_delays=True with 1 delayed tasks: the clock*",
        ],
        consecutive=False,
    )


APP = """
from taskfleet import TaskQueue

app = TaskQueue("redis://127.0.0.1:1/0")

@app.task(max_retries=0)
async def divide(a: int, b: int) -> float:
    return a / b
"""


def test_the_keys_of_each_test_are_apart_and_deleted(pytester: pytest.Pytester, server: RedisServer) -> None:
    pytester.makepyfile(app=APP)
    pytester.makepyfile(
        """
        import pytest
        from app import app, divide

        @pytest.mark.parametrize("n", range(2))
        async def test_it_starts_empty(taskfleet_isolated, n):
            worker = taskfleet_isolated(app)
            await divide.options(delay=100).enqueue(1, 2)
            handle = await divide.enqueue(1, 2)
            assert (await app.get_metrics())["default"].enqueued_total == 2
            assert await worker.run_until_idle() == 1
            assert await handle.result(timeout=30) == 0.5
            assert worker.waiting() == ["1 divide in default (delayed)"]
            with pytest.raises(AssertionError, match="expected 3 times"):
                worker.assert_enqueued(divide, times=3)

        async def test_with_the_queue_of_the_plugin(taskfleet_queue, taskfleet_worker):
            @taskfleet_queue.task
            async def double(n: int) -> int:
                return 2 * n

            assert await taskfleet_worker.execute(double.message(2)) == 4
        """
    )
    run(pytester, f"--taskfleet-redis={server.url}").assert_outcomes(passed=3)
    assert server.call("KEYS", "taskfleet-test-*") == []


def test_an_option_that_swallows_a_path_is_told(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--taskfleet-redis", "tests")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*this is no address; write --taskfleet-redis=embedded tests*"])


def test_a_redis_that_does_not_answer_is_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=APP)
    pytester.makepyfile("from app import app\n\ndef test_it(taskfleet_isolated):\n    taskfleet_isolated(app)\n")
    result = run(pytester, "--taskfleet-redis=redis://127.0.0.1:1/0")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Redis at 127.0.0.1:1*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_the_report_of_a_failed_test_shows_the_tasks_that_failed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=APP)
    pytester.makepyfile(
        """
        from app import app, divide

        async def test_it(taskfleet_isolated):
            worker = taskfleet_isolated(app)
            handle = await divide.enqueue(1, 0)
            await divide.options(delay=60).enqueue(1, 1)
            await worker.run_until_idle()
            assert await handle.status() == "succeeded"
        """
    )
    for options in ([], ["--taskfleet-redis=embedded"]):
        result = run(pytester, *options)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["*taskfleet: failed tasks (1)*", "task 'divide'*", "*return a / b*", "ZeroDivisionError: division by zero",
             "*taskfleet: tasks that have not ended*", "1 divide in default (d*"]
        )  # fmt: skip


@pytest.mark.parametrize(("mark", "mode"), [("asyncio", "strict"), ("anyio", "strict"), ("anyio", "auto")])
def test_other_plugins_run_the_coroutines(pytester: pytest.Pytester, mark: str, mode: str) -> None:
    pytester.makepyfile(app=APP)
    pytester.makepyfile(
        f"""
        import pytest
        from app import app, divide

        pytestmark = pytest.mark.{mark}

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_isolated(taskfleet_isolated):
            worker = taskfleet_isolated(app)
            handle = await divide.options(delay=60).enqueue(1, 2)
            assert await worker.run_until_idle(through_delays=True) == 1
            assert await handle.result(timeout=30) == 0.5

        async def test_eager(taskfleet_eager):
            taskfleet_eager(app)
            handle = await divide.enqueue(1, 2)
            assert await handle.result(timeout=30) == 0.5
        """
    )
    for options in ([], ["--taskfleet-redis=embedded"]):
        result = run(pytester, *options, mode=mode)
        result.assert_outcomes(passed=2 - len(options), skipped=len(options))
