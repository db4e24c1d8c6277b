"""`taskfleet top` on a real pseudo-terminal and a real Redis: what it shows, what it survives, and what it costs."""

from __future__ import annotations

import asyncio
import json
import signal
import termios
from collections.abc import Callable
from typing import Any

import pytest

from taskfleet import QueueOptions, TaskQueue
from taskfleet.protocol import envelope
from taskfleet.protocol.heartbeat import HeartbeatFields
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import acl
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.engine.test_command import run
from tests.support.pseudo_terminal import Screen, Terminal
from tests.support.redis_server import RedisServer

FAST = ("--interval", "0.2")
HEADS = ("queue", "worker", "runs longest", "failed")


async def watch(terminal: Terminal, condition: Callable[[Screen], object], what: str) -> Screen:
    """Wait in a thread, so that workers of this loop go on."""
    return await asyncio.to_thread(terminal.until, condition, what)


async def ended(terminal: Terminal) -> int:
    return await asyncio.to_thread(terminal.ended)


def assert_restored(terminal: Terminal) -> None:
    """The terminal is as it was: its own screen, a cursor, echo and lines."""
    assert not terminal.screen.alternate
    assert terminal.screen.cursor_shown
    local = 3  # the place of the local flags
    kept = termios.ECHO | termios.ICANON | termios.ISIG
    before, now = terminal.settings[local], terminal.settings_now()[local]
    assert isinstance(now, int)
    assert before & kept == now & kept


async def busy(queue: TaskQueue, run_worker: RunWorker) -> list[Any]:
    """A queue with tasks that run, that wait and that have failed."""

    @queue.task(name="holds")
    async def holds() -> None:
        await asyncio.Event().wait()

    @queue.task(name="fails", max_retries=0)
    async def fails() -> None:
        raise ValueError("bad luck")

    await run_worker(queue, name="web-1", queues=["default"], concurrency=4)
    failed = await fails.enqueue()
    await until(lambda: _dead(queue), "one has failed")
    handles = [await holds.enqueue() for _ in range(6)]
    await holds.options(queue="mail").enqueue()
    await holds.options(delay=3600).enqueue()
    await until(lambda: _told_runs(queue), "the heartbeat tells of the runs")
    return [failed, *handles]


async def _dead(queue: TaskQueue) -> bool:
    return (await queue.queue_stats("default")).dead == 1


async def _no_worker(queue: TaskQueue) -> bool:
    return not await queue.workers()


async def _told_runs(queue: TaskQueue) -> bool:
    workers = await queue.workers()
    return any([len(await queue.broker.runs_of(worker.worker_id)) == 4 for worker in workers])


def line_of(screen: Screen, start: str) -> list[str]:
    return next((line.split() for line in screen.lines if line.startswith(start)), [])


async def stop(queue: TaskQueue, handles: list[Any]) -> None:
    for handle in handles:
        await handle.cancel()


async def test_it_shows_queues_workers_the_longest_runs_and_the_last_failures(
    make_queue: MakeQueue, shared: TaskQueue, run_worker: RunWorker
) -> None:
    handles = await busy(shared, run_worker)
    with Terminal(["top", *FAST], columns=100, rows=30) as terminal:
        screen = await watch(terminal, lambda screen: len(line_of(screen, "holds")) == 5, "a run is named")
        screen = await watch(terminal, lambda screen: "0/s" in screen.text, "there are rates")
        screen = await watch(terminal, lambda screen: len(line_of(screen, "fails")) == 7, "the failure is told")
        # The priority; ready, running, delayed, blocked, dead; in and out.
        assert line_of(screen, "default")[:9] == ["default", "0", "2", "4", "1", "0", "1", "0", "0"]
        assert line_of(screen, "mail")[-1] == "unserved"
        assert line_of(screen, "web-1/0")[:3] == ["web-1/0", "default", "4/4"]
        assert line_of(screen, "web-1/0")[-1] == "running"
        holds = line_of(screen, "holds")
        assert holds[2] in {handle.id for handle in handles}
        assert holds[3:] == ["default", "web-1/0"]
        assert line_of(screen, "fails")[2:] == [handles[0].id, "default", "ValueError:", "bad", "luck"]
        assert "3 ready  4 running" in screen.lines[1]
        await shared.pause("default")
        await watch(terminal, lambda screen: line_of(screen, "default")[-1] == "paused", "it is paused")
        terminal.press("q")
        assert await ended(terminal) == 0
        assert_restored(terminal)
        assert terminal.screen.before == []
    await shared.resume("default")
    await stop(shared, handles)


