"""A dependency that cannot be resolved is an error when the task is defined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet import ConfigurationError, Depends, Task, TaskContext, TaskQueue
from taskfleet.tasks.dependency_plan import plan
from taskfleet.tasks.depends import Marker
from taskfleet.tasks.signature import Signature, hints_of


def needs_x(x: int) -> int:
    return x


def first(second: Any = Depends(lambda: None)) -> None: ...


def second(first: Annotated[Any, Depends(first)]) -> None: ...


def of_task() -> int:
    return 1


def lives_long(n: int = Depends(of_task)) -> int:
    return n


def wants_context(task: TaskContext) -> str:
    return task.id


def unresolvable(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("marker", "problem"),
    [
        (lambda: Depends(needs_x), "dependency needs_x: nobody gives it 'x'; mark that with Depends"),
        (lambda: Depends(unresolvable), "function 'unresolvable': annotation 'Missing' cannot be resolved"),
        (lambda: Depends(lives_long, scope="worker"), "dependency of_task: lives_long lives as long as the worker"),
        (
            lambda: Depends(wants_context, scope="worker"),
            "wants_context: it lives as long as the worker and has no Task",
        ),
        (lambda: Depends(3), r"Depends\(3\): a provider is something to call"),  # type: ignore[call-overload]
        (lambda: Depends(of_task, scope="process"), "scope='process' is neither 'task' nor 'worker'"),  # type: ignore[call-overload]
    ],
)
def test_an_unresolvable_dependency_is_an_error_at_definition(marker: Callable[[], Any], problem: str) -> None:
    queue = TaskQueue()
    with pytest.raises(ConfigurationError, match=problem) as caught:

        @queue.task
        async def task(x: int, given: Any = marker()) -> None: ...  # noqa: B008

    assert "\n" not in str(caught.value)
    assert queue.registry.find("task") is None


def test_a_circle_is_drawn() -> None:
    queue = TaskQueue()
    first.__defaults__ = (Depends(second),)
    with pytest.raises(ConfigurationError, match="dependency first: it needs itself: first → second → first"):

        @queue.task
        async def task(given: Any = Depends(first)) -> None: ...


def test_an_override_that_cannot_be_made_is_an_error_where_it_begins() -> None:
    queue = TaskQueue()

    @queue.task
    async def task(given: Any = Depends(of_task)) -> None: ...

    with pytest.raises(ConfigurationError, match="task 'task', dependency needs_x: nobody gives it 'x'"):
        with queue.override(of_task, needs_x):
            raise AssertionError("not reached")


def test_injected_parameters_must_be_passable_by_name() -> None:
    queue = TaskQueue()
    with pytest.raises(ConfigurationError, match="the injected parameter 'db' cannot be passed by name"):

        @queue.task
        async def positional_only(db: Any = Depends(of_task), /) -> None: ...

    with pytest.raises(ConfigurationError, match=r"the injected parameter 'db' stands before \*rest; put it after"):

        @queue.task
        async def before_rest(x: int, db: Any = Depends(of_task), *rest: int) -> None: ...


def test_a_class_task_has_fields_not_parameters() -> None:
    with pytest.raises(ConfigurationError, match=r"nobody gives execute\(\) its parameter 'x'; make it a field"):

        class Wrong(Task):
            async def execute(self, x: int) -> None: ...  # type: ignore[override]


def test_an_unhashable_provider_is_refused() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        def __call__(self) -> int:
            return 1

    queue = TaskQueue()
    with pytest.raises(ConfigurationError, match="it cannot be hashed; use a function"):

        @queue.task
        async def task(n: int = Depends(Equal())) -> None: ...


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    """For each provider, the earlier providers that it depends on."""
    size = draw(st.integers(1, 8))
    return [draw(st.lists(st.integers(0, n - 1), unique=True)) if n else [] for n in range(size)]


def provider(needs: list[Any], asynchronous: bool) -> Any:
    parameters = ", ".join(f"p{i}=markers[{i}]" for i in range(len(needs)))
    scope: dict[str, Any] = {"markers": [Depends(one) for one in needs]}
    exec(f"{'async ' if asynchronous else ''}def made({parameters}): return None", scope)
    return scope["made"]


@given(graphs(), st.data(), st.booleans())
def test_a_plan_has_each_provider_once_and_after_those_it_needs(
    graph: list[list[int]], data: st.DataObject, threaded: bool
) -> None:
    providers: list[Any] = []
    for needs in graph:
        providers.append(provider([providers[i] for i in needs], data.draw(st.booleans())))
    made = plan("task", {"root": Marker(providers[-1], "task")}, hints_of, threaded=threaded)
    keys = [node.key for node in made.nodes]
    assert len(keys) == len({node.key[0] for node in made.nodes}) == len(set(keys))
    for position, node in enumerate(made.nodes):
        for child in node.children.values():
            assert child.key in keys[:position]
            # A provider of the loop never depends on a provider of the thread.
            assert node.in_thread or not child.in_thread
        assert not (node.in_thread and node.kind == "coroutine")
        assert threaded or not node.in_thread


@given(st.lists(st.sampled_from(["payload", "payload with default", "injected", "keyword", "injected keyword"])))
def test_arguments_land_in_their_own_parameters(kinds: list[str]) -> None:
    order = ["payload", "injected", "payload with default", "keyword", "injected keyword"]
    kinds = sorted(kinds, key=order.index)
    parts: list[str] = []
    for i, kind in enumerate(kinds):
        if kind.endswith("keyword") and not any(part == "*" for part in parts):
            parts.append("*")
        default = {"payload with default": "='default'", "injected": "=marker", "injected keyword": "=marker"}
        parts.append(f"p{i}{default.get(kind, '')}")
    scope: dict[str, Any] = {"marker": Depends(of_task)}
    exec(f"def task({', '.join(parts)}): return locals()", scope)
    signature = Signature(scope["task"], "task")
    positional = [f"p{i}" for i, kind in enumerate(kinds) if kind in ("payload", "payload with default")]
    named = [f"p{i}" for i, kind in enumerate(kinds) if kind == "keyword"]
    args, kwargs = signature.dump(tuple(positional), {name: name for name in named})
    args, kwargs = signature.arranged(*signature.load(args, kwargs))
    given = scope["task"](*args, **kwargs, **dict.fromkeys(signature.injected, "injected"))
    assert given == {f"p{i}": "injected" if kind.startswith("injected") else f"p{i}" for i, kind in enumerate(kinds)}


def test_a_generator_provides_its_yielded_value() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    made = plan("task", {"n": Marker(numbers, "task")}, hints_of)
    assert [node.kind for node in made.nodes] == ["context"]
