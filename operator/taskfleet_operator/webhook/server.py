"""The HTTPS server of the webhook. Its certificate is read again when the files change."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from aiohttp import web

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.errors import ConfigurationError
from taskfleet.supervising import supervise

from ..control.api import deep_json
from ..listening import listening
from .examination import Cluster
from .review import NoReviewError, answer

logger = showing.logger("taskfleet.operator")

_LOOK_SECONDS = 5.0
_LARGEST = 8 * 1024 * 1024  # two objects of the largest size that etcd takes, and room


class WebhookServer:
    """Serves `/validate` on `port` with the `tls.crt` and `tls.key` of a folder, such as a mounted secret.

    Until the certificate is there it does not listen; a certificate that cannot be used leaves the last one in use.
    """

    def __init__(self, cluster: Cluster, port: int, folder: str) -> None:
        self._cluster = cluster
        self._port = port
        self._files = Path(folder) / "tls.crt", Path(folder) / "tls.key"
        self._context: ssl.SSLContext | None = None
        self._loaded: tuple[bytes, bytes] | None = None
        self._refused: tuple[bytes, bytes] | None = None
        self._runner: web.AppRunner | None = None
        self._told = ""
        self.problem = f"the webhook has no certificate yet in {folder}"
        """Why it cannot be asked, "" when it can."""
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._look()
        self._following = asyncio.create_task(supervise("the look at the webhook's certificate", self._follow))

    async def close(self) -> None:
        if self._following is not None:
            await end([self._following])
        if self._runner is not None:
            await self._runner.cleanup()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Read the certificate if it is another one, and begin to listen with the first."""
        try:
            found = self._files[0].read_bytes(), self._files[1].read_bytes()
        except OSError as error:
            self._tell(f"the webhook has no certificate: {error}")
            return
        if found in (self._loaded, self._refused):
            return
        fresh = _context()
        try:
            fresh.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            self._refused = found
            self._tell(f"the webhook's certificate cannot be used: {error}")
            return
        if self._runner is None:
            await self._listen()
        self._context = fresh
        self._loaded, self._refused, self.problem, self._told = found, None, "", ""
        logger.info("the webhook uses the certificate in %s", self._files[0].parent)

    def _tell(self, problem: str) -> None:
        if self._loaded is None:
            self.problem = problem
        if self._told != problem:
            self._told = problem
            logger.warning("%s", problem)

    async def _listen(self) -> None:
        # A new connection takes the last context whole: the files of one that is in use are not read into it again.
        entry = _context()
        entry.sni_callback = self._choose
        app = web.Application(client_max_size=_LARGEST)
        app.add_routes([web.post("/validate", self._validate)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
        try:
            bound = listening(self._port, "--webhook-port")
        except ConfigurationError as error:
            self.problem = str(error)
            raise
        await runner.setup()
        await web.SockSite(runner, bound, ssl_context=entry).start()
        self._runner = runner

    def _choose(self, connection: Any, _name: str | None, _entry: ssl.SSLContext) -> None:
        connection.context = self._context

    async def _validate(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(await answer(deep_json.loads(await request.read()), self._cluster))
        except (ValueError, NoReviewError) as error:
            return web.Response(status=400, text=f"{error}\n")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
