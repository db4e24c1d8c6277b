"""One name is one task: a repeated definition replaces the first, a second definition is an error."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import importlib.util
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taskfleet import ConfigurationError, Task, TaskQueue
from taskfleet.tasks.batch import BatchItem
from taskfleet.tasks.namespace import CLASS_TASKS


@pytest.fixture
def queue() -> TaskQueue:
    return TaskQueue("redis://localhost:1")


def clash(define: Callable[[], object], name: str, places: int = 2) -> str:
    """The error of the second definition, which names this file twice."""
    with pytest.raises(ConfigurationError, match=f"two tasks are named '{name}'") as caught:
        define()
    assert str(caught.value).count(f"{Path(__file__).name}:") == places
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Second definitions, which are errors.


def test_a_factory_called_twice(queue: TaskQueue) -> None:
    def make(factor: int) -> Any:
        @queue.task
        async def scale(n: int) -> int:
            return n * factor

        return scale

    double = make(2)
    assert "make.<locals>.scale" in clash(lambda: make(3), "scale")
    assert queue.registry.get("scale") is double.definition


def test_a_factory_of_class_tasks_called_twice() -> None:
    def make(factor: int) -> type[Task]:
        class ScaleInClass(Task):
            n: int

            async def execute(self) -> int:
                return self.n * factor

        return ScaleInClass

    make(2)
    assert "make.<locals>.ScaleInClass" in clash(lambda: make(3), "scale_in_class")


def test_a_factory_of_batch_tasks_called_twice(queue: TaskQueue) -> None:
    def make(size: int) -> Any:
        @queue.batch_task(size=size)
        async def gather(items: list[BatchItem]) -> list[None]:
            return [None for _ in items]

        return gather

    pair = make(2)
    clash(lambda: make(3), "gather")
    assert queue.registry.get("gather") is pair.definition


def test_a_loop_and_a_function_that_is_decorated_twice(queue: TaskQueue) -> None:
    async def once() -> None: ...

    short = queue.task(once)
    clash(lambda: queue.task(timeout=600)(once), "once")
    assert queue.registry.get("once") is short.definition


def test_two_functions_under_a_decorator_without_wraps(queue: TaskQueue) -> None:
    def logged(function: Any) -> Any:
        async def wrapper(*args: Any) -> Any:
            return await function(*args)

        return wrapper

    @queue.task
    @logged
    async def charge(n: int) -> str:
        return f"charged {n}"

    def second() -> None:
        @queue.task
        @logged
        async def refund(n: int) -> str:
            return f"refunded {n}"

    assert "functools.wraps" in clash(second, "wrapper")


def test_a_decorator_with_wraps_is_no_error(queue: TaskQueue) -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> Any:
            return await function(*args)

        return wrapper

    @queue.task
    @logged
    async def charge(n: int) -> None: ...

    @queue.task
    @logged
    async def refund(n: int) -> None: ...

    assert [definition.name for definition in queue.registry] == ["charge", "refund"]


def test_a_class_copied_in_a_function_is_not_told_of_decorators() -> None:
    def copied() -> None:
        class CopiedInAFunction(Task):
            n: int

        class CopiedInAFunction(Task):  # type: ignore[no-redef]  # noqa: F811
            m: int

    assert "wraps" not in clash(copied, "copied_in_a_function")


async def test_a_class_of_a_loop_in_a_coroutine_is_named_by_its_own_line() -> None:
    async def loop() -> None:
        for _ in range(2):

            class InALoop(Task):
                n: int

    with pytest.raises(ConfigurationError, match="two tasks are named 'in_a_loop'") as caught:
        await asyncio.create_task(loop())
    # The caller of the coroutine is a line of asyncio, which would not help the user.
    assert str(caught.value).count(f"{Path(__file__).name}:") == 2


def test_a_class_and_a_function_in_either_order(queue: TaskQueue) -> None:
    def function(name: str) -> Any:
        @queue.task(name=name)
        async def work(to: str) -> None: ...

        return work

    class SendByClassFirst(Task):
        async def execute(self) -> None: ...

    clash(lambda: function("send_by_class_first"), "send_by_class_first")
    _kept = function("send_by_function_first")

    def cls() -> None:
        class SendByFunctionFirst(Task):
            async def execute(self) -> None: ...

    clash(cls, "send_by_function_first")


def test_a_class_and_a_batch_function(queue: TaskQueue) -> None:
    class GatherAll(Task):
        async def execute(self) -> None: ...

    def batch() -> None:
        @queue.batch_task(name="gather_all")
        async def gather(items: list[BatchItem]) -> list[None]:
            return [None for _ in items]

    clash(batch, "gather_all")


def test_a_refused_definition_changes_nothing(queue: TaskQueue) -> None:
    @queue.task(name="kept")
    async def first() -> None: ...

    async def second() -> None: ...

    with pytest.raises(ConfigurationError):
        queue.task(name="kept")(second)
    assert queue.registry.get("kept") is first.definition


def test_two_applications_in_one_process_have_names_of_their_own() -> None:
    def app(factor: int) -> tuple[TaskQueue, Any]:
        queue = TaskQueue("redis://localhost:1")

        @queue.task
        async def scale(n: int) -> int:
            return n * factor

        return queue, scale

    (first, double), (second, triple) = app(2), app(3)
    assert first.registry.get("scale") is double.definition
    assert second.registry.get("scale") is triple.definition


def test_a_queue_that_is_gone_keeps_no_name_from_a_class() -> None:
    def app() -> None:
        queue = TaskQueue("redis://localhost:1")

        @queue.task(name="of_a_queue_that_is_gone")
        async def work() -> None:
            await work.enqueue()  # a reference cycle, which only the garbage collector frees

    gc.disable()
    try:
        app()

        class OfAQueueThatIsGone(Task):
            async def execute(self) -> None: ...
    finally:
        gc.enable()
    assert CLASS_TASKS.find("of_a_queue_that_is_gone") is not None


# Repeated definitions, which replace the first.


def test_a_factory_that_makes_the_same_again(queue: TaskQueue) -> None:
    def make(factor: int, *, timeout: float = 60.0) -> Any:
        @queue.task(timeout=timeout)
        async def scale(n: int, more: bool = False) -> int:
            if more:
                await scale.enqueue(n)
            return n * factor

        return scale

    make(1000)
    again = make(1000)
    assert queue.registry.get("scale") is again.definition
    clash(lambda: make(1000, timeout=30.0), "scale")
    clash(lambda: make(1001), "scale")
    clash(lambda: make(True), "scale")


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (1, 1.0), (1, True), ([1], [1]), ("", b"")])
def test_a_factory_that_is_given_almost_the_same(queue: TaskQueue, one: object, other: object) -> None:
    def around(value: object) -> Any:
        @queue.task
        async def of_around() -> object:
            return value

        return of_around

    def default(value: object) -> Any:
        @queue.task
        async def of_default(*, n: Any = value) -> object:
            return n

        return of_default

    for make, name in ((around, "of_around"), (default, "of_default")):
        first = make(one)
        clash(functools.partial(make, other), name)
        again = make(one)
        assert queue.registry.get(name) is again.definition is not first.definition


def test_a_factory_whose_values_cannot_be_compared(queue: TaskQueue) -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("never equal")

    def make(value: object) -> Any:
        @queue.task
        async def odd(*, n: Any = value) -> None: ...

        return odd

    first = make(Odd())
    clash(lambda: make(Odd()), "odd")
    assert queue.registry.get("odd") is first.definition


def test_a_factory_that_is_given_another_type(queue: TaskQueue) -> None:
    def make(kind: Any) -> Any:
        async def typed(n: Any) -> None: ...

        typed.__annotations__["n"] = kind
        return queue.task(typed)

    make(list[int])
    again = make(list[int])
    clash(lambda: make(list[str]), "typed")
    assert queue.registry.get("typed") is again.definition


def test_one_code_that_ran_among_other_globals(queue: TaskQueue) -> None:
    code = compile("@queue.task\nasync def scale(n: int) -> int: return n * factor", "<rules>", "exec")
    exec(code, {"queue": queue, "factor": 2})
    with pytest.raises(ConfigurationError, match="two tasks are named 'scale'"):
        exec(code, {"queue": queue, "factor": 3})


def test_two_functions_that_threads_define(queue: TaskQueue) -> None:
    tasks: list[Any] = []
    errors: list[ConfigurationError] = []

    def define(function: Any) -> None:
        try:
            tasks.append(queue.task(function))
        except ConfigurationError as error:
            errors.append(error)

    for factor in (2, 3):
        namespace: dict[str, Any] = {}
        exec(f"async def scale(n: int) -> int: return n * {factor}", namespace)
        thread = threading.Thread(target=define, args=(namespace["scale"],))
        thread.start()
        thread.join()
    assert [str(error).partition(":")[0] for error in errors] == ["two tasks are named 'scale'"]
    assert queue.registry.get("scale") is tasks[0].definition


APP = """
from taskfleet import Task
from tests.unit.test_names import shared

