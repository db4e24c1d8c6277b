"""A proxy that delays all bytes by a fixed time each way, like a network.

`python -m bench.delay PORT MICROSECONDS` says `{"event": "ready", "port": …}` and ends when standard input is closed.

One thread, epoll and a timer of its own: the delay is the same for everything, so all waiting bytes are in one queue,
in the order of arrival, and a chunk costs two system calls. asyncio and uvloop round their timers up to milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import socket
import struct
import sys
import time
from collections import deque

_CLOCK_MONOTONIC = 1
_PR_SET_TIMERSLACK = 29
_CHUNK = 1 << 18


class _Timer:
    """A file descriptor that becomes readable at a time. Python has it from 3.13 on; here the C library's is called."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # the kernel may be late by 50 µs otherwise
        self.fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, nanoseconds: int) -> None:
        """Wake at this moment of the monotonic clock; once."""
        spec = struct.pack("qqqq", 0, 0, nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
        self._libc.timerfd_settime(self.fd, 1, spec, None)

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)


class _End:
    """One end of a connection that we carry."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.other: _End = self
        self.unsent = bytearray()
        self.closed = False


class DelayingProxy:
    """Connections to our port are carried to `target` on 127.0.0.1, `delay` nanoseconds late each way."""

    def __init__(self, target: int, delay: int) -> None:
        self._target = target
        self._delay = delay
        self._ends: dict[int, _End] = {}
        self._late: deque[tuple[int, _End, bytes]] = deque()
        self._timer = _Timer()
        self._poll = select.epoll()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        for fd in (self._listener.fileno(), self._timer.fd, sys.stdin.fileno()):
            self._poll.register(fd, select.EPOLLIN)

    def run(self) -> None:
        """Carry until standard input ends."""
        listener, timer, stdin = self._listener.fileno(), self._timer.fd, sys.stdin.fileno()
        armed = 0
        while True:
            for fd, events in self._poll.poll():
                if fd == timer:
                    self._timer.clear()
                    armed = 0
                elif fd == listener:
                    self._accept()
                elif fd == stdin:
                    return
                elif (end := self._ends.get(fd)) is not None:
                    if events & select.EPOLLOUT:
                        self._send(end, b"")
                    if events & ~select.EPOLLOUT:
                        self._receive(end)
            now = time.monotonic_ns()
            while self._late and self._late[0][0] <= now:
                _, end, data = self._late.popleft()
                self._send(end, data)
            if self._late and self._late[0][0] != armed:
                armed = self._late[0][0]
                self._timer.set(armed)

    def _accept(self) -> None:
        near = _End(self._listener.accept()[0])
        far = _End(socket.create_connection(("127.0.0.1", self._target)))
        near.other, far.other = far, near
        for end in (near, far):
            self._ends[end.sock.fileno()] = end
            self._poll.register(end.sock.fileno(), select.EPOLLIN)

    def _receive(self, end: _End) -> None:
        try:
            data = end.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._late.append((time.monotonic_ns() + self._delay, end.other, data))
        if not data:
            self._poll.unregister(end.sock.fileno())  # the other end is closed when its time has come
            del self._ends[end.sock.fileno()]

    def _send(self, end: _End, data: bytes) -> None:
        if end.closed:
            return
        if not data and not end.unsent:
            self._close(end)
            return
        waiting = bool(end.unsent)
        end.unsent += data
        try:
            sent = end.sock.send(end.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(end)
            return
        del end.unsent[:sent]
        if bool(end.unsent) != waiting and end.sock.fileno() in self._ends:
            self._poll.modify(end.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if end.unsent else 0))

    def _close(self, end: _End) -> None:
        end.closed = True
        if end.sock.fileno() in self._ends:
            del self._ends[end.sock.fileno()]
            self._poll.unregister(end.sock.fileno())
        end.sock.close()
        if end.other.closed or end.other.sock.fileno() not in self._ends:
            end.other.closed = True
            end.other.sock.close()


if __name__ == "__main__":
    proxy = DelayingProxy(int(sys.argv[1]), int(sys.argv[2]) * 1000)
    print(json.dumps({"event": "ready", "port": proxy.port}), flush=True)
    proxy.run()
