"""After the tour: tests of an application, in memory, with time that passes when the test says so.

The fixtures come with Taskfleet, as a pytest plugin; no Redis has to run.
"""

from __future__ import annotations

from taskfleet import Retry, TaskQueue
from taskfleet.testing import InlineWorker

DAY = 86_400


async def test_sign_up(taskfleet_queue: TaskQueue, taskfleet_worker: InlineWorker) -> None:
    # The application: in your tests it is imported, and `taskfleet_in_memory(shop.queue)` keeps its queue in memory.
    outbox: list[str] = []

    @taskfleet_queue.task(max_retries=3, retry=Retry.fixed(600))
    async def send_mail(to: str, subject: str) -> None:
        if to.endswith(".invalid"):
            raise ConnectionError("no such host")
        outbox.append(f"{to}: {subject}")

    async def sign_up(email: str) -> None:
        await send_mail.enqueue(email, subject="Welcome")
        await send_mail.options(delay=DAY).enqueue(email, subject="How do you like it?")

    # Nothing runs by itself: first look at the tasks that were sent.
    await sign_up("a@b.c")
    first, second = taskfleet_worker.enqueued("send_mail")
    assert first.kwargs == {"subject": "Welcome"}
    assert second.args == ["a@b.c"]

    # Then run the ready tasks, and let a day pass without waiting for it.
    assert await taskfleet_worker.run_until_idle() == 1
    assert outbox == ["a@b.c: Welcome"]
    taskfleet_worker.advance(DAY)
    assert await taskfleet_worker.run_until_idle() == 1
    assert outbox[1:] == ["a@b.c: How do you like it?"]

    # Retries take no time either.
    lost = await send_mail.enqueue("a@b.invalid", "Hi")
    await taskfleet_worker.run_until_idle(through_delays=True)
    assert await lost.status() == "failed"
