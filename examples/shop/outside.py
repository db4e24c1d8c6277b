"""The world outside the shop, as it is: a provider of mail, carriers with a limit, and a receiver of webhooks that is
not there at first.

Run it with `uvicorn outside:app --port 8001`; `GET /seen` tells what it got.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException

app = FastAPI()

Key = Annotated[str, Header(alias="Idempotency-Key")]

mails: dict[str, dict[str, Any]] = {}
hooks: dict[str, dict[str, Any]] = {}
attempts: Counter[str] = Counter()
parcels: dict[str, dict[str, Any]] = {}
last_call: dict[str, float] = {}
refused = 0


@app.post("/mail")
async def take_mail(mail: dict[str, Any], idempotency_key: Key) -> None:
    mails[idempotency_key] = mail


@app.post("/hooks")
async def take_hook(event: dict[str, Any], idempotency_key: Key) -> None:
    attempts[idempotency_key] += 1
    if attempts[idempotency_key] <= 2:
        raise HTTPException(503, "the server is being updated")
    hooks[idempotency_key] = event


@app.post("/carriers/{carrier}/parcels")
async def take_parcel(carrier: str, parcel: dict[str, Any], idempotency_key: Key) -> dict[str, str]:
    global refused
    now = time.monotonic()
    if now - last_call.get(carrier, 0) < 0.3:
        refused += 1
        raise HTTPException(429, "too many calls", headers={"Retry-After": "1"})
    last_call[carrier] = now
    parcels[idempotency_key] = {"carrier": carrier, **parcel}
    return {"tracking": f"{carrier}-{parcel['order']:05}"}


@app.get("/seen")
async def seen() -> dict[str, Any]:
    return {
        "mails": list(mails.values()),
        "hooks": list(hooks.values()),
        "hook_attempts": attempts.total(),
        "parcels": list(parcels.values()),
        "parcels_refused": refused,
    }
