"""Producers without an event loop: threads, forks, and the end of the interpreter."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from taskfleet import (
    BrokerConnectionError,
    BulkEnqueueError,
    Message,
    Middleware,
    QueueFullError,
    SendNext,
    SerializationError,
    Task,
    TaskCancelledError,
    TaskExecutionError,
    TaskNotFoundError,
    TaskQueue,
    TaskQueueError,
    TaskTimeoutError,
    chain,
    current_task,
    group,
)
from taskfleet.child_process import ends_with_this_process
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]


class Exclaim(Task):
    text: str

    async def execute(self) -> str:
        return self.text.upper()


def test_a_plain_program_enqueues_and_waits_for_results(make_queue: MakeQueue) -> None:
    queue = make_queue()

    @queue.task
    async def add(a: int, b: int) -> int:
        return a + b

    started, stop = threading.Event(), threading.Event()

    def work() -> None:
        async def run() -> None:
            async with queue:
                await queue.start_workers(1)
                started.set()
                await asyncio.to_thread(stop.wait)

        asyncio.run(run())

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert started.wait(30)
        handle = add.enqueue_sync(1, b=2)
        assert handle.result_sync(timeout=25) == 3
        assert handle.status_sync() == "succeeded"
        assert add.options(delay=0.05).enqueue_sync(2, 3).result_sync(timeout=25) == 5
        assert queue.enqueue_sync(add.message(3, 4)).result_sync(25) == 7
        assert queue.enqueue_sync(Exclaim(text="hi")).result_sync(25) == "HI"
        assert queue.schedule_sync(Exclaim(text="later"), delay=0.05).result_sync(25) == "LATER"
        many = queue.enqueue_many_sync([add.message(n, n) for n in range(100)])
        assert [each.result_sync(25) for each in many] == [2 * n for n in range(100)]
        assert queue.handle(handle.id).result_sync(25) == 3
    finally:
        stop.set()
        worker.join(20)


async def test_errors_are_the_same_typed_ones(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "small", "max_length": 1}])

    @queue.task(max_retries=0)
    async def fail(n: int) -> int:
        raise ValueError(f"bad {n}")

    @queue.task(max_retries=0)
    async def sleep() -> None:
        await asyncio.sleep(60)

    def produce() -> None:
        with pytest.raises(SerializationError, match="parameter 'n'"):
            fail.enqueue_sync("x")  # type: ignore[arg-type]
        with pytest.raises(BulkEnqueueError, match="message 1"):
            queue.enqueue_many_sync([fail.message(1), fail.message("x")])  # type: ignore[arg-type]
        fail.options(queue="small").enqueue_sync(1)
        with pytest.raises(QueueFullError):
            fail.options(queue="small").enqueue_sync(2)
        with pytest.raises(TaskExecutionError, match="bad 7") as failed:
            fail.enqueue_sync(7).result_sync(timeout=25)
        assert "raise ValueError" in failed.value.traceback
        asleep = sleep.enqueue_sync()
        with pytest.raises(TaskTimeoutError) as late:
            asleep.result_sync(timeout=0.1)
        assert (late.value.task_id, late.value.timeout_seconds) == (asleep.id, 0.1)
        assert asleep.cancel_sync() is True
        with pytest.raises(TaskCancelledError):
            asleep.result_sync(timeout=25)
        unknown = queue.handle("0123456789abcdef1")
        assert unknown.status_sync() == "unknown"
        assert unknown.cancel_sync() is False
        with pytest.raises(TaskNotFoundError):
            unknown.result_sync(timeout=1)

    await run_worker(queue, queues=["default"])
    await asyncio.to_thread(produce)


def test_a_redis_that_does_not_answer_is_a_connection_error(make_queue: MakeQueue) -> None:
    queue = make_queue(f"redis://127.0.0.1:{free_port()}/0")

    @queue.task
    async def nothing() -> None: ...

    with pytest.raises(BrokerConnectionError, match="connection refused; start it, or set REDIS_URL"):
        nothing.enqueue_sync()


async def test_inside_a_running_loop_the_error_names_the_call_to_await(queue: TaskQueue) -> None:
    @queue.task
    async def add(a: int, b: int) -> int:
        return a + b

    handle = await add.enqueue(1, 2)
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: add.enqueue_sync(1, 2), r"write await add\.enqueue\(…\)"),
        (lambda: add.options(delay=1).enqueue_sync(1, 2), r"write await add\.enqueue\(…\)"),
        (lambda: queue.enqueue_sync(add.message(1, 2)), r"write await queue\.enqueue\(…\)"),
        (lambda: queue.schedule_sync(add.message(1, 2), delay=1), r"write await queue\.schedule\(…\)"),
        (lambda: queue.enqueue_many_sync([add.message(1, 2)]), r"write await queue\.enqueue_many\(…\)"),
        (handle.result_sync, r"write await handle\.result\(\)"),
        (handle.status_sync, r"write await handle\.status\(\)"),
        (handle.cancel_sync, r"write await handle\.cancel\(\)"),
    ]
    for call, message in wrong:
        with pytest.raises(TaskQueueError, match=message):
            call()
        with pytest.raises(RuntimeError, match=message):
            call()
    assert (await queue.queue_stats("default")).enqueued_total == 1


async def test_the_applications_own_connections_are_left_alone(queue: TaskQueue) -> None:
    @queue.task
    async def nothing(n: int) -> None: ...

    await nothing.enqueue(0)
    before = queue.broker
    handle = await asyncio.to_thread(nothing.enqueue_sync, 1)
    assert await handle.status() == "ready"  # a handle made in a thread can be awaited here
    assert queue.broker is before
    first = await nothing.enqueue(2)
    assert await asyncio.to_thread(first.status_sync) == "ready"  # and vice versa


async def test_calls_of_many_threads_travel_together(queue: TaskQueue) -> None:
    @queue.task(result_ttl=0)
    async def nothing(thread: int, n: int) -> None: ...

    async def calls() -> int:
        stats = await queue.broker.client.redis.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval"))

    threads, each = 50, 40
    barrier = threading.Barrier(threads)

    def produce(thread: int) -> list[str]:
        barrier.wait(60)
        return [nothing.enqueue_sync(thread, n).id for n in range(each)]

    before = await calls()
    with ThreadPoolExecutor(threads) as pool:
        loop = asyncio.get_running_loop()
        ids = await asyncio.gather(*(loop.run_in_executor(pool, produce, n) for n in range(threads)))
    assert len({task_id for some in ids for task_id in some}) == threads * each
    assert (await queue.queue_stats("default")).ready == threads * each
    assert await calls() - before < threads * each / 4
    assert [thread.name for thread in threading.enumerate()].count("taskfleet-sync") == 1


trace: ContextVar[str] = ContextVar("trace")


class Tracing(Middleware):
    async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
        for message in messages:
            message.headers = {"trace": trace.get("none")}
        await call_next()


async def test_middleware_sees_the_callers_context(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(middleware=[Tracing()])

    @queue.task
    async def headers() -> dict[str, str]:
        return dict(current_task().headers)

    await run_worker(queue)
    trace.set("abc")  # asyncio.to_thread copies the context
    handle = await asyncio.to_thread(headers.enqueue_sync)
    assert await handle.result(timeout=25) == {"trace": "abc"}


async def test_workflows_are_sent_and_waited_for(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def add(a: int, b: int) -> int:
        return a + b

    def produce() -> None:
        end = queue.enqueue_sync(chain(add.message(1, 2), add.message(3), add.message(4)))
        assert end.result_sync(timeout=25) == 10
        both = queue.enqueue_sync(group(add.message(1, 2), add.message(3, 4)))
        assert both.result_sync(timeout=25) == [3, 7]
        assert both.statuses_sync() == ["succeeded", "succeeded"]
        assert both.cancel_sync() is False
        # After a task known only by its id, which is looked up with the connections of the call.
        after = add.options(after=[queue.handle(end.id)]).enqueue_sync(5, 6)
        assert after.result_sync(timeout=25) == 11

    await run_worker(queue)
    await asyncio.to_thread(produce)


async def test_closing_the_queue_closes_the_connections_of_its_calls(make_queue: MakeQueue) -> None:
    queue, other = make_queue(), make_queue()

    @queue.task
    async def nothing() -> None: ...

    async def clients() -> set[str]:
        return {client["id"] for client in await other.broker.client.redis.client_list()}

    await other.health_check()
    before = await clients()  # among them may be some of earlier tests that are about to go
    await asyncio.to_thread(nothing.enqueue_sync)
    made = await clients() - before
    assert made
    await queue.close()

    async def closed() -> bool:
        return not made & await clients()

    await until(closed, "its connection is closed")
    await asyncio.to_thread(nothing.enqueue_sync)  # and opens again at the next call


# Separate scripts, to test how they end.

HEAD = """
import atexit, os, signal, sys, threading, time
from taskfleet import TaskQueue