async def test_priorities_and_limits_are_those_of_the_application(shared: TaskQueue) -> None:
    @shared.task
    async def noop() -> None: ...

    await noop.options(queue="urgent").enqueue()
    for _ in range(3):
        await noop.enqueue()
    with Terminal(["top", "--app", "tests.engine.top_app:queue", *FAST], columns=130) as terminal:
        screen = await watch(terminal, lambda screen: "0/s" in screen.text, "there are rates")
        names = [line.split()[0] for line in screen.lines[3:5]]
        assert names == ["urgent", "default"], "by priority, and only then by length"
        assert line_of(screen, "urgent")[1] == "10"
        assert " ".join(line_of(screen, "default")).endswith("50/s 2 at once unserved")
        terminal.press("q")
        assert await ended(terminal) == 0


@pytest.mark.parametrize(
    ("end", "code"), [("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["Ctrl-C", "SIGTERM", "SIGHUP"]
)
async def test_the_terminal_is_as_it_was_after_every_end(
    shared: TaskQueue, end: str | signal.Signals, code: int
) -> None:
    with Terminal(["top", *FAST]) as terminal:
        await watch(terminal, lambda screen: "q quit" in screen.text, "the view is there")
        assert terminal.screen.alternate
        assert not terminal.screen.cursor_shown
        if isinstance(end, str):
            terminal.press(end)
        else:
            terminal.process.send_signal(end)
        assert await ended(terminal) == code
        assert_restored(terminal)
        assert "Traceback" not in "".join(terminal.screen.before)


async def test_ctrl_z_gives_the_terminal_back_and_fg_the_view(shared: TaskQueue) -> None:
    with Terminal(["top", *FAST]) as terminal:
        await watch(terminal, lambda screen: "q quit" in screen.text, "the view is there")
        terminal.process.send_signal(signal.SIGTSTP)
        await watch(terminal, lambda screen: not screen.alternate, "the view is left")
        await until(lambda: _state(terminal.process.pid) == "T", "it is stopped")
        assert_restored(terminal)
        terminal.process.send_signal(signal.SIGCONT)
        await watch(terminal, lambda screen: screen.alternate and "q quit" in screen.text, "the view is back")
        terminal.press("q")
        assert await ended(terminal) == 0
        assert_restored(terminal)


async def test_a_key_is_heard_and_not_echoed_as_soon_as_the_view_is_back(shared: TaskQueue) -> None:
    with Terminal(["top", *FAST]) as terminal:
        for _ in range(10):
            await watch(terminal, lambda screen: screen.alternate and "q quit" in screen.text, "the view is there")
            terminal.process.send_signal(signal.SIGTSTP)
            await watch(terminal, lambda screen: not screen.alternate, "the view is left")
            await until(lambda: _state(terminal.process.pid) == "T", "it is stopped")
            assert _echoes(terminal)
            terminal.process.send_signal(signal.SIGCONT)
            await watch(terminal, lambda screen: screen.alternate, "the view comes back")
            assert not _echoes(terminal), "a key that is pressed now would be echoed into the view, and lost"
        terminal.press("q")
        assert await ended(terminal) == 0
        assert_restored(terminal)


def _echoes(terminal: Terminal) -> bool:
    local = terminal.settings_now()[3]
    assert isinstance(local, int)
    return bool(local & termios.ECHO)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]


async def test_keys_choose_a_section_a_row_an_order_a_pause_and_help(shared: TaskQueue) -> None:
    @shared.task
    async def noop() -> None: ...

    for name, count in (("alpha", 1), ("beta", 3), ("gamma", 2)):
        for _ in range(count):
            await noop.options(queue=name).enqueue()
    with Terminal(["top", *FAST], rows=10) as terminal:  # one section at a time

        def names(screen: Screen) -> list[str]:
            return [line.split()[0] for line in screen.lines[3:6] if line]

        async def shows(wanted: list[str]) -> None:
            await watch(terminal, lambda screen: names(screen) == wanted, f"the order is {wanted}")

        await shows(["beta", "gamma", "alpha"])
        terminal.press("r")
        await shows(["alpha", "gamma", "beta"])
        terminal.press("r\x1b[C")  # by name
        await shows(["alpha", "beta", "gamma"])
        assert "queue*" in terminal.screen.lines[2]
        terminal.press("\x1b[C\x1b[C")  # by priority, by ready
        await shows(["beta", "gamma", "alpha"])
        terminal.press("\x1b[D\x1b[D\t")
        await watch(terminal, lambda screen: screen.lines[2].startswith("worker"), "the next section")
        terminal.press("\x1b[Z")
        await watch(terminal, lambda screen: screen.lines[2].startswith("queue"), "the section before it")
        terminal.press("?")
        await watch(terminal, lambda screen: "sort by another column" in screen.text, "the help")
        terminal.press("x")
        await shows(["alpha", "beta", "gamma"])
        terminal.press("p")
        await watch(terminal, lambda screen: "PAUSED" in screen.text, "it is paused")
        for _ in range(9):
            await noop.options(queue="alpha").enqueue()
        moment = terminal.screen.lines[0].split()[2]
        for _ in range(10):
            await asyncio.to_thread(terminal.read, 0.1)
        assert (terminal.screen.lines[0].split()[2], line_of(terminal.screen, "alpha")[2]) == (moment, "1")
        terminal.press("p")
        await watch(terminal, lambda screen: line_of(screen, "alpha")[2] == "10", "it goes on")
        terminal.press("q")
        assert await ended(terminal) == 0


async def test_every_size_fits_and_a_window_may_change_it(shared: TaskQueue, run_worker: RunWorker) -> None:
    """The screen of the test fails on a line that is too long, and on a view that scrolls."""
    handles = await busy(shared, run_worker)
    with Terminal(["top", *FAST]) as terminal:
        await watch(terminal, lambda screen: "fails" in screen.text, "the view is there")
        assert [head for head in HEADS if not any(line.startswith(head) for line in terminal.screen.lines)] == []
        for columns, rows in ((40, 10), (200, 60), (20, 5), (80, 24), (3, 2), (40, 10)):
            terminal.resize(columns, rows)
            await watch(terminal, lambda screen: screen.lines[0].startswith("ta"), f"{columns}x{rows}")
        heads = [["taskfleet"], ["3"], ["queue"], ["default"], ["mail"]]  # a view may arrive in two parts
        await watch(terminal, lambda screen: [line.split()[:1] for line in screen.lines[:5]] == heads, "40x10")
        terminal.press("3")
        await watch(terminal, lambda screen: line_of(screen, "holds")[1:2], "the runs")
        terminal.press("4")
        await watch(terminal, lambda screen: "ValueError" in screen.text, "the failures")
        terminal.press("q")
        assert await ended(terminal) == 0
    await stop(shared, handles)


@pytest.mark.orphans("a record of another program is in the list of queues")
async def test_hostile_names_and_errors_are_only_text(shared: TaskQueue, run_worker: RunWorker) -> None:
    """The screen of the test fails on every control sequence that rich does not need."""
    evil = "\x1b[2J\x1b]0;owned\x07\n[bold red]x[/]\u202egnp\u200b画像"
    broker, partition = shared.broker, Partition("default")

    @shared.task(name="fails", max_retries=0)
    async def fails() -> None:
        raise ValueError(evil)

    worker = await run_worker(shared, name="worker", queues=["default"], concurrency=4)
    await fails.enqueue()
    await until(lambda: _dead(shared), "one has failed")
    worker.drain()
    await until(lambda: _no_worker(shared), "it has ended")
    # A worker and a task of another program: their names are checked by nobody.
    blob = envelope.encode("holds" + evil, [], {}, {})
    await broker.enqueue(partition, [("1234", blob, 0, 0, None)])
    await broker.step(partition, QueueOptions("default"), "someone", 1, [])
    beat = HeartbeatFields(
        name=evil, pid=1, slots=1, busy=1, queues=f"default,{evil}", state=evil, started_ms=1, idle_since_ms=0,
        version=evil, stuck=0, oldest_run_ms=9000, incarnation="someone", runs="1234 1000", host=evil,
    )  # fmt: skip
    renewer = broker.renewer()
    await asyncio.to_thread(renewer.heartbeat, "worker" + evil, "worker", 60_000, beat)
    await asyncio.to_thread(renewer.close)
    await shared.broker.client.redis.sadd(shared.broker.fleet.queues, "\x1b[2Jqueue")
    with Terminal(["top", *FAST], columns=240, rows=30) as terminal:
        screen = await watch(terminal, lambda screen: "holds\\x1b[2J" in screen.text, "the name of a run")
        assert "ValueError: \\x1b[2J\\x1b]0;owned\\x07\\n[bold red]x[/]\\u202egnp\\u200b画像" in screen.text
        assert "worker\\x1b[2J" in screen.text
        terminal.press("q")
        assert await ended(terminal) == 0
    code, out, _ = await run("top", "--once")
    assert (code, "\x1b" in out, "\\x1b[2J" in out) == (0, False, True)


async def test_a_lost_connection_is_told_and_made_again(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer("--appendonly", "yes") as server:
        monkeypatch.setenv("REDIS_URL", server.url)
        queue = make_queue(server.url, redis={"key_prefix": "taskfleet"})

        @queue.task
        async def noop() -> None: ...

        await noop.enqueue()
        with Terminal(["top", *FAST], columns=120) as terminal:
            await watch(terminal, lambda screen: line_of(screen, "default"), "the view is there")
            server.stop()
            screen = await watch(terminal, lambda screen: "no answer since" in screen.text, "it is told")
            assert f"cannot reach Redis at {server.address}" in screen.lines[1]
            assert line_of(screen, "default"), "what was read last stays"
            server.start()
            await watch(terminal, lambda screen: "no answer" not in screen.text, "it is connected again")
            assert line_of(terminal.screen, "default")[2] == "1"
            server.pause()  # a server that stands still
            screen = await watch(terminal, lambda screen: "no answer since" in screen.text, "it is told")
            server.go_on()
            await watch(terminal, lambda screen: "no answer" not in screen.text, "it answers again")
            server.stop()
            await watch(terminal, lambda screen: "no answer since" in screen.text, "it is told")
            terminal.press("q")  # while Redis is away
            assert await ended(terminal) == 0
            assert_restored(terminal)
            assert "Traceback" not in "".join(terminal.screen.before)


async def test_without_redis_it_says_so_in_one_line(shared: TaskQueue) -> None:
    with Terminal(["top", "--redis", "redis://127.0.0.1:1/0"], columns=200) as terminal:
        assert await ended(terminal) == 1
        (line,) = filter(None, terminal.screen.before)
        assert line.startswith("taskfleet: cannot reach Redis at 127.0.0.1:1")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {}], ids=["dumb", "NO_COLOR", "colours"])
