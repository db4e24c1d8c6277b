# before.py
import json
import os
import time
from datetime import timedelta

from redis import Redis
from rq import Queue, Retry, get_current_job
from rq.job import Job

connection = Redis.from_url(os.environ["REDIS_URL"])
default = Queue("default", connection=connection)
mail = Queue("mail", connection=connection)

def price(item: str) -> int:
    return 100 * len(item)

def total(shipping: int) -> int:
    return sum(job.return_value() for job in get_current_job().fetch_dependencies()) + shipping

def charge(order: int) -> str:
    attempt = 4 - get_current_job().retries_left
    if attempt == 1:
        raise ConnectionError("the bank does not answer")
    return f"order {order} is paid, at attempt {attempt}"

def remind(order: int) -> str:
    return f"reminded the buyer of order {order}"

def refund(order: int) -> None:
    raise ValueError(f"order {order} was never paid")

def outcome(job: Job, seconds: float = 60) -> object:
    """RQ has no call that waits for a job."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job.refresh()
        if job.is_finished:
            return job.return_value()
        if job.is_failed and not job.retries_left:
            return job.latest_result().exc_string.strip().splitlines()[-1]
        time.sleep(0.05)
    raise TimeoutError(job.id)

def main() -> None:
    paid = default.enqueue(charge, 7, retry=Retry(max=3, interval=1), result_ttl=3600)
    reminder = mail.enqueue_in(timedelta(seconds=1), remind, 7)
    refused = default.enqueue(refund, 8)
    prices = [default.enqueue(price, "lamp"), default.enqueue(price, "table")]
    both = default.enqueue(total, 50, depends_on=prices)
    print(json.dumps([outcome(paid), outcome(reminder), outcome(refused), outcome(both)], indent=1))

if __name__ == "__main__":
    import before  # RQ cannot send functions of __main__

    before.main()