queue = TaskQueue.from_config()

@queue.task(result_ttl=0)
async def note(text: str) -> None: ...
"""


@pytest.fixture
def script(make_queue: MakeQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Start a script with this test's Redis and prefix. Its warnings are errors on stderr."""
    queue = make_queue()
    monkeypatch.setenv("REDIS_URL", queue.url)
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", queue.broker.prefix)

    def start(body: str, *, before: str = "") -> subprocess.Popen[str]:
        path = tmp_path / "script.py"
        future = "from __future__ import annotations\n"
        path.write_text(future + before + HEAD + textwrap.dedent(body))
        return subprocess.Popen(
            # Since 3.12 Python warns about every fork beside a thread. This test shows that these forks are safe.
            [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            preexec_fn=ends_with_this_process(),
        )

    return start


async def ready_texts(queue: TaskQueue) -> list[str]:
    from taskfleet.protocol import envelope

    names = queue.broker.keys_of("default")
    redis = queue.broker.client.redis
    texts: list[str] = []
    for key in names:
        if await redis.type(key) == b"hash":
            for blob in (await redis.hgetall(key)).values():
                if b"note" in blob:
                    texts.append(envelope.decode(blob).args[0])
    return sorted(texts)


async def finish(process: subprocess.Popen[str], *, seconds: float = 60) -> tuple[int, str, str]:
    try:
        out, errors = await asyncio.to_thread(process.communicate, timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, errors = process.communicate()
        pytest.fail(f"the script did not end: {out} {errors}")
    return process.returncode, out, errors


async def test_a_script_that_enqueues_and_ends_at_once_loses_nothing(script: Any, make_queue: MakeQueue) -> None:
    process = script("""
        for n in range(3):
            note.enqueue_sync(str(n))
    """)
    assert await finish(process) == (0, "", "")
    assert await ready_texts(make_queue()) == ["0", "1", "2"]


async def test_the_exit_code_of_a_script_is_its_own(script: Any, make_queue: MakeQueue) -> None:
    process = script("""
        note.enqueue_sync("a")
        atexit.register(lambda: note.enqueue_sync("at exit"))
        sys.exit(7)
    """)
    assert await finish(process) == (7, "", "")
    assert await ready_texts(make_queue()) == ["a", "at exit"]


async def test_calls_that_daemon_threads_are_sending_at_the_end_arrive(script: Any, make_queue: MakeQueue) -> None:
    queue = make_queue()
    process = script("""
        note.enqueue_sync("first")
        redis = __import__("redis").Redis.from_url(queue.url)
        redis.client_pause(60_000, all=False)  # until all five are on their way; the test ends it when Python ends
        for n in range(5):
            threading.Thread(target=note.enqueue_sync, args=(f"late {n}",), daemon=True).start()
        from taskfleet import sync
        while len(sync._loop_thread._sends) < 5:
            time.sleep(0.001)
        redis.close()
        print("ending", flush=True)
    """)
    try:
        assert await asyncio.to_thread(process.stdout.readline) == "ending\n"
    finally:
        await queue.broker.client.redis.client_unpause()
    assert await finish(process) == (0, "", "")
    assert await ready_texts(queue) == ["first", *(f"late {n}" for n in range(5))]


async def test_a_thread_that_waits_for_a_result_does_not_keep_python_from_ending(script: Any) -> None:
    process = script("""
        handle = note.enqueue_sync("a")
        def wait() -> None:
            try:
                handle.result_sync()
            except Exception as error:
                print(error, file=sys.stdout, flush=True)
        threading.Thread(target=wait, daemon=True).start()
        time.sleep(0.2)
    """)
    code, out, errors = await finish(process)
    assert (code, errors) == (0, "")
    assert not out or out.startswith("Python is ending")


async def test_a_call_after_the_end_says_so_instead_of_hanging(script: Any) -> None:
    before = """
import atexit

def too_late() -> None:  # registered before taskfleet was imported, so called after its own end
    try:
        note.enqueue_sync("b")
    except Exception as error:
        print(type(error).__name__, error)

atexit.register(too_late)
"""
    process = script('note.enqueue_sync("a")', before=before)
    code, out, errors = await finish(process)
    assert (code, errors) == (0, "")
    assert out.startswith("BrokerConnectionError Python is ending")


async def test_forked_children_get_connections_of_their_own(script: Any, make_queue: MakeQueue) -> None:
    process = script("""
        import socket

        def connections() -> list[int]:
            found = []
            for fd in range(3, 256):
                try:
                    with socket.socket(fileno=os.dup(fd)) as copy:
                        found += [fd] if copy.family != socket.AF_UNIX else []
                except OSError:
                    pass  # no descriptor, or no socket
            return found

        note.enqueue_sync("parent before")
        assert len(connections()) >= 1
        children = []
        for n in range(4):
            pid = os.fork()
            if not pid:
                assert connections() == []
                for k in range(20):
                    note.enqueue_sync(f"child {n} {k:02}")
                sys.exit(10 + n)  # by the ordinary end of Python, not os._exit
            children.append(pid)
        for k in range(20):
            note.enqueue_sync(f"parent {k:02}")
        print(sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
        note.enqueue_sync("parent after")
    """)
    assert await finish(process) == (0, "[10, 11, 12, 13]\n", "")
    expected = [f"child {n} {k:02}" for n in range(4) for k in range(20)] + [f"parent {k:02}" for k in range(20)]
    assert await ready_texts(make_queue()) == sorted([*expected, "parent before", "parent after"])


async def test_a_fork_while_calls_are_in_flight_harms_neither_side(script: Any, make_queue: MakeQueue) -> None:
    process = script("""
        stop = threading.Event()
        counts = [0] * 4
        def produce(thread: int) -> None:
            while not stop.is_set():
                note.enqueue_sync(f"parent {thread} {counts[thread]:04}")
                counts[thread] += 1
        threads = [threading.Thread(target=produce, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        children = []
        for n in range(25):
            while sum(counts) < (n + 1) * 4:
                time.sleep(0.001)
            pid = os.fork()
            if not pid:
                note.enqueue_sync(f"child {n:02}")
                sys.exit(0)
            children.append(pid)
        codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}
        stop.set()
        for thread in threads:
            thread.join()
        print(codes, *counts)
    """)
    code, out, errors = await finish(process, seconds=60)
    assert (code, errors) == (0, "")
    zero, *counts = out.split()
    assert zero == "{0}"
    parents = [f"parent {n} {k:04}" for n, count in enumerate(counts) for k in range(int(count))]
    assert await ready_texts(make_queue()) == sorted([*(f"child {n:02}" for n in range(25)), *parents])


async def test_the_same_under_multiprocessing_fork(script: Any, make_queue: MakeQueue) -> None:
    process = script("""
        import multiprocessing

        def send(text: str) -> str:
            return note.enqueue_sync(text).id

        note.enqueue_sync("parent")
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert len(set(pool.map(send, [str(n) for n in range(30)]))) == 30
            pool.close()
            pool.join()
    """)
    assert await finish(process) == (0, "", "")
    assert await ready_texts(make_queue()) == sorted(["parent", *(str(n) for n in range(30))])


@pytest.mark.parametrize("waiting", ["result", "enqueue"])
async def test_ctrl_c_interrupts_a_waiting_call(script: Any, make_queue: MakeQueue, waiting: str) -> None:
    call = {"result": "handle.result_sync()", "enqueue": 'note.enqueue_sync("b")'}[waiting]
    process = script(f"""
        handle = note.enqueue_sync("a")
        redis = __import__("redis").Redis.from_url(queue.url)
        if {waiting == "enqueue"}:
            redis.client_pause(60_000, all=False)
        redis.close()
        try:
            print("waiting", flush=True)
            {call}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.exit(3)
    """)
    assert await asyncio.to_thread(process.stdout.readline) == "waiting\n"
    await asyncio.sleep(0.2)
    process.send_signal(signal.SIGINT)
    try:
        assert await asyncio.to_thread(process.stdout.readline) == "interrupted\n"
    finally:
        await make_queue().broker.client.redis.client_unpause()
    code, _, _ = await finish(process)
    assert code == 3


async def test_a_web_application_without_a_loop(script: Any, make_queue: MakeQueue) -> None:
    """A preforking, threaded WSGI server: the application is loaded, and has enqueued, before the fork."""
    process = script("""
        import socketserver
        from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        note.enqueue_sync("loaded")

        class Server(socketserver.ThreadingMixIn, WSGIServer):
            daemon_threads = True

        class Quiet(WSGIRequestHandler):
            def log_message(self, *args): ...

        def application(environ, start_response):
            handle = note.enqueue_sync(environ["PATH_INFO"])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [f"{os.getpid()} {handle.status_sync()}".encode()]

        server = Server(("127.0.0.1", 0), Quiet)
        server.set_app(application)
        children = []
        for _ in range(2):
            pid = os.fork()
            if not pid:
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
                server.serve_forever()
            children.append(pid)
        print(server.server_address[1], flush=True)
        signal.sigwait({signal.SIGUSR1})
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        print({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children})
        server.server_close()
    """)
    port = int(await asyncio.to_thread(process.stdout.readline))

    def get(n: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{n}", timeout=30) as reply:
            return str(reply.read().decode())

    answers = await asyncio.gather(*(asyncio.to_thread(get, n) for n in range(40)))
    assert {answer.split()[1] for answer in answers} == {"ready"}
    assert str(process.pid) not in {answer.split()[0] for answer in answers}
    os.kill(process.pid, signal.SIGUSR1)
    assert await finish(process) == (0, "{0}\n", "")
    assert await ready_texts(make_queue()) == sorted(["loaded", *(f"/{n}" for n in range(40))])