async def test_a_terminal_without_colours_gets_none(
    shared: TaskQueue, run_worker: RunWorker, environment: dict[str, str]
) -> None:
    handles = await busy(shared, run_worker)
    with Terminal(["top", *FAST], environment=environment) as terminal:
        if environment.get("TERM") == "dumb":
            assert await ended(terminal) == 0
            assert any(line.startswith("default") for line in terminal.screen.before), "one plain snapshot"
            assert not terminal.screen.styles - {"1", "0"}
        else:
            await watch(terminal, lambda screen: "bad luck" in screen.text, "the view is there")
            colours = {style for style in terminal.screen.styles if "31" in style.split(";")}
            assert bool(colours) == (not environment)
            terminal.press("q")
            assert await ended(terminal) == 0
    await stop(shared, handles)


async def test_a_pipe_gets_one_plain_snapshot(shared: TaskQueue, run_worker: RunWorker) -> None:
    """The snapshot that docs/how-to/top.md shows."""
    handles = await busy(shared, run_worker)
    code, out, errors = await run("top", *FAST)
    assert (code, errors, "\x1b" in out) == (0, "", False)
    assert max(map(len, out.splitlines())) <= 80
    assert [part.split()[0] for part in out.split("\n\n")] == ["queue", "worker", "runs", "failed"]
    assert "fails" in out
    code, out, errors = await run("top", "--json", *FAST)
    told = json.loads(out)
    assert (code, errors) == (0, "")
    assert told.keys() == {"items", "workers", "running", "failures", "at"}
    (default,) = [item for item in told["items"] if item["name"] == "default"]
    assert (default["ready"], default["in_flight"], default["workers"], default["finished_per_second"]) == (2, 4, 1, 0)
    assert {run["task"] for run in told["running"]} == {"holds"}
    (failure,) = told["failures"]
    assert (failure["task"], failure["error"], failure["at"][-1]) == ("fails", "ValueError: bad luck", "Z")
    await stop(shared, handles)


