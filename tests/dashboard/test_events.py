"""Live updates: one poller for all browsers, a bound on what it costs Redis, and streams that end as they should."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import model_serializer

from taskfleet import TaskQueue
from taskfleet_dashboard import server
from taskfleet_dashboard.access.tokens import TokenAccess
from taskfleet_dashboard.access.visitor import Access, CallableAccess, OpenAccess, ReadOnly
from taskfleet_dashboard.answers.answer import DoneAnswer
from taskfleet_dashboard.app import application
from taskfleet_dashboard.events import stream as stream_module
from taskfleet_dashboard.events.hub import Hub
from taskfleet_dashboard.events.pace import ReadingPace
from taskfleet_dashboard.events.stream import EventStream
from taskfleet_dashboard.events.topics import Kind
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.serving import Serving
from tests.dashboard.conftest import MakeSite, Site
from tests.engine.conftest import MakeQueue, until
from tests.support.redis_server import RedisServer


class Monitor:
    """Counts the commands that clients send to Redis; those of scripts are not among them."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        self.times: list[float] = []

    def clear(self) -> None:
        self.commands.clear()
        self.times.clear()


@contextlib.asynccontextmanager
async def monitored(server: RedisServer) -> AsyncIterator[Monitor]:
    host, _, port = server.url.removeprefix("redis://").partition("/")[0].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"
    found = Monitor()

    async def read() -> None:
        while line := await reader.readline():
            told = line.decode("utf-8", "replace")
            if " lua]" not in told and '"' in told:
                found.commands[told.split('"')[1].upper()] += 1
                found.times.append(time.monotonic())

    reading = asyncio.create_task(read())
    try:
        yield found
    finally:
        reading.cancel()
        writer.close()


async def fill(queue: TaskQueue, count: int) -> None:
    for n in range(count):

        @queue.task(name=f"work{n}", queue=f"q{n}")
        async def work() -> None: ...

        await work.enqueue()


async def of_readings(site: Site, monitor: Monitor, number: int = 12) -> tuple[int, float]:
    """How many commands so many readings send, and how many seconds they take."""
    pace = site.serving.pace
    monitor.clear()
    began, goal = time.monotonic(), pace.readings_total + number
    await until(lambda: pace.readings_total >= goal, f"{number} readings", seconds=60)
    return sum(monitor.commands.values()), time.monotonic() - began


async def test_fifty_browsers_cost_redis_as_much_as_one(
    make_queue: MakeQueue, make_site: MakeSite, server: RedisServer
) -> None:
    queue = make_queue()
    await fill(queue, 5)
    site = await make_site(make_queue())
    topics = "overview,queue:q1,workers,dead,schedules"
    async with (
        monitored(server) as monitor,
        httpx.AsyncClient(base_url=site.url, limits=httpx.Limits(max_connections=60)) as many,
    ):
        first = await site.stream(topics)
        for topic in topics.split(","):
            await first.event(topic)
        one, _ = await of_readings(site, monitor)
        others = [await site.stream(topics, many) for _ in range(49)]
        for each in others:
            for topic in topics.split(","):
                await each.event(topic)
        assert site.serving.hub.streams == 50
        fifty, seconds = await of_readings(site, monitor)
    assert one > 10  # it does read
    assert fifty <= one * 1.5
    assert seconds > 3  # as often as for one: three topics every 2 s, and two every 5 s


async def test_open_pages_never_cost_more_commands_than_the_bound(
    make_queue: MakeQueue, make_site: MakeSite, server: RedisServer
) -> None:
    queue = make_queue()
    await fill(queue, 40)
    site = await make_site(make_queue(), most_commands_per_second=50)
    topics = ",".join(["overview", "workers", "dead", "schedules", *(f"queue:q{n}" for n in range(16))])
    async with monitored(server) as monitor:
        stream = await site.stream(topics)
        for n in range(16):
            await stream.event(f"queue:q{n}")
        monitor.clear()
        began = time.monotonic()
        await asyncio.sleep(8)
        await until(lambda: sum(monitor.commands.values()) >= 160, "it does read")
        seconds = time.monotonic() - began
    # A reading is not cut short: the bound holds for the mean, and one reading more.
    assert sum(monitor.commands.values()) <= 50 * seconds + 150
    counted = site.serving.pace.commands_total
    assert counted > 0


