"""examples/llm-stream/README.md."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from taskfleet import TaskQueue
from tests.examples.conftest import Example, MakeExample, Program
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(300)  # beside other work

ASK = """curl -s localhost:8000/answers -H 'content-type: application/json' -d '{"prompt": "How do I write a loop?"}'"""
EVENTS = "curl -sN localhost:8000/answers/ID/events -H 'Last-Event-ID: 0'"


@dataclass
class Event:
    id: int
    kind: str
    data: str


def events(chat: Example, task_id: str, after: int) -> Iterator[Event]:
    """The events as a browser reads them."""
    url, arguments = chat.curl(EVENTS, task_id)
    arguments["headers"]["Last-Event-ID"] = str(after)
    with httpx.stream(url=url, **arguments) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line and name:
                fields[name] = value
            elif "data" in fields:
                yield Event(int(fields.get("id", -1)), fields.get("event", "message"), json.loads(fields["data"]))
                fields = {}


async def result(redis_url: str, task_id: str) -> str:
    async with TaskQueue(redis_url) as queue:
        return str(await queue.handle(task_id).result(timeout=30))


def start_web(chat: Example) -> Program:
    web = chat.start("uvicorn chat:app --port 8000")
    web.says("Application startup complete")
    return web


def start(example: MakeExample) -> tuple[Example, Program, str]:
    chat = example("llm-stream")
    answers = chat.folder / "answers.py"
    code = answers.read_text(encoding="utf-8")
    assert code.count("asyncio.sleep(0.02)") == 1
    # The answer is still being written when another server has started, or the reader stops it, on a busy machine.
    answers.write_text(code.replace("asyncio.sleep(0.02)", "asyncio.sleep(0.08)"), encoding="utf-8")
    dev = chat.start("taskfleet dev answers:queue")
    web = start_web(chat)
    dev.says("is ready")
    return chat, web, f"http://127.0.0.1:{chat.port(8000)}"


def test_a_reader_that_comes_back_goes_on_where_it_was_also_at_another_server(
    example: MakeExample, server: RedisServer
) -> None:
    chat, web, address = start(example)
    page = httpx.get(address)
    assert "new EventSource(" in page.text
    task_id = chat.asks(ASK)["id"]

    got: list[Event] = []
    with contextlib.suppress(httpx.RemoteProtocolError):
        for event in events(chat, task_id, after=0):
            got.append(event)
            if len(got) == 3:
                web.ends(signal.SIGKILL)
    assert len(got) >= 3
    start_web(chat)
    while got[-1].kind != "end":  # the connection breaks after each third event
        reading = events(chat, task_id, after=got[-1].id)
        for _, event in zip(range(3), reading, strict=False):
            got.append(event)
        reading.close()  # type: ignore[attr-defined]

    text = asyncio.run(result(server.url, task_id))
    pieces = [event for event in got if event.kind == "message"]
    assert "".join(event.data for event in pieces) == text
    assert len(text) > 1000
    assert len(pieces) > 6  # it came while it was written
    assert [event.id for event in pieces] == sorted({event.id for event in pieces})
    assert (got[-1].kind, got[-1].data) == ("end", "done")

    # Who comes after the end gets the rest, too.
    late = list(events(chat, task_id, after=pieces[2].id))
    assert [event.data for event in late] == [text[pieces[2].id :], "done"]
    assert httpx.get(f"{address}/answers/{'0' * 17}/events").status_code == 404


def test_a_reader_may_stop_the_answer(example: MakeExample) -> None:
    chat, _, address = start(example)
    task_id = chat.asks(ASK)["id"]
    reading = events(chat, task_id, after=0)
    assert next(reading).data.startswith("The ")
    assert httpx.delete(f"{address}/answers/{task_id}").status_code == 204
    last = list(reading)[-1]
    assert (last.kind, last.data) == ("end", "stopped")
