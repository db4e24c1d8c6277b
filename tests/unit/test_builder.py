from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskfleet import ConfigurationError, TaskQueue, TaskQueueBuilder

Module = Callable[..., str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Module]:
    """Write a module of a package that only this test has, and return the package's name."""
    package = f"shop_{abs(hash(request.node.nodeid)):x}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")

    def write(name: str, text: str) -> str:
        (tmp_path / package / f"{name}.py").write_text(text.replace("PACKAGE", package))
        return package

    yield write
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


TASKS = """
from taskfleet import TaskQueue
queue = TaskQueue()
@queue.task
async def {name}() -> None: ...
"""


def test_it_is_a_task_queue_with_the_tasks_of_all_modules(module: Module) -> None:
    module("a", TASKS.format(name="first"))
    module("b", TASKS.format(name="second"))
    package = module("c", "from PACKAGE.a import first\n")  # one task under two names counts once
    module("__main__", "raise RuntimeError('a program')")
    app = TaskQueueBuilder("redis://elsewhere:6379/1").initial_workers(4).auto_register_tasks(package).build()
    assert isinstance(app, TaskQueue)
    assert app.url == "redis://elsewhere:6379/1"
    assert {definition.name for definition in app.registry} == {"first", "second"}
    assert app.settings.workers.initial_count == 4
    assert app.worker_count == 0  # nothing runs yet


def test_one_module_can_be_named_alone(module: Module) -> None:
    module("a", TASKS.format(name="first"))
    package = module("b", TASKS.format(name="second"))
    app = TaskQueueBuilder().auto_register_tasks(f"{package}.b").build()
    assert [definition.name for definition in app.registry] == ["second"]


def test_a_package_of_class_tasks_only_will_do(module: Module) -> None:
    package = module("a", "from taskfleet import Task\nclass OnlyInThisTest(Task):\n    n: int\n")
    app = TaskQueueBuilder().auto_register_tasks(package).build()
    assert app.application.find_task("only_in_this_test") is not None


def test_arguments_override_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "task-queue.toml").write_text(
        '[redis]\nurl = "redis://file:1/0"\n[workers]\ninitial_count = 3\nmax_concurrent_tasks = 5\n'
        "[autoscaler]\nmin_workers = 2\nmax_workers = 7\n"
    )
    monkeypatch.setenv("TASKFLEET_AUTOSCALER__SCALE_UP_COUNT", "3")
    app = TaskQueueBuilder().with_autoscaler(max_workers=9).build()
    assert app.url == "redis://file:1/0"
    assert app.settings.workers.max_concurrent_tasks == 5
    assert app.settings.workers.initial_count == 3
    limits = app.settings.autoscaler
    assert (limits.min_workers, limits.max_workers, limits.scale_up_count) == (2, 9, 3)
    assert TaskQueueBuilder("redis://code:1/0").initial_workers(2).build().settings.workers.initial_count == 2
    # The configured number, which is for all programs, is clamped to the limits of this builder.
    assert TaskQueueBuilder().with_autoscaler(min_workers=4).build().settings.workers.initial_count == 4


def test_registering_can_be_switched_off(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    package = module("a", "raise RuntimeError('imported')")
    monkeypatch.setenv("TASK_QUEUE_AUTO_REGISTER", "false")
    assert len(TaskQueueBuilder().auto_register_tasks(package).build().registry) == 0


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda b: b.initial_workers(0), "initial_workers(0): Input should be greater than or equal to 1"),
        (lambda b: b.initial_workers("4"), "initial_workers('4'): Input should be a valid integer"),
        (
            lambda b: b.initial_workers(20).with_autoscaler(max_workers=10),
            "initial_workers(20): with_autoscaler has min_workers=1 and max_workers=10; start within them",
        ),
        (
            lambda b: b.with_autoscaler(min_workers=5, max_workers=3),
            "with_autoscaler: min_workers=5 is more than max_workers=3",
        ),
        (
            lambda b: b.with_autoscaler(scale_up_threshold=1.0, scale_down_threshold=1.0),
            "with_autoscaler: scale_down_threshold=1 must be less than scale_up_threshold=1",
        ),
        (lambda b: b.with_autoscaler(scale_up_count=0), "with_autoscaler: scale_up_count: Input should be greater"),
        (
            lambda b: b.auto_register_tasks("no_such_shop.tasks"),
            "auto_register_tasks('no_such_shop.tasks'): there is no module 'no_such_shop.tasks' on the path",
        ),
        (lambda b: b.auto_register_tasks("json"), "auto_register_tasks('json'): no task is defined there"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option(build: Callable[[Any], TaskQueueBuilder], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(TaskQueueBuilder()).build()
    assert f"TaskQueueBuilder: {problem}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_thing", "no module 'no_such_thing'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def", "SyntaxError: "),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_reason(module: Module, text: str, reason: str) -> None:
    module("a", TASKS.format(name="first"))
    package = module("broken", text)
    with pytest.raises(ConfigurationError) as caught:
        TaskQueueBuilder().auto_register_tasks(package).build()
    expected = f"TaskQueueBuilder: auto_register_tasks('{package}'): importing '{package}.broken' failed: {reason}"
    assert expected in str(caught.value)


def test_two_tasks_of_one_name_are_an_error(module: Module) -> None:
    module("a", TASKS.format(name="same"))
    package = module("b", TASKS.format(name="same"))
    with pytest.raises(ConfigurationError, match=rf"auto_register_tasks\('{package}'\): two tasks are named 'same'"):
        TaskQueueBuilder().auto_register_tasks(package).build()


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "task-queue.toml").write_text("[redis]\nurll = 'x'\n")
    builder = TaskQueueBuilder("http://nowhere", queues=["two words"]).initial_workers(-1)
    with pytest.raises(ConfigurationError) as caught:
        builder.auto_register_tasks("no_such_shop").with_autoscaler(min_workers=0).build()
    text = str(caught.value)
    assert text.startswith("TaskQueueBuilder: 5 problems: task-queue.toml: unknown key 'redis.urll'")
    for part in ("initial_workers(-1)", "with_autoscaler: min_workers", "auto_register_tasks('no_such_shop')"):
        assert part in text
