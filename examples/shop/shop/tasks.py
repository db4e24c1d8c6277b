"""What a customer need not wait for: mails, webhooks, parcels, and a report every night."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
from taskfleet import Depends, QueueOptions, RateLimit, Retry, RetryLater, TaskQueue, current_task

from shop import orders

OUTSIDE = os.environ.get("OUTSIDE_URL", "http://127.0.0.1:8001")

queue = TaskQueue.from_config(
    queues=[
        QueueOptions("mail"),
        QueueOptions("webhooks", concurrency_per_key=2),  # a slow receiver does not hold up the others
        QueueOptions("carriers", rate_limit_per_key=RateLimit(tasks_per_second=2, burst=1)),
        QueueOptions("reports"),
    ]
)


async def http_client() -> AsyncIterator[httpx.AsyncClient]:
    """One client for each worker, with its connections."""
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


# A task may run twice, when its worker dies after the call and before it could record that. Its id stays the same, so
# that the receiver can leave out the second call.
def idempotent() -> dict[str, str]:
    return {"Idempotency-Key": current_task().id}


@queue.task(queue="mail", max_retries=5, retry=Retry.exponential(1))
async def send_mail(
    to: str, subject: str, text: str, http: httpx.AsyncClient = Depends(http_client, scope="worker")
) -> None:
    """Send a mail by the provider's HTTP API."""
    mail = {"to": to, "subject": subject, "text": text}
    (await http.post(f"{OUTSIDE}/mail", json=mail, headers=idempotent())).raise_for_status()


def host_of(url: str, event: str, number: int) -> str:
    return urlsplit(url).netloc


@queue.task(queue="webhooks", max_retries=8, retry=Retry.exponential(0.5, max_delay=600), limit_key=host_of)
async def send_webhook(
    url: str, event: str, number: int, http: httpx.AsyncClient = Depends(http_client, scope="worker")
) -> int:
    """Tell a customer's server of an event; returns at which attempt it listened."""
    body = {"event": event, "order": number}
    (await http.post(url, json=body, headers=idempotent())).raise_for_status()
    return current_task().attempt


def carrier_of(carrier: str, number: int) -> str:
    return carrier


@queue.task(queue="carriers", max_retries=10, limit_key=carrier_of)
async def book_parcel(carrier: str, number: int, http: httpx.AsyncClient = Depends(http_client, scope="worker")) -> str:
    """Book a parcel by a carrier's API, which takes two calls a second; returns the tracking number."""
    answer = await http.post(f"{OUTSIDE}/carriers/{carrier}/parcels", json={"order": number}, headers=idempotent())
    if answer.status_code == 429:  # other programs call it, too
        raise RetryLater(float(answer.headers["Retry-After"]))
    return str(answer.raise_for_status().json()["tracking"])


# A plain function runs in a thread, where it may wait for a file.
@queue.task(queue="reports")
def report_day() -> str:
    """Mail how many orders there were in the 24 hours before this task was due."""
    end = current_task().enqueued_at
    number, cents = orders.total(end - dt.timedelta(days=1), end)
    text = f"{number} orders, {cents / 100:.2f} €"
    send_mail.enqueue_sync("boss@shop.example", "Yesterday", text)
    return text


async def add_schedules() -> None:
    """Called wherever the shop starts: a schedule that exists already stays as it is."""
    await queue.add_schedule(name="nightly", schedule="0 3 * * *", time_zone="Europe/Berlin", task=report_day)
