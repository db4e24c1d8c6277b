"""The operator's HTTP servers for probes, on its own loop: a loop that hangs does not answer."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from ...listening import listening

Problems = Callable[[], list[str]]


class Endpoints:
    """`/healthz`, which is for liveness, and `/readyz` on one port, `/metrics` on another or the same.

    `exposition` gets the `Accept` header of a scrape, and returns the text and its content type.
    """

    def __init__(self, alive: Problems, ready: Problems, exposition: Callable[[str], tuple[bytes, str]]) -> None:
        self._alive = alive
        self._ready = ready
        self._exposition = exposition
        self._runners: list[web.AppRunner] = []

    async def start(self, probe_port: int, metrics_port: int) -> None:
        """Serve; a port of 0 is not served. `ConfigurationError` when a port is taken."""
        probes = [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)]
        metrics = [web.get("/metrics", self._metrics)]
        if probe_port:
            both = [*probes, *metrics] if probe_port == metrics_port else probes
            await self._serve(probe_port, "--probe-port", both)
        if metrics_port not in (0, probe_port):
            await self._serve(metrics_port, "--metrics-port", metrics)

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _serve(self, port: int, option: str, routes: list[web.RouteDef]) -> None:
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        self._runners.append(runner)
        await runner.setup()
        await web.SockSite(runner, listening(port, option)).start()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _answer(self._alive(), "alive")

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer(self._ready(), "ready")

    async def _metrics(self, request: web.Request) -> web.Response:
        text, content_type = self._exposition(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})


def _answer(problems: list[str], well: str) -> web.Response:
    return web.Response(status=503 if problems else 200, text="\n".join(problems or [well]) + "\n")
