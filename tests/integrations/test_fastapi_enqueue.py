"""POST /{task} and GET /status/{id}: arguments, names, options, errors."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, NotRequired, TypedDict, Unpack
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from taskfleet import BatchItem, Depends, QueueOptions, Task, TaskQueue, current_task
from taskfleet.integrations.fastapi import router
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.integrations.conftest import MakeClient
from tests.support.redis_server import RedisServer


class Colour(Enum):
    RED = "red"


class Order(BaseModel):
    model_config = ConfigDict(strict=True)
    number: int
    at: datetime


@dataclass
class Address:
    street: str


Twice = Annotated[int, AfterValidator(lambda number: 2 * number)]


class More(TypedDict):
    size: int
    colour: NotRequired[Colour]


def later(moment: datetime) -> datetime:
    return moment.replace(year=moment.year + 1)


def next_one(order: Order) -> Order:
    return order.model_copy(update={"number": order.number + 1})


def database() -> str:
    return "db"


def app_of(queue: TaskQueue, **options: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(router(queue, **options))
    return app


def schema_of(app: FastAPI, task: str) -> dict[str, Any]:
    operation = app.openapi()["paths"][f"/tasks/{task}"]["post"]
    found: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
    return found


async def outcome(client: httpx.AsyncClient, task: str, body: Any) -> Any:
    """The result of a task that was enqueued by a request."""
    accepted = await client.post(f"/tasks/{task}", json=body)
    assert accepted.status_code == 202, accepted.text
    answer = await client.get(accepted.json()["status_url"], params={"wait": 20})
    assert answer.json()["status"] == "succeeded", answer.text
    return answer.json()["result"]


async def test_a_request_enqueues_and_a_second_one_gets_the_result(
    queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient
) -> None:
    @queue.task
    async def send_email(to: str, subject: str = "hi") -> dict[str, str]:
        return {"to": to, "subject": subject}

    client = client_of(app_of(queue))
    accepted = await client.post("/tasks/send_email", json={"to": "a@b.c"})
    answer = accepted.json()
    assert accepted.status_code == 202
    assert accepted.headers["location"] == answer["status_url"] == f"/tasks/status/{answer['id']}"
    assert answer | {"id": "", "status_url": ""} == {
        "id": "",
        "task": "send_email",
        "queue": "default",
        "status_url": "",
    }
    before = (await client.get(answer["status_url"])).json()
    assert before == {
        "id": answer["id"], "queue": "default", "status": "ready", "ended": False, "result": None, "error": None,
        "progress": None,
    }  # fmt: skip
    await run_worker(queue)
    after = (await client.get(answer["status_url"], params={"wait": 20})).json()
    assert (after["status"], after["ended"], after["result"]) == ("succeeded", True, {"to": "a@b.c", "subject": "hi"})


async def test_the_schema_of_a_task_is_in_the_openapi_document(queue: TaskQueue) -> None:
    @queue.task
    async def send_email(to: str, order: Order, urgent: bool = False) -> None:
        """Send an email.

        Nobody reads this in the document.
        """

    app = app_of(queue)
    schema = schema_of(app, "send_email")
    assert schema["properties"] == {
        "to": {"type": "string", "title": "To"},
        "order": {"$ref": "#/components/schemas/Order"},
        "urgent": {"type": "boolean", "default": False, "title": "Urgent"},
    }
    assert (schema["title"], schema["required"]) == ("SendEmailArguments", ["to", "order"])
    assert schema["additionalProperties"] is False
    operation = app.openapi()["paths"]["/tasks/send_email"]["post"]
    assert (operation["summary"], operation["description"]) == ("Enqueue send_email", "Send an email.")
    assert set(operation["responses"]) == {"202", "413", "422", "429", "503"}
    assert app.openapi()["components"]["schemas"]["Order"]["required"] == ["number", "at"]


@pytest.mark.parametrize(
    ("annotation", "sent", "arrives"),
    [
        pytest.param(datetime, "2026-01-02T03:04:05Z", "datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=", id="datetime"),
        pytest.param(bytes, "aGk=", "b'hi'", id="bytes are base64"),
        pytest.param(tuple[int, str], [1, "a"], "(1, 'a')", id="tuple"),
        pytest.param(set[int], [1, 1], "{1}", id="set"),
        pytest.param(Decimal, "1.10", "Decimal('1.10')", id="decimal"),
        pytest.param(UUID, "12345678123456781234567812345678", "UUID('12345678-1234-", id="uuid"),
        pytest.param(timedelta, "PT1M", "datetime.timedelta(seconds=60)", id="timedelta"),
        pytest.param(Colour, "red", "<Colour.RED: 'red'>", id="enum"),
        pytest.param(dict[int, float], {"1": 2}, "{1: 2.0}", id="dict of numbers"),
        pytest.param(Order, {"number": 1, "at": "2026-01-02T03:04:05Z"}, "Order(number=1, at=date", id="strict model"),
        pytest.param(Address, {"street": "s"}, "Address(street='s')", id="dataclass"),
        pytest.param(Annotated[int, AfterValidator(lambda n: 2 * n)], 4, "8", id="a validator runs once"),
        pytest.param(Annotated[bytes, AfterValidator(bytes.strip)], "IGhpIA==", "b'hi'", id="validated bytes"),
        pytest.param(Annotated[datetime, AfterValidator(later)], "2026-01-02", "datetime.datetime(2027,", id="changed"),
        pytest.param(int | None, None, "None", id="null"),
        pytest.param(Any, {"a": [1, None]}, "{'a': [1, None]}", id="any"),
    ],
)  # fmt: skip
async def test_an_argument_arrives_as_its_annotation_says(
    queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient, annotation: Any, sent: Any, arrives: str
) -> None:
    async def show(value: Any) -> str:
        return repr(value)

    show.__annotations__["value"] = annotation
    queue.task(show)
    await run_worker(queue)
    assert (await outcome(client_of(app_of(queue)), "show", {"value": sent})).startswith(arrives)


@pytest.mark.parametrize(
    ("body", "call"),
    [
        ({"a": 1}, "a=1 b=2 rest=() c=3 more={}"),
        ({"a": 1, "c": 5}, "a=1 b=2 rest=() c=5 more={}"),
        ({"a": 1, "rest": [7, 8]}, "a=1 b=2 rest=(7, 8) c=3 more={}"),
        ({"a": 1, "b": 9, "more": {"x": 1, "y": 2}}, "a=1 b=9 rest=() c=3 more={'x': 1, 'y': 2}"),
    ],
)
async def test_every_kind_of_parameter(
    queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient, body: Any, call: str
) -> None:
    @queue.task
    async def show(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> str:
        return f"{a=} {b=} {rest=} {c=} {more=}"

    await run_worker(queue)
    assert await outcome(client_of(app_of(queue)), "show", body) == call


async def test_validators_of_all_kinds_of_parameters_run_once(
    queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient
) -> None:
    @queue.task
    async def show(a: Twice, *rest: Twice, b: Twice = 0, **more: Twice) -> str:
        return f"{a} {rest} {b} {more}"

    @queue.task
    async def odd(order: Annotated[Order, AfterValidator(next_one)]) -> None: ...

    await run_worker(queue)
    client = client_of(app_of(queue))
    body = {"a": 1, "rest": [2, 3], "b": 4, "more": {"x": 5}}
    assert await outcome(client, "show", body) == "2 (4, 6) 8 {'x': 10}"
    # The order would be the next but one, and what was received is no order to a strict model outside of JSON.
    refused = await client.post("/tasks/odd", json={"order": {"number": 1, "at": "2026-01-02T03:04:05Z"}})
    assert (refused.status_code, refused.json()["detail"][0]["type"]) == (422, "not_sendable")


async def test_options_of_a_typed_dict_are_arguments(
    queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient
) -> None:
    @queue.task
    async def show(first: int = 1, second: int = 2, **more: Unpack[More]) -> str:
        return f"{first} {second} {more}"

    app = app_of(queue)
    assert schema_of(app, "show")["required"] == ["size"]
    await run_worker(queue)
    client = client_of(app)
    assert await outcome(client, "show", {"size": 3}) == "1 2 {'size': 3}"
    assert await outcome(client, "show", {"second": 5, "size": 3, "colour": "red"}) == (
        "1 5 {'size': 3, 'colour': <Colour.RED: 'red'>}"
    )


async def test_a_key_of_a_function_gets_the_arguments(queue: TaskQueue, client_of: MakeClient) -> None:
    @queue.task(unique_key=lambda number, to: f"{number} {to}")
    async def send(order: int, to: str) -> None: ...

    client = client_of(app_of(queue))
    ids = [(await client.post("/tasks/send", json={"order": 1, "to": to})).json()["id"] for to in ("a", "a", "b")]
    assert ids[0] == ids[1] != ids[2]


async def test_class_batch_and_injected_tasks(queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient) -> None:
    class NamedRefund(Task):
        """Give the money back."""

        order: int
        amount: Decimal = Field(default=Decimal(1), gt=0)

        async def execute(self) -> str:
            return f"{self.order}: {self.amount!r}"

    def item(number: int, twice: bool = False) -> int: ...  # type: ignore[empty-body]

    @queue.batch_task(item=item, size=1)
    async def double_all(items: list[BatchItem]) -> list[int]:
        return [one.args[0] * 2 for one in items]

    @queue.batch_task(size=1)
    async def count_all(items: list[BatchItem]) -> list[int]:
        return [len(one.args) for one in items]

    @queue.task
    async def load(db: Annotated[str, Depends(database)], city: str, other: str = Depends(database)) -> str:
        return f"{db} {city} {other}"

    app = app_of(queue)
    assert list(schema_of(app, "load")["properties"]) == ["city"]
    assert list(schema_of(app, "double_all")["properties"]) == ["number", "twice"]
    assert list(schema_of(app, "count_all")["properties"]) == ["args", "kwargs"]
    assert list(schema_of(app, "named_refund")["properties"]) == ["order", "amount"]
    assert app.openapi()["paths"]["/tasks/named_refund"]["post"]["description"] == "Give the money back."
    await run_worker(queue)
    client = client_of(app)
    assert await outcome(client, "load", {"city": "paris"}) == "db paris db"
    assert await outcome(client, "double_all", {"number": 4}) == 8
    assert await outcome(client, "count_all", {"args": [1, 2]}) == 2
    assert await outcome(client, "named_refund", {"order": 7, "amount": "2.50"}) == "7: Decimal('2.50')"
    refused = await client.post("/tasks/load", json={"city": "paris", "db": "other"})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "db"]
    wrong = await client.post("/tasks/named_refund", json={"order": 7, "amount": -1})
    assert wrong.json()["detail"][0]["loc"] == ["body", "amount"]


async def test_wrong_arguments_are_refused_in_the_form_of_fastapi(queue: TaskQueue, client_of: MakeClient) -> None:
    @queue.task
    async def send(to: str, orders: list[Order], count: Annotated[int, Field(le=3)] = 1) -> None: ...

    client = client_of(app_of(queue))
    order = {"number": 1, "at": "2026-01-02T03:04:05Z"}
    answer = await client.post("/tasks/send", json={"orders": [order, {"number": "1"}], "count": 5, "cuont": 1})
    assert answer.status_code == 422
    problems = [(each["loc"], each["type"]) for each in answer.json()["detail"]]
    assert problems == [
        (["body", "to"], "missing"),
        (["body", "orders", 1, "number"], "int_type"),
        (["body", "orders", 1, "at"], "missing"),
        (["body", "count"], "less_than_equal"),
        (["body", "cuont"], "extra_forbidden"),
    ]
    assert (await queue.queue_stats("default")).enqueued_total == 0


@pytest.mark.parametrize(
    ("content", "kind", "problem"),
    [
        (b'{"to": ', "application/json", "json_invalid"),
        (b'{"to": "\xff"}', "application/json", "json_invalid"),
        (b"\xff\xfe", "text/plain", "not_json"),
        (b'{"to": "a"}', None, "not_json"),  # a form of another site could send it without asking
        (b"", "application/json", "missing"),
        (b"[1]", "application/json", "dict_type"),
        (b"[" * 100_000, "application/json", "json_invalid"),
        (b'{"to": "\\ud800"}', "application/json", "json_invalid"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    queue: TaskQueue, client_of: MakeClient, content: bytes, kind: str | None, problem: str
) -> None:
    @queue.task
    async def send(to: str) -> None: ...

    headers = {"content-type": kind} if kind else {}
    answer = await client_of(app_of(queue)).post("/tasks/send", content=content, headers=headers)
    assert answer.status_code == 422
    assert [(each["loc"], each["type"]) for each in answer.json()["detail"]] == [(["body"], problem)]


@pytest.mark.parametrize("value", [b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b'"\\u0000"', b'["\\u2028"]'])
async def test_a_wrong_value_that_json_can_hardly_show_is_refused_too(
    queue: TaskQueue, client_of: MakeClient, value: bytes
) -> None:
    @queue.task
    async def send(to: Annotated[UUID, AfterValidator(lambda value: value)]) -> None: ...

    headers = {"content-type": "application/json"}
    answer = await client_of(app_of(queue)).post("/tasks/send", content=b'{"to": %s}' % value, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"


async def test_results_that_json_does_not_have(queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient) -> None:
    @queue.task
    async def odd(which: str) -> Any:
        return {"nan": float("nan"), "deep": {"inf": [float("-inf")]}, "bytes": b"\xff"}[which]

    @queue.task
    async def typed() -> tuple[bytes, set[int], datetime, Decimal, float]:
        return b"\xff", {1}, datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.50"), float("inf")

    await run_worker(queue)
    client = client_of(app_of(queue))
    assert await outcome(client, "odd", {"which": "nan"}) == "NaN"
    assert await outcome(client, "odd", {"which": "deep"}) == {"inf": ["-Infinity"]}
    assert await outcome(client, "odd", {"which": "bytes"}) == "_w=="
    assert await outcome(client, "typed", {}) == ["_w==", [1], "2026-01-02T00:00:00Z", "1.50", "Infinity"]


async def test_a_task_without_required_arguments_needs_no_body(
    queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient
) -> None:
    @queue.task
    async def tidy(days: int = 7) -> int:
        return days

    client = client_of(app_of(queue))
    accepted = await client.post("/tasks/tidy")
    assert accepted.status_code == 202
    await run_worker(queue)
    assert (await client.get(accepted.json()["status_url"], params={"wait": 20})).json()["result"] == 7


async def test_a_mistyped_task_is_told_the_right_name(queue: TaskQueue, client_of: MakeClient) -> None:
    @queue.task
    async def send_email(to: str) -> None: ...

    client = client_of(app_of(queue))
    answer = await client.post("/tasks/send_emial", json={"to": "a"})
    assert (answer.status_code, answer.json()) == (
        404, {"detail": "no task is named 'send_emial' (did you mean 'send_email'?)"},
    )  # fmt: skip
    assert (await client.get("/tasks/send_email")).status_code == 405


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("shop.mail.send", "shop.mail.send"),
        ("shop/mail/send", "shop/mail/send"),
        ("send mail", "send%20mail"),
        ("send?{x}#%20", "send%3F%7Bx%7D%23%2520"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("health", "health"),
        ("metrics/queues", "metrics/queues"),
        ("status/1", "status/1"),
        ("ends/", "ends/"),
    ],
)
async def test_a_task_of_any_name_has_its_operation(
    queue: TaskQueue, client_of: MakeClient, name: str, path: str
) -> None:
    @queue.task(name=name)
    async def send(to: str) -> None: ...

    app = FastAPI()
    app.include_router(router(queue), prefix="/shops/{shop}")
    client = client_of(app)
    assert f"/shops/{{shop}}/tasks/{path}" in app.openapi()["paths"]
    answer = await client.post(f"/shops/eins%20a/tasks/{path}", json={"to": "a"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["task"] == name
    url = answer.json()["status_url"]
    assert url == f"/shops/eins%20a/tasks/status/{answer.json()['id']}"
    assert (await client.get(url)).json()["status"] == "ready"
    assert (await client.get("/shops/a/tasks/health")).json()["status"] == "healthy"


async def test_names_that_differ_in_signs_have_operations_of_their_own(queue: TaskQueue) -> None:
    for name in ("a.b", "a_b", "a/b"):

        @queue.task(name=name)
        async def send(to: str) -> None: ...

    paths = app_of(queue).openapi()["paths"]  # a warning about equal operation ids would be an error here
    assert len({paths[f"/tasks/{name}"]["post"]["operationId"] for name in ("a.b", "a_b", "a/b")}) == 3


async def test_a_task_that_is_defined_later_has_its_operation(queue: TaskQueue, client_of: MakeClient) -> None:
    app = app_of(queue)
    client = client_of(app)
    assert "/tasks/later" not in app.openapi()["paths"]
    assert (await client.post("/tasks/later", json={"to": "a"})).status_code == 404

    @queue.task
    async def later(to: str) -> None: ...

    assert "/tasks/later" in app.openapi()["paths"]
    assert (await client.post("/tasks/later", json={"to": "a"})).status_code == 202

    class LaterStill(Task):
        count: int

        async def execute(self) -> None: ...

    assert (await client.post("/tasks/later_still", json={"count": 1})).status_code == 202


async def test_a_task_that_is_defined_again_has_its_new_arguments(queue: TaskQueue, client_of: MakeClient) -> None:
    client = client_of(app := app_of(queue))
    for source in ("async def again(old: int) -> None: ...", "async def again(new: str) -> None: ..."):
        space: dict[str, Any] = {"__name__": "__main__"}  # as a cell of a notebook that runs again
        exec(compile(source, "<cell>", "exec"), space)
        queue.registry._definitions.pop("again", None)
        queue.task(space["again"])
    assert list(schema_of(app, "again")["properties"]) == ["new"]
    assert (await client.post("/tasks/again", json={"old": 1})).status_code == 422
    assert (await client.post("/tasks/again", json={"new": "x"})).status_code == 202


async def test_a_task_that_names_a_class_which_is_defined_later(queue: TaskQueue, client_of: MakeClient) -> None:
    client = client_of(app := app_of(queue))
    module = types.ModuleType("shop_of_later_classes")
    source = """