async def test_the_pace_counts_what_is_sent(queue: TaskQueue, server: RedisServer) -> None:
    pace = ReadingPace(1_000_000)
    await queue.broker.ping()
    async with monitored(server) as monitor:
        async with pace.reading():
            await queue.broker.stats_many([f"q{n}" for n in range(30)])
            await queue.broker.workers()
            await queue.list_schedules()
        await queue.broker.client.redis.echo("the end")
        await until(lambda: monitor.commands["ECHO"], "all commands were seen")
    assert pace.commands_total == sum(monitor.commands.values()) - monitor.commands["SCRIPT"] - 1
    assert pace.commands_total > 30


async def test_while_nobody_watches_nothing_is_read(queue: TaskQueue, site: Site, server: RedisServer) -> None:
    await fill(queue, 2)
    stream = await site.stream("overview,workers")
    await stream.event("overview")
    await site.close_streams()
    hub = site.serving.hub
    await until(lambda: hub.topics == 0, "nobody watches")
    await until(lambda: hub._running is not None and hub._running.done(), "the last reading has ended")
    async with monitored(server) as monitor:
        await queue.broker.ping()
        await until(lambda: monitor.commands["PING"], "what was sent before has been read")
        monitor.clear()
        await asyncio.sleep(4)
    assert sum(monitor.commands.values()) == 0
    assert site.serving.hub.streams == 0


async def test_what_nobody_watches_any_more_when_its_turn_comes_is_not_read() -> None:
    reads: list[str] = []

    async def read(subject: str) -> Any:
        reads.append(subject)
        return DoneAnswer(changed=True)

    pace = ReadingPace(10_000)
    hub = Hub(pace, {"any": Kind(read, 0.01, subject=True)})
    wake, stays = asyncio.Event(), asyncio.Event()
    async with pace.reading():  # a long one
        left, _ = hub.join(hub.admit("any:left"), wake)
        await asyncio.sleep(0.05)  # the hub waits for its turn
        kept, _ = hub.join(hub.admit("any:kept"), stays)
        hub.leave(left, wake)
    await until(lambda: "kept" in reads, "the other is read")
    hub.leave(kept, stays)
    assert "left" not in reads
    await hub.close()


async def test_an_event_has_the_body_of_its_get_and_comes_when_something_changes(queue: TaskQueue, site: Site) -> None:
    await fill(queue, 1)
    stream = await site.stream("queue:q0,task:none,schedules")
    first = await stream.event("queue:q0")
    assert first.keys() == (await site.get("queues/q0")).keys()
    assert await stream.event("schedules") == {"items": [], "cursor": None}
    assert (await stream.event("error:task:none"))["error"].startswith("task none is not known")

    @queue.task(name="more", queue="q0")
    async def more() -> None: ...

    handle = await more.enqueue()
    await stream.event("queue:q0", lambda data: data["row"]["ready"] == 2)
    of_task = await site.stream(f"task:{handle.id}")
    await of_task.event(f"task:{handle.id}", lambda data: data["state"] == "ready")
    await handle.cancel()
    await of_task.event(f"task:{handle.id}", lambda data: data["state"] == "cancelled")
    quiet = len([event for event in stream.events if event.name == "schedules"])
    assert quiet == 1  # what has not changed is not sent again


@pytest.mark.parametrize(
    "topics",
    ["", ",", "colours", "overview:x", "queue:", "queue", "queue:a b", ",".join(f"queue:q{n}" for n in range(21))],
)
async def test_an_unknown_topic_is_refused_in_one_line(site: Site, topics: str) -> None:
    status, line = await site.refused("events", topics=topics)
    assert status == 422
    assert "topic" in line


async def test_topics_beyond_the_bound_are_told_so_and_the_others_go_on(queue: TaskQueue, site: Site) -> None:
    await fill(queue, 1)
    site.serving.hub._most_topics = 2
    stream = await site.stream("queue:q0,schedules,workers,dead")
    refused = [
        await stream.event("refused", lambda data, name=name: name in data["error"]) for name in ("workers", "dead")
    ]
    assert all("2 topics are watched already" in each["error"] for each in refused)
    assert "workers is not among them" in (await stream.event("error:workers"))["error"]
    await stream.event("queue:q0")
    nobody = await site.stream("workers")
    assert (await nobody.event("end")) == {"reason": "no topic of it can be watched now"}
    await until(lambda: nobody.ended, "the stream ends")


async def test_streams_beyond_the_bound_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskfleet_dashboard.events.hub.MOST_STREAMS", 1)
    stream = await site.stream("workers")
    await stream.event("workers")
    status, line = await site.refused("events", topics="workers")
    assert (status, line) == (503, "1 pages are open already, which is the most; close one, or reload later")


