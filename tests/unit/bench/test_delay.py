from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from bench.children import PeerProcess
from bench.peer import CHECKOUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll and timerfd are Linux's")

DELAY_US = 5000


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of an echo server for one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)  # it waits for ever when the proxy does not start
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@pytest.fixture
def delayed(echo: int) -> Iterator[socket.socket]:
    command = (sys.executable, "-m", "bench.delay", str(echo), str(DELAY_US))
    with PeerProcess("the proxy", command, {"PYTHONPATH": str(CHECKOUT)}) as proxy:
        port = proxy.expect("ready", 60)["port"]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            yield client


def test_a_round_trip_takes_twice_the_delay_at_least(delayed: socket.socket) -> None:
    began = time.monotonic_ns()
    delayed.sendall(b"ping")
    assert delayed.recv(100) == b"ping"
    assert time.monotonic_ns() - began >= 2 * DELAY_US * 1000


def test_what_is_much_arrives_whole_and_in_order(delayed: socket.socket) -> None:
    sent = b"".join(i.to_bytes(4, "big") for i in range(1_000_000))
    threading.Thread(target=delayed.sendall, args=(sent,), daemon=True).start()
    received = bytearray()
    while len(received) < len(sent):
        received += delayed.recv(1 << 20)
    assert received == sent


def test_a_connection_that_one_end_closes_is_closed_for_the_other(delayed: socket.socket) -> None:
    delayed.shutdown(socket.SHUT_WR)
    assert delayed.recv(100) == b""
