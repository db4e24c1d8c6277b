"""An application with one task that takes values of many types, for the command's `--args`."""

from __future__ import annotations

import datetime as dt
import enum
import pathlib
import uuid
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from taskfleet import TaskQueue

queue = TaskQueue()


class Colour(enum.IntEnum):
    RED = 1


class Order(BaseModel):
    n: int = Field(7, alias="orderId")
    password: SecretStr | None = None


async def described(
    order: Order,
    when: dt.datetime,
    day: dt.date | str,
    price: Decimal,
    key: uuid.UUID | str,
    colours: dict[Colour, int],
    years: dict[int, str],
    pair: tuple[int, str],
    tags: set[str],
    path: pathlib.Path,
    code: bytes,
    shout: Annotated[str, AfterValidator(lambda text: text + "!")],
    anything: Any,
    pause: dt.timedelta = dt.timedelta(),
) -> dict[str, str]:
    """The `repr` of each argument; the time in a format that no library changes, the password in plain text."""
    given = dict(locals())
    secret = order.password.get_secret_value() if order.password is not None else ""
    return {name: repr(value) for name, value in given.items()} | {
        "order": f"{order.n} {secret}",
        "when": when.isoformat(),
    }


queue.task(described)