async def test_a_browser_that_takes_nothing_is_dropped_and_the_others_go_on() -> None:
    async def read(_: str) -> Any:
        return DoneAnswer(changed=True, detail=str(time.monotonic()))

    hub = Hub(ReadingPace(10_000), {"fast": Kind(read, 0.01)})
    sent: list[Any] = []

    async def takes(message: Any) -> None:
        sent.append(message)

    async def takes_nothing(message: Any) -> None:
        if message["type"] == "http.response.body" and b"event" in message["body"]:
            await asyncio.Event().wait()

    async def stays() -> Any:
        await asyncio.Event().wait()

    topics = hub.admit("fast")
    good = asyncio.create_task(EventStream(hub, topics)({"type": "http"}, stays, takes))
    slow = asyncio.create_task(EventStream(hub, topics, slow_seconds=0.2)({"type": "http"}, stays, takes_nothing))
    await asyncio.wait_for(slow, 60)
    assert (hub.streams, hub.dropped_total) == (1, 1)
    before = len(sent)
    await until(lambda: len(sent) > before + 5, "the other stream goes on")
    hub.end()
    await asyncio.wait_for(good, 60)
    assert b"event: end" in sent[-1]["body"]
    assert sent[-1]["more_body"] is False
    await hub.close()


async def test_a_reading_that_breaks_is_told_so_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    class Unsendable(DoneAnswer):
        @model_serializer
        def sent(self) -> Any:
            raise ZeroDivisionError("of what it reads")

    async def breaks(_: str) -> Any:
        raise ZeroDivisionError("of the reading")

    async def is_unsendable(_: str) -> Any:
        return Unsendable(changed=True)

    async def read(_: str) -> Any:
        return DoneAnswer(changed=True, detail=str(time.monotonic()))

    hub = Hub(
        ReadingPace(10_000),
        {"breaks": Kind(breaks, 0.01), "unsendable": Kind(is_unsendable, 0.01), "fast": Kind(read, 0.01)},
    )
    sent = Counter[bytes]()

    async def takes(message: Any) -> None:
        sent[message.get("body", b"").partition(b"\n")[0]] += 1

    async def stays() -> Any:
        await asyncio.Event().wait()

    topics = hub.admit("breaks,unsendable,fast")
    stream = asyncio.create_task(EventStream(hub, topics)({"type": "http"}, stays, takes))
    try:
        await until(
            lambda: sent[b"event: fast"] > 5 and sent[b"event: error:breaks"] and sent[b"event: error:unsendable"],
            "the other topic is read, and the errors are told",
        )
        assert (sent[b"event: error:breaks"], sent[b"event: error:unsendable"]) == (1, 1)
        assert caplog.text.count("cannot be read") == 2
    finally:
        await hub.close()
        await asyncio.wait_for(stream, 60)


async def test_a_stream_has_an_end_and_is_not_silent_before(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "_SILENCE_SECONDS", 0.1)
    # Many times a silence, also on a machine that stands still.
    monkeypatch.setattr(stream_module, "_LIFE_SECONDS", 5.0)
    async with site.client.stream("GET", "/api/events", params={"topics": "schedules"}) as response:
        lines = [line async for line in response.aiter_lines() if line]
    assert lines[0] == "retry: 2000"
    assert ": here" in lines
    assert lines[-2:] == ["event: end", 'data: {"reason":"a stream ends after 15 minutes"}']


async def test_a_dashboard_that_ends_takes_no_more_streams(site: Site) -> None:
    site.serving.hub.end()
    assert await site.refused("events", topics="workers") == (503, "the dashboard is ending")


async def test_a_slow_browser_gets_the_latest_reading_and_not_all_of_them() -> None:
    count = 0

    async def read(_: str) -> Any:
        nonlocal count
        count += 1
        return DoneAnswer(changed=True, count=count)

    hub = Hub(ReadingPace(10_000), {"fast": Kind(read, 0.01)})
    sent: list[bytes] = []
    go_on = asyncio.Event()

    async def takes_slowly(message: Any) -> None:
        if b"event: fast" in message.get("body", b""):
            sent.append(message["body"])
            await go_on.wait()

    async def stays() -> Any:
        await asyncio.Event().wait()

    stream = asyncio.create_task(EventStream(hub, hub.admit("fast"))({"type": "http"}, stays, takes_slowly))
    await until(lambda: count > 20, "many readings")
    assert len(sent) == 1
    go_on.set()
    await until(lambda: len(sent) > 1, "the next event")
    first, second = (int(re.search(rb'"count":(\d+)', each)[1]) for each in sent[:2])  # type: ignore[index]
    assert first < 10 < 20 <= second
    await hub.close()
    await asyncio.wait_for(stream, 60)


