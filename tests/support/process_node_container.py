"""A container as a local process: started, probed, restarted with back-off, and ended as kubelet does it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from taskfleet.child_process import ends_with_this_process
from tests.support.process_node_api import NodeApi, NodeApiError, Object
from tests.support.process_node_command import ROOT, ContainerConfigError, LocalCommand, resolve

_LOOK_SECONDS = 0.05
_MESSAGE_BYTES = 2048


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LocalContainer:
    """One container of a pod. `changed` is called whenever `status()` may have changed.

    `broken` are parts of image names that cannot be pulled. The first restart is at once, as kubelet's; before the next
    ones it waits `back_off` seconds, doubled each time up to 30 times that.
    """

    def __init__(
        self,
        api: NodeApi,
        pod: Object,
        spec: Object,
        folder: Path,
        *,
        broken: Collection[str],
        back_off: float,
        changed: Callable[[], None],
        until_done: bool = False,
    ) -> None:
        self._api = api
        self._pod = pod
        self.spec = spec
        self._folder = folder
        self._broken = broken
        self._back_off = back_off
        self._changed = changed
        self._until_done = until_done  # an init container: it is not started again after it has succeeded
        self.command: LocalCommand | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self.ready = self.started = False
        self.succeeded = False
        self.logs: list[Path] = []
        self._state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self._last_state: Object = {}
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    @property
    def running(self) -> bool:
        return "running" in self._state

    def status(self) -> Object:
        """Its entry in `status.containerStatuses`."""
        name, image = self.spec["name"], self.spec["image"]
        return {
            "name": name,
            "image": image,
            "imageID": f"process-node://{image}" if self.restarts or self.running else "",
            "containerID": f"process://{self.process.pid}" if self.process is not None else "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self._state,
            "lastState": self._last_state,
        }

    async def wait(self) -> None:
        """Wait for the end of an init container."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds."""
        self._ending = True
        deadline = time.monotonic() + grace
        process = self.process
        if process is not None and process.poll() is None:
            hook = self.spec.get("lifecycle", {}).get("preStop", {})
            await asyncio.sleep(min(grace, float(hook.get("sleep", {}).get("seconds", 0))))
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - a process sets no event
                await asyncio.sleep(_LOOK_SECONDS)
            self.kill()
        await self.close()
        if process is not None:
            self._ended(process)
        elif self.running:
            self._set({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now()}}, ready=False)

    def kill(self) -> None:
        """End its processes at once."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    async def close(self) -> None:
        """End the supervision; a process that still runs stays."""
        self._ending = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = 0.0
        while not self._ending:
            if not await self._prepared():
                continue
            assert self.command is not None
            if not self.command.arguments:
                # The entry point of an image that this machine does not have: it runs until the pod ends.
                self.succeeded = self._until_done
                self._set({"running": {"startedAt": now()}}, ready=True)
                return
            await self._run_once(self.command)
            if self.succeeded and self._until_done:
                return
            if pause:
                reason = {"reason": "CrashLoopBackOff", "message": f"back-off {pause:g}s restarting failed container"}
                self._last_state = self._state
                self._set({"waiting": reason}, ready=False)
            await asyncio.sleep(pause)
            pause = min(max(2 * pause, self._back_off), 30 * self._back_off)
            self.restarts += 1

    async def _prepared(self) -> bool:
        image = self.spec["image"]
        if any(part in image for part in self._broken):
            self._set({"waiting": {"reason": "ErrImagePull", "message": f"{image}: not found"}}, ready=False)
            await asyncio.sleep(self._back_off)
            message = f'Back-off pulling image "{image}"'
            self._set({"waiting": {"reason": "ImagePullBackOff", "message": message}}, ready=False)
            await asyncio.sleep(self._back_off)
            return False
        try:
            self.command = await resolve(self._api, self._pod, self.spec, self._folder / "volumes")
        except ContainerConfigError as error:
            self._set({"waiting": {"reason": "CreateContainerConfigError", "message": str(error)}}, ready=False)
            await asyncio.sleep(self._back_off)
            return False
        except (aiohttp.ClientError, TimeoutError, NodeApiError):
            await asyncio.sleep(self._back_off)  # the API server is away or busy
            return False
        return True

    async def _run_once(self, command: LocalCommand) -> None:
        log = self._folder / f"{self.spec['name']}-{len(self.logs)}.log"
        self.logs.append(log)
        try:
            with log.open("wb") as output:
                self.process = subprocess.Popen(  # noqa: ASYNC220 - it ends with the thread that starts it
                    command.arguments,
                    env=command.environment,
                    cwd=self.spec.get("workingDir", ROOT),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    preexec_fn=ends_with_this_process(),
                    start_new_session=True,
                )
        except OSError as error:
            message = f'exec: "{command.arguments[0]}": {error.strerror}'
            self._last_state = {"terminated": {"exitCode": 128, "reason": "StartError", "message": message}}
            self._set(self._last_state, ready=False)
            return
        self.started = "startupProbe" not in self.spec
        self._set({"running": {"startedAt": now()}}, ready=self.started and "readinessProbe" not in self.spec)
        probing = asyncio.create_task(self._probe())
        try:
            while self.process.poll() is None:  # noqa: ASYNC110 - a process sets no event
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
        self._ended(self.process)

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        if "terminated" in self._state:
            return
        code = process.wait(10)
        number = code if code >= 0 else 128 - code
        ended: Object = {
            "exitCode": number,
            "reason": "Error" if number else "Completed",
            "startedAt": self._state.get("running", {}).get("startedAt", now()),
            "finishedAt": now(),
        }
        if number and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = self.logs[-1].read_bytes()[-_MESSAGE_BYTES:].decode(errors="replace")
        self.succeeded = number == 0
        self._last_state = {"terminated": ended}
        self.started = False
        self._set({"terminated": ended}, ready=False)

    def _set(self, state: Object, *, ready: bool) -> None:
        self._state, self.ready = state, ready
        if "running" in state and self.command is not None and not self.command.arguments:
            self.started = True
        self._changed()

    async def _probe(self) -> None:
        async with aiohttp.ClientSession() as session:
            if (probe := self.spec.get("startupProbe")) is not None:
                await self._until(session, probe, good=True)
                self.started = True
                self._set(self._state, ready="readinessProbe" not in self.spec)
            await asyncio.gather(self._probe_readiness(session), self._probe_liveness(session))

    async def _until(self, session: aiohttp.ClientSession, probe: Object, *, good: bool) -> None:
        """Probe until it succeeds (startup), or as long as it does (liveness). Too many failures end the process."""
        failures = 0
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        while failures < probe.get("failureThreshold", 3):
            await asyncio.sleep(probe.get("periodSeconds", 10))
            answered = await self._answers(session, probe)
            if answered and good:
                return
            failures = 0 if answered else failures + 1
        assert self.process is not None
        self.process.terminate()
        await asyncio.sleep(self._pod["spec"].get("terminationGracePeriodSeconds", 30))
        self.kill()

    async def _probe_liveness(self, session: aiohttp.ClientSession) -> None:
        if (probe := self.spec.get("livenessProbe")) is not None:
            await self._until(session, probe, good=False)

    async def _probe_readiness(self, session: aiohttp.ClientSession) -> None:
        probe = self.spec.get("readinessProbe")
        if probe is None:
            return
        streak, last = 0, False
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            answered = await self._answers(session, probe)
            streak, last = (streak + 1 if answered == last else 1), answered
            enough = probe.get("successThreshold", 1) if answered else probe.get("failureThreshold", 3)
            if answered != self.ready and streak >= enough:
                self._set(self._state, ready=answered)
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def _answers(self, session: aiohttp.ClientSession, probe: Object) -> bool:
        assert self.command is not None
        get = probe["httpGet"]
        port: Any = get["port"]
        if isinstance(port, str):
            named = (one for one in self.spec.get("ports", ()) if one.get("name") == port)
            port = next(named)["containerPort"]
        url = f"http://127.0.0.1:{self.command.ports.get(port, port)}{get.get('path', '/')}"
        try:
            timeout = aiohttp.ClientTimeout(total=probe.get("timeoutSeconds", 1))
            async with session.get(url, timeout=timeout) as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
