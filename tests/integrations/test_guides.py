"""The files of the guides, served by the real frameworks. A committed order sends one task, one rolled back none."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskfleet import TaskQueue
from tests.engine.conftest import until
from tests.support.ports import free_port
from tests.support.processes import Start, python_processes

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
_FILE = re.compile(r"```python\n# (shop/\w+\.py)\n(.*?)```", re.DOTALL)
DJANGO = {"DJANGO_SETTINGS_MODULE": "shop.settings"}
ORDER = {"email": "a@b.c"}


def files_of(guide: str) -> dict[str, str]:
    return dict(_FILE.findall((GUIDES / f"{guide}.md").read_text(encoding="utf-8")))


def write(folder: Path, guide: str, *more: str) -> None:
    """Write the files of a guide, and those of the page about transactions that it uses."""
    shared = files_of("transactions")
    files = files_of(guide) | {name: shared[name] for name in more}
    assert files
    (folder / "shop").mkdir()
    for name, source in files.items():
        (folder / name).write_text(source, encoding="utf-8")


@pytest.fixture
def start(shared: TaskQueue) -> Iterator[Start]:
    with python_processes() as start:
        yield start


@asynccontextmanager
async def client_of(process: Any, port: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server, once that answers at all."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

        async def answers() -> bool:
            assert process.poll() is None, process.stderr.read().decode()
            try:
                return (await client.get("/nothing")).status_code == 404
            except httpx.TransportError:
                return False

        await until(answers, "the server answers", seconds=60)
        yield client


def commands(kind: str, port: int) -> tuple[str, ...]:
    return {
        "uvicorn": ("uvicorn", "shop.web:app", "--port", str(port), "--log-level", "error"),
        "flask": ("flask", "--app", "shop.web", "run", "--port", str(port)),
        "django": ("django", "runserver", "--noreload", f"127.0.0.1:{port}"),
        "django asgi": ("uvicorn", "shop.asgi:application", "--port", str(port), "--log-level", "error"),
    }[kind]


@pytest.mark.parametrize(
    ("guide", "framework", "orders"),
    [
        ("starlette", "uvicorn", ["/orders"]),
        ("flask", "flask", ["/orders"]),
        ("django", "django", ["/orders", "/orders-async"]),
        ("django", "django asgi", ["/orders", "/orders-async"]),
    ],
)
async def test_a_committed_order_sends_one_task_and_one_rolled_back_none(
    shared: TaskQueue, start: Start, tmp_path: Path, guide: str, framework: str, orders: list[str]
) -> None:
    write(tmp_path, guide, *([] if guide == "django" else ["shop/on_commit.py"]))
    environment = DJANGO if guide == "django" else {}
    if guide == "django":
        migrate = start("django", "migrate", "--run-syncdb", "--verbosity", "0", folder=tmp_path, **environment)
        assert migrate.wait(60) == 0, migrate.stderr.read()  # type: ignore[union-attr]
    port = free_port()
    process = start(*commands(framework, port), folder=tmp_path, **environment)
    async with client_of(process, port) as client:
        for path in orders:
            before = (await shared.queue_stats("default")).enqueued_total
            rolled_back = await client.post(path, json=ORDER | {"out_of_stock": "yes"})
            assert (rolled_back.status_code, rolled_back.json()) == (409, {"detail": "out of stock"})
            assert (await shared.queue_stats("default")).enqueued_total == before
            placed = await client.post(path, json=ORDER)
            assert placed.status_code == 201, placed.text
            assert (await shared.queue_stats("default")).enqueued_total == before + 1
        many = await asyncio.gather(*(client.post(orders[0], json=ORDER) for _ in range(20)))
        made = [answer.json()["order"] for answer in many if answer.status_code == 201]
        assert made  # SQLite may be locked for the others, which is a 500 without a task
        assert (await shared.queue_stats("default")).enqueued_total == len(orders) + len(made)
        accepted = await client.post("/emails", json={"to": "x@y.z", "order": 7})
        assert accepted.status_code == 202
        url = f"/emails/{accepted.json()['id']}"
        assert (await client.get(url)).json() == {"status": "ready"}
        app = "shop.worker:queue" if guide == "django" else "shop.tasks:queue"
        start("taskfleet", "worker", app, folder=tmp_path, **environment)

        async def succeeded() -> bool:
            found: bool = (await client.get(url)).json() == {"status": "succeeded"}
            return found

        await until(succeeded, "the task has succeeded", seconds=60)
        assert await shared.handle(accepted.json()["id"]).result(timeout=60) == "order 7 confirmed to x@y.z"


async def test_errors_of_the_queue_have_codes(shared: TaskQueue, start: Start, tmp_path: Path) -> None:
    for guide, framework in (("starlette", "uvicorn"), ("flask", "flask")):
        folder = tmp_path / guide
        folder.mkdir()
        write(folder, guide, "shop/on_commit.py")
        port = free_port()
        queues = json.dumps([{"name": "default", "max_length": 1}])
        process = start(*commands(framework, port), folder=folder, TASKFLEET_QUEUES=queues)
        async with client_of(process, port) as client:
            wrong = await client.post("/emails", json={"to": "a", "order": "x"})
            assert wrong.status_code == 422
            assert "parameter 'order'" in wrong.json()["detail"]
            codes = {(await client.post("/emails", json={"to": "a", "order": 1})).status_code for _ in range(2)}
            assert 429 in codes
        port = free_port()
        away = start(*commands(framework, port), folder=folder, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
        async with client_of(away, port) as client:
            assert (await client.post("/emails", json={"to": "a", "order": 1})).status_code == 503


async def test_the_guide_to_fastapi(shared: TaskQueue, start: Start, tmp_path: Path) -> None:
    write(tmp_path, "fastapi")
    page = re.sub(r"\b[0-9a-f]{17}\b", "ID", (GUIDES / "fastapi.md").read_text(encoding="utf-8"))
    start("taskfleet", "worker", "shop.tasks:queue", folder=tmp_path)
    port = free_port()
    async with client_of(start(*commands("uvicorn", port), folder=tmp_path), port) as client:
        accepted = await client.post("/tasks/send_email", json={"to": "a@b.c"})
        task_id = accepted.json()["id"]
        shown = page.partition('{"id":"')[2].partition('"')[0]  # the id on the page
        assert accepted.text.replace(task_id, shown) in page
        answer = await client.get(accepted.json()["status_url"], params={"wait": 30})
        assert answer.text.replace(task_id, shown) in page
    port = free_port()
    async with client_of(
        start("uvicorn", "shop.signup:app", "--port", str(port), "--log-level", "error", folder=tmp_path), port
    ) as client:
        signed_up = await client.post("/users", params={"email": "ada@example.com"})
        answer = await client.get(f"/tasks/status/{signed_up.json()['task']}", params={"wait": 30})
        assert answer.json()["result"] == "'Welcome' sent to ada@example.com"
    port = free_port()
    guarded = start(
        "uvicorn", "shop.cors:app", "--port", str(port), "--log-level", "error", folder=tmp_path, SHOP_TOKEN="secret"
    )
    async with client_of(guarded, port) as client:
        assert (await client.get("/healthz")).json() == {"ok": True}
        assert (await client.get("/tasks/health")).status_code == 401
        assert (await client.get("/tasks/health", headers={"authorization": "Bearer no"})).status_code == 403
        headers = {"authorization": "Bearer secret", "origin": "https://shop.example"}
        sla = await client.get("/tasks/sla", headers=headers)
        assert {each["target"] for each in sla.json()["objectives"] if each["queue"] == "default"} == {60.0}
        assert sla.headers["access-control-expose-headers"] == "Location"


async def test_the_web_process_of_the_guide_runs_its_tasks_itself(
    shared: TaskQueue, start: Start, tmp_path: Path
) -> None:
    write(tmp_path, "fastapi")
    port = free_port()
    process = start("uvicorn", "shop.all_in_one:app", "--port", str(port), "--log-level", "error", folder=tmp_path)
    async with client_of(process, port) as client:
        accepted = await client.post("/tasks/send_email", json={"to": "a@b.c"})
        answer = await client.get(accepted.json()["status_url"], params={"wait": 30})
        assert answer.json()["result"] == "'hi' sent to a@b.c"
        assert (await client.get("/tasks/status")).json()["workers"]["here"] == 1
    process.send_signal(signal.SIGTERM)
    await until(lambda: process.poll() is not None, "it has ended", seconds=30)
    assert await shared.workers() == []


def run(folder: Path, program: str) -> str:
    """The output of a program beside the files of a guide."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BEGIN = """