from __future__ import annotations
from pydantic import BaseModel
from taskfleet import Task

class Step(Task):
    part: Part

class Build(Step):
    async def execute(self) -> None: ...
"""
    exec(source, vars(module))
    answer = await client.post("/tasks/build", json={"part": {"size": 1}})
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("task 'build' cannot be enqueued over HTTP: ")
    exec("class Part(BaseModel):\n    size: int\nStep.model_rebuild()\nBuild.model_rebuild()", vars(module))
    answer = await client.post("/tasks/build", json={"part": {"size": 1}})
    assert (answer.status_code, answer.headers["location"]) == (307, "/tasks/build")
    assert (await client.post("/tasks/build", json={"part": {"size": 1}})).status_code == 202
    assert "/tasks/build" in app.openapi()["paths"]
    base = await client.post("/tasks/step", json={"part": {"size": 1}})
    assert (base.status_code, base.json()["detail"]) == (
        404, "task 'step' cannot be enqueued over HTTP: it has no execute method, so it is a base of other tasks",
    )  # fmt: skip


async def test_a_task_that_is_named_like_a_route_may_be_defined_again(queue: TaskQueue, client_of: MakeClient) -> None:
    client = client_of(app_of(queue))
    for _ in range(2):
        queue.registry._definitions.pop("health", None)

        @queue.task
        async def health() -> None: ...

    assert (await client.get("/tasks/health")).status_code == 200
    assert (await client.post("/tasks/health")).status_code == 202


async def test_only_the_chosen_tasks_can_be_enqueued(queue: TaskQueue, client_of: MakeClient) -> None:
    @queue.task
    async def public(to: str) -> None: ...

    @queue.task
    async def internal(to: str) -> None: ...

    app = app_of(queue, tasks=[public, "later"])

    @queue.task
    async def later() -> None: ...

    client = client_of(app)
    codes = [
        (await client.post(f"/tasks/{name}", json=body)).status_code
        for name, body in (("public", {"to": "a"}), ("internal", {"to": "a"}), ("later", {}))
    ]
    assert codes == [202, 404, 202]
    posts = [path for path, operations in app.openapi()["paths"].items() if "post" in operations]
    assert posts == ["/tasks/public", "/tasks/later"]
    assert [task["name"] for task in (await client.get("/tasks/registry")).json()["tasks"]] == ["later", "public"]


async def test_a_task_that_json_cannot_call_is_left_out_and_says_why(queue: TaskQueue, client_of: MakeClient) -> None:
    @queue.task
    async def walk(numbers: range) -> None: ...

    client = client_of(app := app_of(queue))
    assert "/tasks/walk" not in app.openapi()["paths"]
    answer = await client.post("/tasks/walk", json={"numbers": 3})
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("task 'walk' cannot be enqueued over HTTP: ")
    (task,) = [t for t in (await client.get("/tasks/registry")).json()["tasks"] if t["name"] == "walk"]
    assert (task["path"], task["arguments"], task["unavailable"]) == (None, None, answer.json()["detail"])


async def test_options_of_the_call_are_in_the_query(queue: TaskQueue, client_of: MakeClient) -> None:
    queue.application.options_of("low")

    @queue.task
    async def send(to: str) -> None: ...

    client = client_of(app_of(queue))

    async def post(**options: Any) -> httpx.Response:
        return await client.post("/tasks/send", json={"to": "a"}, params=options)

    delayed = (await post(delay=60)).json()
    assert (await client.get(delayed["status_url"])).json()["status"] == "delayed"
    assert (await post(queue="low")).json()["queue"] == "low"
    first, second = (await post(unique_key="k")).json(), (await post(unique_key="k")).json()
    assert first["id"] == second["id"]
    unknown = await post(queue="lwo")
    assert unknown.status_code == 422
    assert unknown.json()["detail"][0]["loc"] == ["query", "queue"]
    assert "did you mean 'low'?" in unknown.json()["detail"][0]["msg"]
    for wrong in ({"delay": -1}, {"delay": "nan"}, {"delay": 1e12}, {"unique_key": ""}, {"unique_key": "a\0"}):
        answer = await post(**wrong)
        assert answer.status_code == 422, wrong
        assert answer.json()["detail"][0]["loc"][0] == "query"


async def test_a_full_queue_is_429(make_queue: MakeQueue, client_of: MakeClient) -> None:
    queue = make_queue(queues=[QueueOptions("default", max_length=2)])

    @queue.task
    async def send(to: str) -> None: ...

    client = client_of(app_of(queue))
    answers = [await client.post("/tasks/send", json={"to": "a"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert "max_length" in answers[2].json()["detail"] or "full" in answers[2].json()["detail"]


async def test_a_body_or_a_payload_that_is_too_large_is_413(make_queue: MakeQueue, client_of: MakeClient) -> None:
    queue = make_queue(max_payload_bytes=1000)

    @queue.task
    async def send(to: str) -> None: ...

    async def endless() -> AsyncIterator[bytes]:
        yield b'{"to": "'
        for _ in range(1000):
            yield b"x" * 1000

    client = client_of(app_of(queue))
    headers = {"content-type": "application/json"}
    body = await client.post("/tasks/send", content=endless(), headers=headers)
    assert (body.status_code, body.json()) == (413, {"detail": "the body has more than 1000 bytes"})
    roomy = client_of(app_of(queue, max_body_bytes=10_000))
    payload = await roomy.post("/tasks/send", json={"to": "x" * 2000})
    assert payload.status_code == 413
    assert "max_payload_bytes" in payload.json()["detail"]
    assert (await queue.queue_stats("default")).enqueued_total == 0


async def test_redis_that_is_away_is_503_and_comes_back(make_queue: MakeQueue, client_of: MakeClient) -> None:
    with RedisServer() as server:
        queue = make_queue(server.url)

        @queue.task
        async def send(to: str) -> None: ...

        client = client_of(app_of(queue))
        assert (await client.post("/tasks/send", json={"to": "a"})).status_code == 202
        server.stop()
        answer = await client.post("/tasks/send", json={"to": "a"})
        assert answer.status_code == 503
        assert server.address in answer.json()["detail"]
        assert (await client.get("/tasks/status/abc")).status_code == 503
        server.start()
        assert (await client.post("/tasks/send", json={"to": "a"})).status_code == 202


async def test_an_unknown_id_is_404(queue: TaskQueue, client_of: MakeClient) -> None:
    client = client_of(app_of(queue))
    answer = await client.get("/tasks/status/0123456789", params={"wait": 5})
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("task 0123456789 is not known")
    assert (await client.get("/tasks/status/" + "x" * 600)).status_code == 422
    assert (await client.get("/tasks/status/a%00b")).status_code == 422


async def test_the_end_of_a_failed_task_is_told_without_its_traceback(
    queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient
) -> None:
    @queue.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("no such order")

    await run_worker(queue)
    client = client_of(app_of(queue))
    url = (await client.post("/tasks/fail")).json()["status_url"]
    answer = (await client.get(url, params={"wait": 20})).json()
    assert (answer["status"], answer["ended"], answer["result"]) == ("failed", True, None)
    assert "ValueError: no such order" in answer["error"]
    assert "Traceback" not in str(answer)


async def test_the_wait_for_an_end_is_bounded(queue: TaskQueue, client_of: MakeClient) -> None:
    @queue.task
    async def send() -> None: ...

    client = client_of(app_of(queue, max_wait=0.05))
    url = (await client.post("/tasks/send")).json()["status_url"]
    assert (await client.get(url, params={"wait": 3000})).json()["status"] == "ready"
    assert (await client.get(url, params={"wait": "inf"})).status_code == 422


async def test_the_progress_of_a_task_is_told(queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient) -> None:
    @queue.task
    async def long() -> None:
        await current_task().progress(3, 10, "three")
        await until(lambda: seen, "the test has seen it")

    seen: list[Any] = []
    await run_worker(queue)
    client = client_of(app_of(queue))
    url = (await client.post("/tasks/long")).json()["status_url"]

    async def progress() -> Any:
        return (await client.get(url)).json()["progress"]

    seen.append(await until(progress, "the report has arrived"))
    assert seen[0] | {"at": ""} == {"done": 3.0, "total": 10.0, "note": "three", "at": ""}


async def test_a_sealed_queue(make_queue: MakeQueue, run_worker: RunWorker, client_of: MakeClient) -> None:
    queue = make_queue(signing_keys=["a key of more than sixteen bytes"])

    @queue.task
    async def double(number: int) -> int:
        return 2 * number

    await run_worker(queue)
    client = client_of(app_of(queue))
    assert await outcome(client, "double", {"number": 4}) == 8
    url = (await client.post("/tasks/double", json={"number": 5})).json()["status_url"]
    await client.get(url, params={"wait": 20})
    stranger = make_queue(signing_keys=["another key of more than sixteen bytes"])
    answer = await client_of(app_of(stranger)).get(url)
    assert answer.status_code == 500
    assert "signed" in answer.json()["detail"] or "signature" in answer.json()["detail"]