@shared.queue.task
async def plain(n: int) -> int:
    return n * {factor}

def logged(function):
    async def wrapper(n: int):
        return await function(n)
    return wrapper

@shared.queue.task(name="wrapped")
@logged
async def charge(n: int) -> int:
    return n

def make(factor):
    @shared.queue.task(name=f"times_{{factor}}")
    async def scale(n: int) -> int:
        return n * factor
    return scale

double, triple = make(2), make(3)

class {cls}(Task):
    async def execute(self) -> int:
        return {factor}
"""


class Shared:
    """One queue on which all modules of a test define their tasks, as in an application."""

    queue = TaskQueue("redis://localhost:1")


shared = Shared()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write a module that defines tasks. Each test uses other class names."""
    monkeypatch.setattr(shared, "queue", TaskQueue("redis://localhost:1"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name: str, cls: str, factor: int = 10, text: str = APP) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text.format(cls=cls, factor=factor))
        importlib.invalidate_caches()
        return path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


NAMES = {"plain", "wrapped", "times_2", "times_3"}


def defined() -> set[str]:
    return {definition.name for definition in shared.queue.registry}


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_a_module_is_reloaded_with_and_without_a_change(write: Callable[..., Path]) -> None:
    write("reloaded_app", "Reloaded")
    module = importlib.import_module("reloaded_app")
    importlib.reload(module)
    write("reloaded_app", "Reloaded", 77, text="# a line more\n" + APP)
    importlib.reload(module)
    assert await module.plain(1) == 77
    assert shared.queue.registry.get("plain") is module.plain.definition
    assert defined() == NAMES
    assert await module.Reloaded().execute() == 77