import asyncio
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from shop.on_commit import enqueue_on_commit
from shop.tasks import queue, send_email


def order(number):
    return send_email.message("a@b.c", subject=str(number))
"""


@pytest.mark.parametrize(
    ("program", "sent"),
    [
        pytest.param(
            """
with Session(create_engine("sqlite://")) as session:
    enqueue_on_commit(session, order(1))
    enqueue_on_commit(session, order(2))
    session.commit()
    session.commit()
    enqueue_on_commit(session, order(3))
    session.rollback()
    session.execute(text("select 1"))
    session.commit()
""",
            ["1", "2"],
            id="plain",
        ),
        pytest.param(
            """
with Session(create_engine("sqlite://")) as session, session.begin():
    enqueue_on_commit(session, order(1))
    with session.begin_nested():
        enqueue_on_commit(session, order(2))
    try:
        with session.begin_nested():
            enqueue_on_commit(session, order(3))
            with session.begin_nested():
                enqueue_on_commit(session, order(4))
            raise ValueError
    except ValueError:
        pass
    enqueue_on_commit(session, order(5))
""",
            ["1", "2", "5"],
            id="savepoints",
        ),
        pytest.param(
            """
try:
    with Session(create_engine("sqlite://")) as session, session.begin():
        with session.begin_nested():
            enqueue_on_commit(session, order(1))
        raise ValueError
