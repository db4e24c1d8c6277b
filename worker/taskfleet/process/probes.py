"""The probes `/livez`, `/readyz` and `/metrics`, served from a separate thread: a blocked event loop still answers."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from prometheus_client.registry import Collector

from taskfleet.errors import ConfigurationError
from taskfleet.process import listening
from taskfleet.process.exposition import exposition


class Vitals(Protocol):
    """What the probes ask: `taskfleet.runtime.state.health.Health` for one worker, or that of several processes."""

    @property
    def alive(self) -> bool: ...

    @property
    def ready(self) -> bool: ...

    def why_not_alive(self) -> str: ...

    def why_not_ready(self) -> str: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, health: Vitals, collector: Collector) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()  # of IPv4 only, and not bound
        self.socket = listener
        self.health = health
        self.collector = collector


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = 5.0

    def do_GET(self) -> None:
        health = self.server.health
        if self.path == "/livez":
            self._answer(health.alive, health.why_not_alive() or "alive")
        elif self.path == "/readyz":
            self._answer(health.ready, "ready" if health.ready else f"not ready: {health.why_not_ready()}")
        elif self.path == "/metrics":
            self._send(200, *exposition(self.server.collector, self.headers.get("Accept", "")))
        else:
            self._send(404, b"try /livez, /readyz or /metrics\n", "text/plain")

    def _answer(self, good: bool, text: str) -> None:
        self._send(200 if good else 503, (text + "\n").encode(), "text/plain")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: a probe every second is not worth a line."""


class ProbeServer:
    """Serves the probes of one worker, or of all processes of a supervisor, until `close()`.

    Port 0 takes a free one; see `port`.
    """

    def __init__(self, health: Vitals, collector: Collector, host: str, port: int) -> None:
        try:
            listener = listening.listen(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"--probe-port {port}: cannot listen on {host}: {error.strerror}; choose another port, or another "
                "--probe-host"
            ) from None
        self._server = _Server(listener, health, collector)
        self.port: int = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="taskfleet-probes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Also of a server that was not started, as in a process that was forked before."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5.0)
        self._server.server_close()
