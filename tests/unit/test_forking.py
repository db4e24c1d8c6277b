"""Forked processes: what they share with their parent, and when a process is not forked."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


def output(code: str) -> list[str]:
    """The lines that a clean process prints, which has no thread and no socket."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.splitlines()


def test_a_process_with_a_thread_a_connection_or_a_loop_is_not_forked() -> None:
    assert output(
        """
        import socket, threading, uvloop
        from taskfleet.process import forking
        print(forking.obstacle())
        made = socket.socket()
        print(forking.obstacle())
        made.close()
        made = uvloop.new_event_loop()
        print(forking.obstacle())
        made.close()
        print(forking.obstacle())
        ended = threading.Event()
        threading.Thread(target=ended.wait).start()
        print(forking.obstacle())
        ended.set()
        """
    ) == [
        "",
        "the application has opened a connection, or made an event loop, at its import",
        "the application has opened a connection, or made an event loop, at its import",
        "",
        "the application has started a thread at its import",
    ]


def test_a_forked_child_hears_its_parent_and_tells_its_exit_code() -> None:
    assert output(
        """
        import os, signal, sys, threading, time
        from taskfleet.child_process import ForkedChild, fork
        print("once", end="\\n")  # in the buffer at the fork
        told, tell = os.pipe()
        made = fork((signal.SIGTERM,), lambda: signal.signal(signal.SIGTERM, lambda *_: os._exit(7)))
        if not isinstance(made, ForkedChild):
            drained = threading.Event()
            made.listen(drained.set, lambda: os._exit(3), 5.0)
            same_group = os.getpgrp() == os.getpgid(os.getppid())
            os.write(tell, b"listens")
            drained.wait(600)
            print("drained", same_group, repr(sys.stdin.read()), flush=True)
            os.write(tell, b"drained")
            while True:  # a signal that comes just before the system call of a sleep does not end that sleep
                time.sleep(0.05)
        os.read(told, 7)
        assert made.ended() is None
        made.drain()
        os.read(told, 7)
        os.kill(made.pid, signal.SIGTERM)
        while (code := made.ended()) is None:
            time.sleep(0.05)
        print(code, made.ended())
        """
    ) == ["once", "drained False ''", "7 7"]


def test_a_forked_child_ends_when_its_parent_is_gone_although_it_has_siblings() -> None:
    """A sibling that held the other end of the pipe would keep it open."""
    lines = output(
        """
        import os, sys, time
        from taskfleet.process.supervisor import InForkedProcess, Supervisor
        from taskfleet.parent_process import Parent
        supervisor = Supervisor(lambda n: [], 3, forks=True)
        told, tell = os.pipe()
        supervisor.on_started = lambda: ([os.read(told, 1) for _ in range(3)], os._exit(0))
        try:
            supervisor.run(Parent(), 1.0)
        except InForkedProcess as this:
            print(os.getpid(), flush=True)
            this.parent.listen(lambda: os._exit(0), lambda: os._exit(0), 0.1)
            os.write(tell, b"p")
            time.sleep(600)
        """
    )  # it waits for the pipe of the output, which all of them hold
    assert len(set(lines)) == 3