async def test_redis_that_goes_away_and_comes_back_is_told_in_the_stream(
    make_queue: MakeQueue, make_site: MakeSite
) -> None:
    with RedisServer() as own:
        queue = make_queue(own.url, redis={"command_timeout": 5.0, "connection_timeout": 5.0})
        await fill(queue, 1)
        site = await make_site(queue)
        stream = await site.stream("queue:q0")
        await stream.event("queue:q0")
        assert (await site.client.get("/healthz")).text == "ok"
        own.stop()
        error = await stream.event("error:queue:q0")
        assert "\n" not in error["error"]

        async def ails() -> bool:
            return (await site.client.get("/healthz")).status_code == 503

        await until(ails, "the probe tells it", seconds=30)  # it asks Redis once a second
        address = own.url.removeprefix("redis://").partition("/")[0]
        assert address in (await site.client.get("/healthz")).text
        strange = await make_site(queue, CallableAccess(lambda _: None))
        probed = await strange.client.get("/healthz")
        assert (probed.status_code, address in probed.text) == (503, False)
        status, line = await site.refused("tasks")
        assert (status, "Redis" in line) == (503, True)
        own.start()
        # The server has started without its data: the queue is empty, and its figures take the place of the error.
        await stream.event("queue:q0", lambda data: data["row"]["ready"] == 0)
        await site.close_streams()


@pytest.mark.parametrize(("rate", "shared"), [(4.0, True), (1000.0, False)])
async def test_a_reading_is_shared_for_as_long_as_the_next_one_has_to_wait(
    queue: TaskQueue, make_site: MakeSite, rate: float, shared: bool
) -> None:
    await fill(queue, 30)
    serving = (await make_site(queue, most_commands_per_second=rate)).serving

    async def read() -> object:
        async with serving.pace.reading():
            return await serving.desk._fleet.snapshot(paced=True)

    first = await read()
    # More than a second. The next turn comes when 30 commands and more are paid for, at 4 a second: a reading is shared
    # for twice as long, which leaves more than seven seconds.
    await asyncio.sleep(1.1)
    assert (await read() is first) == shared


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="of Linux")
async def test_a_browser_that_never_reads_leaves_no_connection_behind(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_UNREAD_MS", 6000)  # longer than it takes until all look, and longer than slow_seconds
    monkeypatch.setitem(EventStream.__init__.__kwdefaults__ or {}, "slow_seconds", 0.5)
    sock = server._bound(server.DashboardOptions(port=0))
    serving = Serving(queue, OpenAccess(), masks=Masks(), records=False)
    config = uvicorn.Config(application(serving, hosts=None), log_config=None, lifespan="on")
    serves = uvicorn.Server(config)
    task = asyncio.create_task(serves.serve(sockets=[sock]))
    await until(lambda: serves.started, "it serves")
    clients = [socket.socket() for _ in range(20)]
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(sock.getsockname())
        client.send(b"GET /api/events?topics=overview HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until(lambda: serving.hub.streams == 20, "all look")
    (watched,) = serving.hub._watched.values()
    until_then, number = asyncio.get_running_loop().time() + 40, 0
    while serving.hub.dropped_total < 20 and asyncio.get_running_loop().time() < until_then:
        number += 1
        watched.take(b'"%d%s"' % (number, b"x" * 300_000), is_error=False)
        await asyncio.sleep(0.05)
    assert serving.hub.dropped_total == 20
    await until(lambda: not serves.server_state.connections, "no connection is left", seconds=30)
    for client in clients:
        client.close()
    serves.should_exit = True
    await task


@pytest.mark.parametrize("method", ["token", "read-only", "callable"])
async def test_a_stream_ends_when_its_browser_may_not_look_any_more(
    queue: TaskQueue, make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(stream_module, "_CHECK_SECONDS", 0.2)
    file, allowed = tmp_path / "tokens", {"vera"}
    file.write_text("view vera vera-token-0123456789\nview erik erik-token-0123456789\n")
    access: Access = TokenAccess(file)
    if method == "read-only":
        access = ReadOnly(access)
    elif method == "callable":
        access = CallableAccess(lambda request: "vera" in request.headers["authorization"] and bool(allowed))
    site = await make_site(queue, access)
    site.client.headers["Authorization"] = "Bearer vera-token-0123456789"
    stream = await site.stream("overview")
    await stream.event("overview")
    await asyncio.sleep(0.6)  # it is asked meanwhile, and goes on
    assert not stream.ended
    file.write_text("view erik erik-token-0123456789\n")
    allowed.clear()
    assert (await stream.event("end"))["reason"] == "you may not look at this dashboard any more"
    assert (await site.client.get("/api/events", params={"topics": "overview"})).status_code in (401, 403)
