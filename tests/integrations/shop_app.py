"""A small application: its OpenAPI document is `openapi.json`, and a real server serves it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

from taskfleet import BatchItem, Depends, Task, TaskQueue
from taskfleet.integrations.fastapi import router

queue = TaskQueue.from_config()


class Address(BaseModel):
    street: str
    city: str
    country: Literal["de", "fr"] = "de"


class ShipOrder(Task):
    """Hand an order to the carrier."""

    number: int = Field(gt=0)
    to: Address
    express: bool = False

    async def execute(self) -> str:
        return f"{self.number} to {self.to.city}"


@queue.task
async def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


def tariff() -> Decimal:
    return Decimal("1.19")


@queue.task(name="shop.billing/charge", queue="high_priority")
async def charge(
    amount: Annotated[Decimal, Field(gt=0)],
    due: datetime | None = None,
    *,
    notes: tuple[str, ...] = (),
    factor: Annotated[Decimal, Depends(tariff)],
) -> Decimal:
    return amount * factor


def stock_item(sku: str, count: int = 1) -> int: ...  # type: ignore[empty-body]


@queue.batch_task(item=stock_item, size=50)
async def count_stock(items: list[BatchItem]) -> list[int]:
    """Add up deliveries."""
    return [len(items)] * len(items)


app = FastAPI(title="Shop", version="1.0")
app.include_router(router(queue, prefix="/tasks", tasks=[double, charge, count_stock, ShipOrder]))