except ValueError:
    pass
with Session(create_engine("sqlite://")) as session:
    enqueue_on_commit(session, order(2))
""",
            [],
            id="a released savepoint in a transaction that is rolled back, and a session that is only closed",
        ),
        pytest.param(
            """
async def main():
    engine = create_async_engine("sqlite+aiosqlite://")
    async with AsyncSession(engine) as session, session.begin():
        enqueue_on_commit(session, order(1))
        async with session.begin_nested():
            enqueue_on_commit(session, order(2))
    try:
        async with AsyncSession(engine) as session, session.begin():
            enqueue_on_commit(session, order(3))
            raise ValueError
    except ValueError:
        pass
    await queue.close()
    await engine.dispose()
asyncio.run(main())
""",
            ["1", "2"],
            id="async",
        ),
    ],
)
async def test_enqueue_on_commit_of_sqlalchemy(
    shared: TaskQueue, tmp_path: Path, program: str, sent: list[str]
) -> None:
    write(tmp_path, "fastapi", "shop/on_commit.py")
    await asyncio.to_thread(run, tmp_path, BEGIN + program)
    assert await subjects(shared) == sent


async def test_the_commit_stands_when_redis_is_away(shared: TaskQueue, tmp_path: Path, monkeypatch: Any) -> None:
    write(tmp_path, "fastapi", "shop/on_commit.py")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    program = """
from taskfleet.errors import BrokerConnectionError
engine = create_engine("sqlite:///shop.db")
with Session(engine) as session:
    session.execute(text("create table orders (id integer)"))
    session.execute(text("insert into orders values (7)"))
    enqueue_on_commit(session, order(7))
    try:
        session.commit()
    except BrokerConnectionError:
        print("not sent")
with Session(engine) as session:
    print(session.scalars(text("select id from orders")).all())
"""
    assert await asyncio.to_thread(run, tmp_path, BEGIN + program) == "not sent\n[7]\n"


async def test_the_commit_of_django_stands_when_redis_is_away(shared: TaskQueue, start: Start, tmp_path: Path) -> None:
    write(tmp_path, "django")
    migrate = start("django", "migrate", "--run-syncdb", "--verbosity", "0", folder=tmp_path, **DJANGO)
    assert migrate.wait(60) == 0
    program = """
import django; django.setup()
from django.db import transaction
from shop import views
from shop.models import Order
from taskfleet.errors import BrokerConnectionError
try:
    views.place({"email": "a@b.c"})
except BrokerConnectionError:
    print("not sent,", Order.objects.count(), "order")
import logging; logging.disable()
with transaction.atomic():
    order = Order.objects.create(email="x")
    transaction.on_commit(lambda: views.send_email.enqueue_sync(order.email, order=order.pk), robust=True)
print("goes on,", Order.objects.count(), "orders")
"""
    environment = os.environ | DJANGO | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "not sent, 1 order\ngoes on, 2 orders\n", done.stderr


async def subjects(queue: TaskQueue) -> list[str]:
    """Run what has been enqueued, and return it in order."""
    seen: list[str] = []

    @queue.task
    async def send_email(to: str, subject: str = "hi") -> None:
        seen.append(subject)

    count = (await queue.queue_stats("default")).enqueued_total
    await queue.start_workers(1)

    async def ended() -> bool:
        return (await queue.queue_stats("default")).finished_total == count

    await until(ended, "all have ended")
    await queue.stop_workers()
    return sorted(seen)


OUTBOX = """
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from shop import tasks
from shop.outbox import Base, Outbox, relay

engine = create_engine("sqlite:///shop.db")
"""


async def test_an_outbox_loses_nothing_when_the_process_dies_at_any_point(shared: TaskQueue, tmp_path: Path) -> None:
    write(tmp_path, "fastapi", "shop/outbox.py")
    await asyncio.to_thread(
        run,
        tmp_path,
        OUTBOX
        + """
Base.metadata.create_all(engine)
with Session(engine) as session, session.begin():
    for number in range(3):
        session.add(Outbox(task="send_email", arguments={"to": "a@b.c", "subject": str(number)}))
with Session(engine) as session:
    session.add(Outbox(task="send_email", arguments={"to": "a@b.c", "subject": "rolled back"}))
    session.flush()
# The process dies here: no task has been sent.
""",
    )
    assert (await shared.get_metrics()) == {}
    dying = """
class Death(Exception): ...
def die(): raise Death
with Session(engine) as session:
    session.commit = die
    try: relay(session)
    except Death: print("died after the enqueue, before the commit")
"""
    assert await asyncio.to_thread(run, tmp_path, OUTBOX + dying) == "died after the enqueue, before the commit\n"
    again = "with Session(engine) as session: print(relay(session), relay(session))"
    assert await asyncio.to_thread(run, tmp_path, OUTBOX + again) == "3 0\n"
    assert await subjects(shared) == ["0", "1", "2"]
