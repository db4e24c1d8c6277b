"""Background work that ends with an error is logged and started again."""

from __future__ import annotations

import asyncio
import logging

import pytest

from taskfleet import supervising
from taskfleet.supervising import supervise


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "backoff_seconds", lambda _failures: 0.0)


async def test_work_that_ends_with_an_error_is_logged_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 20:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    with caplog.at_level(logging.ERROR):
        await supervise("the listener", work)
    assert runs == 20
    # The first, second, fourth … error is logged: a lasting fault does not fill the log.
    assert [record.args[1] for record in caplog.records if isinstance(record.args, tuple)] == [1, 2, 4, 8, 16]
    assert "the listener has ended by an error and is started again" in caplog.text
    assert "invalid start byte" in caplog.text


async def test_work_that_returns_has_ended() -> None:
    async def work() -> int:
        return 5

    await asyncio.wait_for(supervise("it", work), 30)


async def test_a_cancellation_ends_it() -> None:
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(supervise("it", work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
