# before.py
import json
import os

from celery import Celery, chord

app = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_routes={"remind": {"queue": "mail"}},
    result_expires=3600,
    broker_connection_retry_on_startup=True,
)

@app.task(name="price")
def price(item: str) -> int:
    return 100 * len(item)

@app.task(name="total")
def total(prices: list[int], shipping: int) -> int:
    return sum(prices) + shipping

@app.task(bind=True, name="charge", autoretry_for=(ConnectionError,), max_retries=3, default_retry_delay=1)
def charge(self, order: int) -> str:
    if self.request.retries == 0:
        raise ConnectionError("the bank does not answer")
    return f"order {order} is paid, at attempt {self.request.retries + 1}"

@app.task(name="remind")
def remind(order: int) -> str:
    return f"reminded the buyer of order {order}"

@app.task(name="refund", max_retries=0)
def refund(order: int) -> None:
    raise ValueError(f"order {order} was never paid")

def main() -> None:
    paid = charge.delay(7)
    reminder = remind.apply_async((7,), countdown=1)
    refused = refund.delay(8)
    both = chord([price.s("lamp"), price.s("table")])(total.s(shipping=50))
    try:
        refused.get(timeout=60)
    except ValueError as error:
        refusal = f"{type(error).__name__}: {error}"
    print(json.dumps([paid.get(timeout=60), reminder.get(timeout=60), refusal, both.get(timeout=60)], indent=1))

if __name__ == "__main__":
    main()
