"""The router in an application: auth, CORS, settings, lifespan, sub-applications, several queues, a missing FastAPI."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from fastapi.middleware.cors import CORSMiddleware

from taskfleet import TaskQueue
from taskfleet.errors import ConfigurationError
from taskfleet.integrations.fastapi import Thresholds, router
from taskfleet.settings import Settings, WebSettings
from tests.engine.conftest import MakeQueue, RunWorker
from tests.integrations.conftest import MakeClient

GETS = (
    "/health", "/status", "/metrics", "/metrics/system", "/metrics/performance", "/metrics/autoscaler",
    "/metrics/queues", "/metrics/workers", "/metrics/memory", "/registry", "/alerts", "/sla", "/diagnostics", "/uptime",
)  # fmt: skip


def operations(app: FastAPI) -> set[tuple[str, str]]:
    return {(method, path) for path, found in app.openapi()["paths"].items() for method in found}


def with_task(queue: TaskQueue, name: str = "send") -> TaskQueue:
    @queue.task(name=name)
    async def send(to: str) -> str:
        return to

    return queue


async def let_in(x_key: Annotated[str, Header()] = "") -> None:
    if x_key != "secret":
        raise HTTPException(401, "who are you?")


def test_every_route_of_the_contract(queue: TaskQueue) -> None:
    app = FastAPI()
    app.include_router(router(with_task(queue), prefix="/tasks"))
    expected = {("get", f"/tasks{path}") for path in GETS}
    assert operations(app) == expected | {("get", "/tasks/status/{task_id}"), ("post", "/tasks/send")}


@pytest.mark.parametrize("option", ["auth", "dependencies"])
async def test_auth_guards_every_route(queue: TaskQueue, client_of: MakeClient, option: str) -> None:
    app = FastAPI()
    options: dict[str, Any] = {"auth": let_in} if option == "auth" else {"dependencies": [Depends(let_in)]}
    app.include_router(router(with_task(queue), **options))

    @queue.task
    async def later(to: str) -> None: ...

    client = client_of(app)
    calls = [(method, path.format(task_id="1")) for method, path in operations(app)] + [("post", "/tasks/sned")]
    assert len(calls) == len(GETS) + 4
    for method, path in calls:
        for body in ({"to": "a"}, {"wrong": 1}):
            answer = await client.request(method, path, json=body if method == "post" else None)
            assert (answer.status_code, answer.json()) == (401, {"detail": "who are you?"}), path
    headers = {"x-key": "secret"}
    assert (await client.get("/tasks/health", headers=headers)).status_code == 200
    assert (await client.post("/tasks/later", json={"to": "a"}, headers=headers)).status_code == 202
    assert (await queue.queue_stats("default")).enqueued_total == 1


async def test_cors_is_that_of_the_application(queue: TaskQueue, client_of: MakeClient) -> None:
    app = FastAPI()
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["https://shop.example"],
        allow_methods=["GET", "POST"],
        expose_headers=["Location"],
    )
    app.include_router(router(with_task(queue), auth=let_in))
    client = client_of(app)
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    allowed = await client.options("/tasks/send", headers=asked | {"origin": "https://shop.example"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    refused = await client.options("/tasks/send", headers=asked | {"origin": "https://other.example"})
    assert refused.status_code == 400
    headers = {"origin": "https://shop.example", "x-key": "secret"}
    answer = await client.post("/tasks/send", json={"to": "a"}, headers=headers)
    assert answer.headers["access-control-expose-headers"] == "Location"


@pytest.mark.parametrize(
    ("web", "paths"),
    [
        (WebSettings(), {f"/tasks{path}" for path in (*GETS, "/status/{task_id}", "/send")}),
        (
            WebSettings(enable_metrics=False),
            {f"/tasks{path}" for path in ("/health", "/status", "/status/{task_id}", "/send")},
        ),
        (
            WebSettings(enable_health_check=False, route_prefix="/q"),
            {f"/q{path}" for path in (*GETS[2:], "/status/{task_id}", "/send")},
        ),
        (WebSettings(auto_configure_routes=False), set()),
    ],
)  # fmt: skip
def test_the_settings_of_the_section_web(web: WebSettings, paths: set[str]) -> None:
    queue = with_task(TaskQueue("memory://", settings=Settings(web=web)))
    app = FastAPI()
    app.include_router(router(queue))
    assert {path for _, path in operations(app)} == paths


def test_the_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_WEB__ROUTE_PREFIX", "/jobs")
    app = FastAPI()
    app.include_router(router(with_task(TaskQueue("memory://"))))
    assert ("post", "/jobs/send") in operations(app)
    monkeypatch.setenv("TASKFLEET_WEB__ROUTE_PREFIX", "jobs/")
    with pytest.raises(ConfigurationError, match=r"TASKFLEET_WEB__ROUTE_PREFIX: web\.route_prefix: "):
        TaskQueue("memory://")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"prefix": "tasks"}, "prefix='tasks': a prefix begins with '/'"),
        ({"prefix": "/tasks/"}, "does not end with it"),
        ({"tasks": "send"}, "tasks='send' is not a list"),
        ({"tasks": [3]}, "tasks: 3 is no task"),
        ({"max_body_bytes": 0}, "max_body_bytes=0"),
        ({"max_wait": -1}, "max_wait=-1"),
        ({"health_timeout": 0}, "health_timeout=0"),
        ({"thresholds": {"start_within": 1}}, "thresholds: unknown key 'start_within'"),
        ({"thresholds": {"success_ratio": 99}}, "success_ratio=99 is no part of a whole"),
        ({"thresholds": {"start_within_seconds": {"low": 0}}}, r"start_within_seconds\['low'\]=0 must be positive"),
        ({"thresholds": 5}, "thresholds=5: expected Thresholds"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        router(TaskQueue("memory://"), **options)


async def test_the_application_closes_the_queue_at_its_end(
    make_queue: MakeQueue, run_worker: RunWorker, client_of: MakeClient
) -> None:
    queue = with_task(make_queue())
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await queue.start_workers(1)
        events.append(f"begun with {queue.worker_count} worker")
        yield
        events.append(f"ended with {queue.worker_count} workers and {len(queue.broker.descriptors())} sockets")

    app = FastAPI(lifespan=lifespan)
    app.include_router(router(queue))
    client = client_of(app)
    async with app.router.lifespan_context(app):
        url = (await client.post("/tasks/send", json={"to": "a"})).json()["status_url"]
        assert (await client.get(url, params={"wait": 20})).json()["result"] == "a"
        assert queue.broker.descriptors()
    assert events == ["begun with 1 worker", "ended with 0 workers and 0 sockets"]


async def test_several_queues_in_sub_applications(make_queue: MakeQueue, client_of: MakeClient) -> None:
    shop, mail = with_task(make_queue(), "order"), with_task(make_queue(redis={"key_prefix": "mail"}), "letter")
    app, sub, inner = FastAPI(), FastAPI(), APIRouter(prefix="/v1")
    inner.include_router(router(shop, "/shop"))
    app.include_router(inner)
    app.include_router(router(mail, "/mail"))
    sub.include_router(router(mail))
    app.mount("/sub", sub)
    client = client_of(app)
    posts = {path for method, path in operations(app) if method == "post"}
    assert posts == {"/v1/shop/order", "/mail/letter"}
    for path in ("/v1/shop/order", "/mail/letter", "/sub/tasks/letter"):
        answer = await client.post(path, json={"to": "a"})
        assert answer.status_code == 202, path
        assert answer.json()["status_url"].startswith(path.rpartition("/")[0] + "/status/")
        assert (await client.get(answer.json()["status_url"])).json()["status"] == "ready"
    assert (await client.post("/mail/order", json={"to": "a"})).status_code == 404
    assert (await mail.queue_stats("default")).enqueued_total == 2


@pytest.mark.parametrize("strips", [False, True])
async def test_behind_a_proxy_the_status_url_is_that_of_the_client(
    queue: TaskQueue, client_of: MakeClient, strips: bool
) -> None:
    app = FastAPI()
    app.include_router(router(with_task(queue)))
    client = client_of(app, root_path="/api v1")
    answer = await client.post("/tasks/send" if strips else "/api%20v1/tasks/send", json={"to": "a"})
    assert answer.json()["status_url"] == f"/api%20v1/tasks/status/{answer.json()['id']}"


async def test_without_a_prefix_the_other_routes_of_the_application_stay(
    queue: TaskQueue, client_of: MakeClient
) -> None:
    app = FastAPI()
    app.include_router(router(with_task(queue), ""))

    @app.post("/orders")
    async def orders() -> str:
        return "mine"

    client = client_of(app)
    assert (await client.post("/send", json={"to": "a"})).status_code == 202
    assert (await client.post("/orders")).json() == "mine"
    assert (await client.post("/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        (
            "sys.modules['fastapi'] = None",
            "taskfleet.integrations.fastapi needs FastAPI: pip install 'taskfleet[web]'",
        ),
        (
            "import fastapi; fastapi.__version__ = '0.115.12'",
            (
                "taskfleet.integrations.fastapi needs FastAPI 0.137 or newer, and 0.115.12 is installed: "
                "pip install --upgrade 'taskfleet[web]'"
            ),
        ),
    ],
)
def test_without_fastapi_one_line_says_what_to_install(setup: str, message: str) -> None:
    program = f"import sys; {setup}; import taskfleet.integrations.fastapi"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: {message}"
    assert "During handling" not in done.stderr


def test_the_library_itself_needs_no_fastapi() -> None:
    program = "import sys; sys.modules['fastapi'] = None; import taskfleet, taskfleet.integrations.observing.observer"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_public_names() -> None:
    import taskfleet.integrations.fastapi as integration

    assert set(integration.__all__) == {"Thresholds", "router"}
    assert list(inspect.signature(router).parameters) == [
        "queue", "prefix", "tasks", "auth", "dependencies", "thresholds", "max_body_bytes", "max_wait",
        "health_timeout",
    ]  # fmt: skip
    assert Thresholds().start_within_seconds == 60