def test_a_module_is_imported_under_two_names(write: Callable[..., Path]) -> None:
    path = write("twice_app", "ImportedTwice")
    load("twice_app", path)
    load("pkg.twice_app", path)
    runpy.run_path(str(path), run_name="__main__")
    assert defined() == NAMES


def test_a_function_becomes_a_class_when_its_module_is_reloaded(write: Callable[..., Path]) -> None:
    function = "from tests.unit.test_names import shared\n@shared.queue.task\nasync def turned_round() -> None: ...\n"
    cls = "from taskfleet import Task\nclass TurnedRound(Task):\n    async def execute(self) -> None: ...\n"
    write("turning_app", "", text=function)
    module = importlib.import_module("turning_app")
    write("turning_app", "", text=cls)
    importlib.reload(module)
    assert defined() == set()
    assert CLASS_TASKS.find("turned_round") is not None
    write("turning_app", "", text=function)
    importlib.reload(module)
    assert defined() == {"turned_round"}
    assert CLASS_TASKS.find("turned_round") is None


def test_two_modules_that_define_one_name_are_an_error_also_when_one_is_reloaded(write: Callable[..., Path]) -> None:
    one = "from tests.unit.test_names import shared\n@shared.queue.task\nasync def report() -> None: ...\n"
    write("first_app", "", text=one)
    importlib.import_module("first_app")
    write("second_app", "", text=one)
    with pytest.raises(ConfigurationError, match=r"first_app\.py:2\) and report \(.*second_app\.py:2\)"):
        importlib.import_module("second_app")


@pytest.mark.parametrize(
    "second",
    [
        "@shared.queue.task\nasync def plain(n: int) -> int: return 1",
        "for _ in range(2):\n    @shared.queue.task\n    async def looped(n: int = _) -> None: ...",
        "def make_again(n):\n    shared.queue.task(name='times_2')(lambda: n)\nmake_again(1)",
        '@shared.queue.task(name="wrapped")\n@logged\nasync def refund(n: int) -> int: return n',
        "class Copied(Task):\n    async def execute(self) -> int: return 1",
        "class Plain(Task):\n    async def execute(self) -> int: return 1",
    ],
)
def test_a_name_that_is_defined_twice_in_one_run_of_a_module(write: Callable[..., Path], second: str) -> None:
    write("copied_app", "Copied", text=f"{APP}\n{second}\n")
    for _ in range(2):  # a second attempt is not a reload
        with pytest.raises(ConfigurationError, match="two tasks are named"):
            importlib.import_module("copied_app")


def cell(number: int, text: str, namespace: dict[str, Any]) -> None:
    """Run a notebook cell: code of `__main__` without a file."""
    exec(compile(text, f"<ipython-input-{number}-abc>", "exec"), namespace)