async def test_an_empty_redis_is_told_section_by_section(shared: TaskQueue) -> None:
    code, out, _ = await run("top", "--once", *FAST)
    assert (code, out.split("\n\n")) == (0, [
        "no queue has had a task yet", "no worker lives; start one with: taskfleet worker APP",
        "nothing has run for longer than a heartbeat", "no task has failed for good\n",
    ])  # fmt: skip


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "1e9", "inf", "soon"])
async def test_a_wrong_interval_is_one_line(shared: TaskQueue, interval: str) -> None:
    code, out, errors = await run("top", "--interval", interval)
    assert (code, out, errors.count("\n"), "'--interval'" in errors) == (2, "", 1, True), errors


_MILLION = """
for i = 1, 10000 do
  local at = tonumber(ARGV[1]) + i
  redis.call('RPUSH', KEYS[1], string.format('%016x%x', 7, at))
  redis.call('ZADD', KEYS[2], 1, string.format('%016x%x', 8, at))
end
"""


async def test_a_refresh_has_few_short_calls_whatever_the_number_of_tasks_and_queues(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 queues; a million tasks ready and a million dead in one of them."""
    with RedisServer() as server:
        monkeypatch.setenv("REDIS_URL", server.url)
        queue = make_queue(server.url, redis={"key_prefix": "taskfleet"})
        redis, broker = queue.broker.client.redis, queue.broker
        await redis.sadd(broker.fleet.queues, *[f"queue-{n:03}" for n in range(1000)])
        names = broker.keys_of("queue-000")
        for start in range(0, 1_000_000, 10_000):
            await redis.eval(_MILLION, 2, names.ready, names.dead, start)
        assert await redis.llen(names.ready) == 1_000_000
        # A user who can do what the operator may read, and nothing that writes: a write would be an error.
        writes = await redis.execute_command("ACL", "CAT", "write")
        rule = [word for word in acl.rule("operator") if word[1:].encode() not in writes]
        await redis.execute_command("ACL", "SETUSER", "reader", "on", ">pass", *rule)
        dump = await redis.execute_command("DEBUG", "DIGEST") if await _may_debug(redis) else None
        url = server.url.replace("://", "://reader:pass@")
        await redis.config_resetstat()
        with Terminal(["top", *FAST, "--redis", url], columns=120) as terminal:
            await watch(
                terminal, lambda screen: "to read" not in screen.text and "1000 queues" in screen.text, "all read"
            )
            assert line_of(terminal.screen, "queue-000")[2] == "1.0M"
            await redis.config_resetstat()
            first = terminal.screen.lines[0]
            refreshes = 0
            while refreshes < 5:
                await asyncio.to_thread(terminal.read, 0.1)
                # The time has seconds only. A refresh that is not seen makes the number of calls larger, never smaller.
                refreshes += terminal.screen.lines[0] != first
                first = terminal.screen.lines[0]
            stats, latencies = await redis.info("commandstats"), await redis.info("latencystats")
            terminal.press("q")
            assert await ended(terminal) == 0, terminal.screen.before
        told = {name.removeprefix("cmdstat_"): each for name, each in stats.items()}
        print({name: (each["calls"], each["usec_per_call"]) for name, each in told.items()})
        assert {"scan", "hgetall", "keys", "lrange"} & told.keys() == set()
        # Of most calls: a busy machine may stop the server in the middle of a few.
        usual = {name.removeprefix("latency_percentiles_usec_"): each["p50"] for name, each in latencies.items()}
        assert usual.keys() >= {"smembers", "evalsha"}
        assert max(usual.values()) < 5000, usual
        readings = told["smembers"]["calls"] / 2
        assert readings >= 5
        assert told["evalsha"]["calls"] <= 257 * readings
        assert told["time"]["calls"] <= 258 * readings, "each script asks for the time, and the view asks once"
        if dump is not None:
            assert await redis.execute_command("DEBUG", "DIGEST") == dump


async def _may_debug(redis: Any) -> bool:
    try:
        await redis.execute_command("DEBUG", "DIGEST")
    except Exception:
        return False
    return True
