"""The probes and metrics of a worker answer on the addresses that a pod has: IPv4, IPv6 or both."""

from __future__ import annotations

import contextlib
import errno
import socket
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from taskfleet import TaskQueue
from taskfleet.errors import ConfigurationError
from taskfleet.process.metrics import WorkerCollector
from taskfleet.process.probes import ProbeServer
from taskfleet.runtime.worker import Worker

IPV4, IPV6 = "127.0.0.1", "[::1]"
FAMILIES = {IPV4: (socket.AF_INET, "127.0.0.1"), IPV6: (socket.AF_INET6, "::1")}


def probe_server(host: str, port: int = 0) -> ProbeServer:
    worker = Worker(TaskQueue("memory://"))
    return ProbeServer(worker.health, WorkerCollector.of(worker), host, port)


def answers(address: str, port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}{path}", timeout=60) as reply:
            return bool(reply.status == 200)
    except urllib.error.URLError:
        return False


@contextlib.contextmanager
def nobody_on(addresses: Collection[str], port: int) -> Iterator[None]:
    """Keep the port of these addresses from other processes, one of which could answer there in place of ours.

    Errors: `BlockingIOError` when another process has it already.
    """
    with contextlib.ExitStack() as stack:
        for address in addresses:
            family, host = FAMILIES[address]
            try:
                stack.enter_context(socket.socket(family)).bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise BlockingIOError from None
                # This machine has not the address, and so nobody on it.
        yield


@contextlib.contextmanager
def serving(host: str, expected: set[str]) -> Iterator[ProbeServer]:
    """A started server of probes on a port that nobody has on the addresses on which it is not expected."""
    while True:
        probes = probe_server(host)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(nobody_on(FAMILIES.keys() - expected, probes.port))
            except BlockingIOError:
                probes._server.server_close()
                continue
            probes.start()
            try:
                yield probes
            finally:
                probes.close()
            return


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("::", {IPV4, IPV6}),
        ("", {IPV4, IPV6}),
        ("0.0.0.0", {IPV4}),
        ("127.0.0.1", {IPV4}),
        ("::1", {IPV6}),
    ],
)
@pytest.mark.parametrize("path", ["/livez", "/metrics"])
def test_probes_and_metrics_answer_on_these_addresses(host: str, expected: set[str], path: str) -> None:
    with serving(host, expected) as probes:
        assert {address for address in FAMILIES if answers(address, probes.port, path)} == expected


def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoIPv6(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **options: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, *args, **options)

    monkeypatch.setattr(socket, "socket", NoIPv6)
    probes = probe_server("::")
    monkeypatch.undo()
    probes.start()
    try:
        assert answers(IPV4, probes.port, "/livez")
    finally:
        probes.close()


@pytest.mark.parametrize("host", ["::", "127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_said(host: str) -> None:
    first = probe_server(host)
    try:
        with pytest.raises(ConfigurationError, match=rf"--probe-port {first.port}: cannot listen on {host}"):
            probe_server(host, first.port)
    finally:
        first._server.server_close()


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "no such host"])
def test_an_address_that_this_machine_has_not_is_said(host: str) -> None:
    with pytest.raises(ConfigurationError, match="choose another port, or another --probe-host"):
        probe_server(host)