PLAIN_CELL = "@queue.task\nasync def scale(n: int) -> int:\n    return n * {}\n"
WRAPPED_CELL = "@queue.task\n@logged\nasync def {}(n: int) -> int:\n    return n\n"
CLASS_CELL = "class {}(Task):\n    async def execute(self) -> int:\n        return {}\n"
LOGGED_CELL = "def logged(function):\n    async def wrapper(n): return await function(n)\n    return wrapper\n"
MAKE_CELL = PLAIN_CELL.replace("@", "    @").replace("\nasync", "\n    async").replace("    return", "        return")


def test_a_cell_that_is_named_by_its_line_is_run_again(queue: TaskQueue) -> None:
    notebook = {"__name__": "__main__", "queue": queue}
    for factor in (2, 3):
        code = compile(PLAIN_CELL.format(factor), "<ipython-input-1-abc>", "exec")
        exec(code.replace(co_name="<cell line: 1>"), notebook)
    with pytest.raises(ConfigurationError, match="two tasks are named 'scale'"):
        exec(compile(PLAIN_CELL.format(4), "<elsewhere>", "exec"), {"__name__": "other", "queue": queue})


async def test_a_cell_is_run_again_and_changed(queue: TaskQueue) -> None:
    notebook = {"__name__": "__main__", "queue": queue, "Task": Task}
    for number, factor in enumerate((2, 2, 3)):
        cell(number, PLAIN_CELL.format(factor), notebook)
        cell(number, CLASS_CELL.format("InACell", factor), notebook)
    assert await notebook["scale"](10) == 30  # type: ignore[operator]
    assert await queue.registry.get("scale").function(10) == 30
    same = compile(PLAIN_CELL.format(5), "<cell>", "exec")
    exec(same, notebook)
    exec(same, notebook)


def test_cells_that_define_two_tasks_of_one_name(queue: TaskQueue) -> None:
    notebook = {"__name__": "__main__", "queue": queue, "Task": Task}
    cell(1, LOGGED_CELL, notebook)
    cell(2, WRAPPED_CELL.format("charge"), notebook)
    cell(2, WRAPPED_CELL.format("charge"), notebook)
    with pytest.raises(ConfigurationError, match=r"functools\.wraps"):
        cell(3, WRAPPED_CELL.format("refund"), notebook)
    cell(4, f"def make(factor):\n{MAKE_CELL.format('factor')}    return scale\n", notebook)
    cell(5, "double = make(2)", notebook)
    cell(5, "double = make(2)", notebook)
    with pytest.raises(ConfigurationError, match="two tasks are named 'scale'"):
        cell(6, "triple = make(3)", notebook)
    with pytest.raises(ConfigurationError, match="two tasks are named 'two_kinds'"):
        cell(7, f"{CLASS_CELL.format('TwoKinds', 1)}\n@queue.task\nasync def two_kinds(): ...", notebook)
    twice = PLAIN_CELL.replace("scale", "copied").format(1)
    with pytest.raises(ConfigurationError, match="two tasks are named 'copied'"):
        cell(8, twice + twice, notebook)


@pytest.mark.parametrize("n", [1, 2])
def test_each_test_may_define_its_own(n: int) -> None:
    class OfEachTest(Task):
        async def execute(self) -> int:
            return n

    @shared.queue.task
    async def also_of_each_test() -> int:
        return n

    assert shared.queue.registry.get("also_of_each_test") is also_of_each_test.definition


def test_a_test_may_define_a_dropped_task_anew(queue: TaskQueue) -> None:
    def define(ran: list[str] | None) -> Any:
        @queue.task
        async def work() -> None:
            if ran is not None:
                ran.append("")

        return work

    define([])
    kept = define(None)
    clash(lambda: define([]), "work")
    assert queue.registry.get("work") is kept.definition


SCRIPT = """
from taskfleet import ConfigurationError, Task, TaskQueue
queue = TaskQueue("redis://localhost:1")
{text}
"""


@pytest.mark.parametrize(
    "text",
    [
        PLAIN_CELL.format(2) * 2,
        f"def make(factor):\n{MAKE_CELL.format('factor')}\ndouble, triple = make(2), make(3)",
        f"def register(factor):\n{MAKE_CELL.format('factor')}\nregister(2)\nregister(3)",
        f"{CLASS_CELL.format('Scale', 2)}\n{PLAIN_CELL.format(2)}",
    ],
)
@pytest.mark.parametrize("from_file", [True, False])
def test_a_script_that_defines_one_name_twice(tmp_path: Path, text: str, from_file: bool) -> None:
    script = SCRIPT.format(text=text)
    (tmp_path / "script.py").write_text(script)
    command = [str(tmp_path / "script.py")] if from_file else ["-c", script]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("taskfleet.errors.ConfigurationError: two tasks are named 'scale'")
    )
