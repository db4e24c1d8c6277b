"""The processes of a run (a Redis, the proxy, workers of several versions, producers), and the faults done to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis.asyncio as redis_async
from redis import exceptions as redis_exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from taskfleet.child_process import ends_with_this_process
from tests.chaos.faults import Fault
from tests.chaos.kinds import LEASE_SECONDS, POISONED
from tests.chaos.ledger import Ledger, now
from tests.chaos.old_version import OldVersion
from tests.chaos.slow_calls import SlowCalls
from tests.chaos.stories import DRAINED, NOTED_SECONDS, SLOW
from tests.support.redis_server import RedisServer

PREFIX = "chaos"
_ROOT = Path(__file__).parents[2]
_MOST_FAILURES = 5  # a process that cannot work is not started again for ever
_HANGING_DRAIN_SECONDS = 10.0
_DRAIN_SECONDS = 90.0  # the grace period, and the time to reach a Redis that comes back
_BEAT = "beat"  # the name of the connection through the proxy that no fault disturbs
_BEAT_SECONDS = 0.1
RECONNECT_SECONDS = 0.3  # a lost connection is a short time out of reach


class Slot:
    """One process, started again when it dies, unless it has done its work."""

    def __init__(self, name: str, role: str, command: Sequence[str], environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self.role = role
        self.lock = asyncio.Lock()  # one fault of processes at a time
        self.complete = False
        self.expected: str | None = None  # how the suite is ending its process, if it is
        self.starts = 0
        self.failures = 0  # how often it ended by itself
        self.alive = 0.0  # when its process was last seen alive
        self._command = command
        self._environment = environment
        self._log = folder / f"{name}.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        self.alive = now()
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=_ROOT,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=ends_with_this_process(),
            )

    def restart(self) -> None:
        self.expected = None
        self.process = self._start()

    @property
    def key(self) -> str:
        """The name of the ledger that its process writes."""
        return f"{'producer' if self.role == 'producer' else 'worker'}-{self.name}.{self.process.pid}"

    def last_line(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    def traces(self) -> int:
        """The number of logged tracebacks, without those of tasks that are there to fail."""
        _, *traces = self._log.read_text(errors="replace").split("Traceback (most recent call last)")
        return sum(_INTENDED not in trace.partition("\n20")[0] for trace in traces)


_INTENDED = "\nValueError: as it should"  # raised by tasks that are there to fail


class ChaosFleet:
    """Starts the processes, carries out faults, and notes them in a ledger of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int,
        producers: int,
        tasks: int,
        seconds: float,
        seed: int,
        old: Mapping[OldVersion, Path],
    ) -> None:
        self._folder = folder
        self._notes = Ledger(folder, "faults")
        self.server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        # Its thread must live as long as the server: the kernel ends a child with the thread that started it.
        self._server_thread = ThreadPoolExecutor(1)
        self._redis_lock = asyncio.Lock()
        self.worker_names = [f"w{i}" for i in range(workers)] + [version.name for version in old]
        self.producer_names = [f"p{i}" for i in range(producers)]
        self._old = {version.name: (version, folder) for version, folder in old.items()}
        self._plan = (tasks, seconds, seed)
        self.slots: dict[str, Slot] = {}
        self.defects: list[str] = []
        self.hung = 0  # drains, by a version that hangs, that did not end
        self.done: Counter[str] = Counter()
        self.slow_calls = SlowCalls()
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    async def start(self) -> None:
        await self._in_server_thread(self.server.start)
        self.redis: Any = redis_async.Redis(
            host="127.0.0.1", port=self.server.port, socket_timeout=60.0, socket_connect_timeout=60.0
        )
        await self.slow_calls.begin(self.redis)
        self._proxy = self._start_proxy([*self.worker_names, *self.producer_names, _BEAT])
        assert self._proxy.stdout is not None
        line = await asyncio.to_thread(self._proxy.stdout.readline)
        if not line:
            raise RuntimeError("the proxy did not start")
        ports: dict[str, int] = json.loads(line)
        for name in self.worker_names:
            role = name if name in self._old else "worker"
            command = [sys.executable, "-m", "taskfleet", "worker", "tests.chaos.app:queue", "--concurrency", "48"]
            if name in self._old and (queues := self._old[name][0].queues):
                command += ["--queues", ",".join(queues)]
            self.slots[name] = Slot(name, role, command, self._environment(name, role, ports[name]), self._folder)
        tasks, seconds, seed = self._plan
        for number, name in enumerate(self.producer_names):
            numbers = (number, len(self.producer_names), tasks, seconds, seed)
            command = [sys.executable, "-m", "tests.chaos.producer", *map(str, numbers)]
            environment = self._environment(name, "producer", ports[name])
            self.slots[name] = Slot(name, "producer", command, environment, self._folder)
        self._tasks = [asyncio.create_task(self._watch_slots()), asyncio.create_task(self._beat(ports[_BEAT]))]

    def _start_proxy(self, names: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy", str(self._folder), str(self.server.port), *names],
            cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=ends_with_this_process(),
        )  # fmt: skip

    def _environment(self, name: str, role: str, port: int) -> dict[str, str]:
        library = self._old[role][1] if role in self._old else _ROOT / "worker"
        return {
            "REDIS_URL": f"redis://127.0.0.1:{port}/0",
            "REDIS_COMMAND_TIMEOUT": "2",
            "TASKFLEET_REDIS__KEY_PREFIX": PREFIX,
            "TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD": "1.5",
            "TASKFLEET_WORKERS__HEARTBEAT_INTERVAL": "1",
            "TASKFLEET_WORKER_NAME": name,
            "CHAOS_ROLE": role,
            "CHAOS_LEDGER": str(self._folder),
            "PYTHONPATH": os.pathsep.join([str(library), str(_ROOT)]),
        }

    async def _in_server_thread(self, function: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._server_thread, function)

    async def _watch_slots(self) -> None:
        """Start processes that have died again, and note the reason."""
        while True:
            await asyncio.sleep(0.02)
            for slot in self.slots.values():
                looked = now()
                if slot.complete or slot.process.poll() is None:
                    slot.alive = looked
                    continue
                code = slot.process.returncode
                if slot.role == "producer" and code == 0:
                    slot.complete = True
                    continue
                if slot.expected:
                    how = DRAINED if code == 0 else slot.expected
                elif code == POISONED:
                    how = "was ended by its task"
                else:
                    how = f"ended by itself with {code}"
                    self.defects.append(f"process {slot.name} {how}: {slot.last_line()}")
                    slot.failures += 1
                self._notes.note("died", now(), slot.key, how, slot.alive)
                if self._ending or slot.failures >= _MOST_FAILURES:
                    slot.complete = True
                else:
                    slot.restart()

    async def _beat(self, port: int) -> None:
        """Note when the proxy and Redis do not answer for long: on a busy machine that alone can cost a lease."""
        # Without tries again: the pauses between them are none of the proxy and Redis.
        once = Retry(NoBackoff(), 0)
        async with redis_async.Redis(host="127.0.0.1", port=port, socket_timeout=60.0, retry=once) as redis:
            while True:
                await asyncio.sleep(_BEAT_SECONDS)
                asked, worked = now(), self._worked()
                with contextlib.suppress(redis_exceptions.RedisError, OSError):
                    await redis.ping()
                if (answered := now()) - asked > NOTED_SECONDS:
                    self._notes.note("fault", asked, answered, SLOW, "redis", 0, "*")
                    self.slow_calls.stood_still(time.time(), answered - asked, self._worked() - worked)

    def _worked(self) -> float:
        """The processor time (s) that Redis has used so far; NaN where that is not to be had."""
        with contextlib.suppress(OSError, AssertionError):
            fields = Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return math.nan

    # Faults.

    async def run(self, faults: Sequence[Fault]) -> None:
        """Carry out a schedule; returns when the last fault is over."""
        began = now()
        running: list[asyncio.Task[None]] = []
        for fault in faults:
            await asyncio.sleep(max(0.0, fault.at - (now() - began)))
            running.append(asyncio.create_task(self._carry_out(fault)))
        await asyncio.gather(*running)

    async def _carry_out(self, fault: Fault) -> None:
        if fault.target == "redis":
            async with self._redis_lock:
                await self._redis_fault(fault)
        elif fault.what in {"cut", "lose", "tear", "late", "stall", "stall_long"}:
            self._way_fault(fault)
        else:
            slot = self.slots[fault.target]
            async with slot.lock:
                await self._process_fault(fault, slot)
        self.done[fault.what] += 1

    def _note(self, fault: Fault, start: float, end: float, process: str = "") -> None:
        """`process` names the slot that was out of reach meanwhile: one, `*` for all, or empty for none."""
        self._notes.note("fault", start, end, fault.what, fault.target, fault.amount, process)

    async def _process_fault(self, fault: Fault, slot: Slot) -> None:
        start = now()
        process = slot.process
        if slot.complete or process.poll() is not None:
            # It has just died of something else: that was fault enough for it.
            self._note(fault, start, start)
            return
        match fault.what.removesuffix("_producer").removesuffix("_long"):
            case "kill":
                slot.expected = "was killed"
                process.kill()
                await self._gone(process)
                self._note(fault, start, now())
            case "stop":
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(fault.amount)
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                self._note(fault, start, now(), slot.name)
            case "terminate":
                await self.terminate(slot)
                self._note(fault, start, now())

    async def terminate(self, slot: Slot) -> None:
        """SIGTERM, and wait until it has drained; a process that does not drain is a defect."""
        process, key = slot.process, slot.key
        slot.expected = "was told to end"
        self._notes.note("draining", now(), key)
        process.terminate()
        hangs = slot.role in self._old and self._old[slot.role][0].hangs
        patience = _HANGING_DRAIN_SECONDS if hangs else _DRAIN_SECONDS
        try:
            async with asyncio.timeout(patience):
                await self._gone(process)
        except TimeoutError:
            # The first version may hang in a drain without Redis. That is mended since; an operator would kill it.
            if hangs:
                self.hung += 1
            else:
                self.defects.append(f"{key} did not drain in {patience:g} s: {slot.last_line()}")
            process.kill()
            await self._gone(process)
        else:
            # A signal that comes before the worker has its handler ends it at once.
            if process.returncode not in (0, POISONED, -signal.SIGTERM, 128 + signal.SIGTERM):
                self.defects.append(f"{key} ended its drain with {process.returncode}: {slot.last_line()}")

    async def _gone(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:  # noqa: ASYNC110 - the kernel sends no asyncio.Event
            await asyncio.sleep(0.01)

    def _way_fault(self, fault: Fault) -> None:
        order: dict[str, Any] = {"do": fault.what.removesuffix("_long"), "client": fault.target}
        at = now()
        if fault.what in {"stall", "stall_long"}:
            order["seconds"] = fault.amount
        elif fault.what == "late":
            order |= {"times": int(fault.amount), "seconds": 1.5}
        elif fault.what != "cut":
            order["times"] = int(fault.amount)
        assert self._proxy.stdin is not None
        self._proxy.stdin.write((json.dumps(order) + "\n").encode())
        self._proxy.stdin.flush()
        self._note(fault, at, at)  # the proxy notes the hits, and when it stalled: it may read the order much later

    async def _redis_fault(self, fault: Fault) -> None:
        start = now()
        match fault.what:
            case "redis_kill":
                await self.slow_calls.read(self.redis)
                await self._in_server_thread(self.server.stop)
                await asyncio.sleep(fault.amount)
                await self._in_server_thread(self.server.start)  # until it answers
                away = now() - start
                # A renewal that failed at once is tried again after a pause as long, up to the time between renewals.
                self._note(fault, start, start + away + min(away, LEASE_SECONDS / 3), "*")
                await self._answers()
                await self.slow_calls.begin(self.redis)
                return
            case "redis_stop" | "redis_stop_long":
                async with self.slow_calls.stopped(self.redis):
                    os.kill(self.server.pid, signal.SIGSTOP)
                    await asyncio.sleep(fault.amount)
                    os.kill(self.server.pid, signal.SIGCONT)
                    await self._answers()
            case "client_pause":
                await self._say("CLIENT", "PAUSE", int(fault.amount * 1000), "ALL")
                await self._answers()
            case "client_kill":
                await self._say("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await self._say("CLIENT", "KILL", "TYPE", "pubsub")
            case "script_flush":
                await self._say("SCRIPT", "FLUSH")
        nobody = fault.what == "script_flush"
        lasts = RECONNECT_SECONDS if fault.what == "client_kill" else 0.0
        self._note(fault, start, now() + lasts, "" if nobody else "*")

    async def _say(self, *words: Any) -> None:
        for _ in range(3):
            try:
                await self.redis.execute_command(*words)
                return
            except (redis_exceptions.RedisError, OSError):
                await asyncio.sleep(0.05)
        raise RuntimeError(f"Redis does not take {words}")

    async def _answers(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.redis.ping()
                    return
                except (redis_exceptions.RedisError, OSError):
                    await asyncio.sleep(0.05)

    # The end.

    async def producers_complete(self) -> None:
        while not self.sent:  # noqa: ASYNC110 - as in _gone
            await asyncio.sleep(0.05)

    @property
    def sent(self) -> bool:
        """Whether every producer has done its work."""
        return all(slot.complete for slot in self.slots.values() if slot.role == "producer")

    async def restart(self, version: OldVersion) -> None:
        """Kill the worker of a version that hangs: it may keep the lease of a task of which it has lost track."""
        slot = self.slots[version.name]
        async with slot.lock:
            self.hung += 1
            slot.expected = "was killed"
            process = slot.process
            process.kill()
            await self._gone(process)

    async def end_workers(self) -> None:
        """Drain every worker; each must end by itself, with success."""
        self._ending = True
        await asyncio.gather(*(self.terminate(slot) for slot in self.slots.values() if slot.role != "producer"))

    async def close(self) -> None:
        """End every process that is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self.slots.values():
            if slot.process.poll() is None:
                slot.process.kill()
                slot.process.wait()
        if hasattr(self, "_proxy"):
            for pipe in (self._proxy.stdin, self._proxy.stdout):
                if pipe is not None:
                    pipe.close()
            self._proxy.kill()
            self._proxy.wait()
        if hasattr(self, "redis"):
            await self.redis.aclose()
        await self._in_server_thread(lambda: self.server.__exit__())
        self._server_thread.shutdown()
        self._notes.close()
