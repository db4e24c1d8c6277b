"""`taskfleet dashboard` as a process."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskfleet import TaskQueue
from tests.engine.conftest import until
from tests.support.certificates import Certificates

Run = Callable[..., "Running"]
TOKEN = "a-token-of-some-length"


class Running:
    """A dashboard that runs."""

    def __init__(self, *options: str, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", "dashboard", "--port", "0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env,
        )  # fmt: skip

    async def url(self) -> str:
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line.startswith("dashboard: "), self.process.stderr.read() if self.process.stderr else ""
        return line.removeprefix("dashboard: ").strip()

    async def end(self) -> tuple[int, str]:
        self.process.terminate()
        _, errors = await asyncio.to_thread(self.process.communicate, timeout=60)
        return self.process.returncode, errors


@pytest.fixture
def run() -> Iterator[Run]:
    """Start dashboards and end them after the test."""
    started: list[Running] = []

    def start(*options: str, **env: str) -> Running:
        started.append(Running(*options, **env))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


BEYOND = (
    "taskfleet: --host {} can be reached from other machines: say who may look, with --token-file, --proxy-user-header "
    "or --kubernetes-access\n"
)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--host", "0.0.0.0"), BEYOND.format("0.0.0.0")),
        (("--host", "::"), BEYOND.format("::")),
        (("--host", "0.0.0.0", "--read-only"), BEYOND.format("0.0.0.0")),
        (
            ("--proxy-user-header", "X-User"),
            "taskfleet: --proxy-user-header needs --trusted-proxy: who else could send that header?\n",
        ),
        (
            ("--trusted-proxy", "10.0.0.0/8"),
            (
                "taskfleet: --proxy-groups-header, --trusted-proxy, --edit-group and --view-group go with "
                "--proxy-user-header\n"
            ),
        ),
        (
            ("--proxy-user-header", "X-User", "--trusted-proxy", "proxy"),
            "taskfleet: --trusted-proxy 'proxy' is no address and no network, such as 10.0.0.0/8\n",
        ),
        (
            ("--token-file", "/nowhere"),
            "taskfleet: --token-file '/nowhere' cannot be read: No such file or directory\n",
        ),
        (
            ("--token-file", "/nowhere", "--kubernetes-access", "shop"),
            "taskfleet: --token-file and --kubernetes-access: give one access method\n",
        ),
        (
            ("--tls-key", "/nowhere"),
            "taskfleet: --tls-cert and --tls-key go together, and --tls-client-ca needs them\n",
        ),
        (("--mask", "a b"), "taskfleet: mask 'a b' is no name of a field; name one, such as password\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_a_wrong_option_is_one_clear_line(
    shared: TaskQueue, run: Run, options: tuple[str, ...], line: str
) -> None:
    _, errors = await asyncio.to_thread(run(*options).process.communicate, timeout=90)
    assert errors == line


async def test_it_serves_an_application_and_ends_with_open_streams(shared: TaskQueue, run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from taskfleet import TaskQueue\n"
        "queue = TaskQueue(queues=[{'name': 'mail', 'concurrency': 2}])\n"
        "@queue.task(queue='mail')\n"
        "async def send(to, password): ...\n"
    )
    running = run(
        "--app", "shop:queue", "--mask", "password", PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    )
    url = await running.url()
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        queue = (await client.get("/api/queues/mail")).json()
        assert queue["options"]["concurrency"] == 2

        @shared.task(name="send", queue="mail")
        async def send(to: str, password: str) -> None: ...

        handle = await send.enqueue("bob", "hidden")
        assert "hidden" not in (await client.get(f"/api/tasks/{handle.id}")).text

        async def recorded() -> Any:
            found = (await client.get("/api/queues/mail/history")).json()
            return found["points"]

        await until(recorded, "it records the history", seconds=60)
        async with client.stream("GET", "/api/events", params={"topics": "queue:mail"}) as response:
            lines = response.aiter_lines()
            while "event: queue:mail" not in await anext(lines):
                pass
            code, errors = await running.end()
            rest = [line async for line in lines]
    assert (code, errors) == (0, "")
    assert "event: end" in rest


async def test_beyond_loopback_it_serves_with_tokens_and_tls(shared: TaskQueue, run: Run, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"view vera {TOKEN}\n")
    running = run(
        "--host", "0.0.0.0", "--token-file", str(tokens), "--tls-cert", str(certificates.server), "--tls-key",
        str(certificates.server_key),
    )  # fmt: skip
    url = (await running.url()).replace("0.0.0.0", "127.0.0.1")
    assert url.startswith("https://")
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.check_hostname = False
    async with httpx.AsyncClient(base_url=url, verify=context, timeout=60) as client:
        refused = await client.get("/api/session")
        assert (refused.status_code, "server" in refused.headers) == (401, False)
        login = await client.post("/api/login", json={"token": TOKEN})
        assert all("Secure" in each for each in login.headers.get_list("set-cookie"))
        session = (await client.get("/api/session")).json()
        assert (session["user"], session["may_change"]) == ("vera", False)
    assert await running.end() == (0, "")


async def test_a_taken_port_and_a_missing_redis_are_one_line(shared: TaskQueue, run: Run) -> None:
    first = run()
    port = (await first.url()).rpartition(":")[2]
    second = run("--port", port)
    _, errors = await asyncio.to_thread(second.process.communicate, timeout=90)
    assert (
        errors == f"taskfleet: --port {port}: cannot listen on 127.0.0.1: Address already in use; choose another port\n"
    )
    third = run("--redis", "redis://127.0.0.1:1")
    _, errors = await asyncio.to_thread(third.process.communicate, timeout=90)
    assert errors.startswith("taskfleet: cannot reach Redis at 127.0.0.1:1")
    assert errors.count("\n") == 1
    assert (await first.end())[0] == 0


def test_other_commands_do_not_load_the_dashboards_framework() -> None:
    program = "import sys; from taskfleet.cli import app; app.build(); sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
