"""The shop's web server: an order, and the routes of the queue for those who run the shop."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, HttpUrl, PositiveInt
from taskfleet.integrations.fastapi import router

from shop import orders
from shop.tasks import add_schedules, book_parcel, queue, send_mail, send_webhook

TOKEN = os.environ["SHOP_TOKEN"]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    await add_schedules()
    yield


def check(token: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None:
    if not secrets.compare_digest(token.credentials, TOKEN):
        raise HTTPException(403, "wrong token")


app = FastAPI(lifespan=lifespan)
app.include_router(router(queue, prefix="/tasks", auth=check))


class Order(BaseModel):
    email: str
    cents: PositiveInt
    carrier: str
    webhook: HttpUrl


class Placed(BaseModel):
    """`mail`, `parcel` and `webhook` are the ids of tasks."""

    number: int
    mail: str
    parcel: str
    webhook: str


# FastAPI runs a plain function in a thread, as it waits for a file: hence the calls whose names end in `_sync`.
@app.post("/orders", status_code=201)
def place_order(order: Order) -> Placed:
    number = orders.add(order.cents)
    # If the process dies between these two lines, there is an order without its tasks: docs/how-to/transactions.md.
    mail, parcel, webhook = queue.enqueue_many_sync(
        [
            send_mail.message(order.email, f"Your order {number}", f"Thank you for {order.cents / 100:.2f} €."),
            book_parcel.message(order.carrier, number),
            send_webhook.message(str(order.webhook), "order.placed", number),
        ]
    )
    return Placed(number=number, mail=mail.id, parcel=parcel.id, webhook=webhook.id)
