# after.py
import json

from taskfleet import Retry, TaskExecutionError, TaskQueue, chord, current_task

queue = TaskQueue.from_config(result_ttl=3600)

@queue.task
def price(item: str) -> int:
    return 100 * len(item)

@queue.task
def total(prices: list[int], shipping: int) -> int:
    return sum(prices) + shipping

@queue.task(max_retries=3, retry=Retry.fixed(1))
def charge(order: int) -> str:
    if current_task().attempt == 1:
        raise ConnectionError("the bank does not answer")
    return f"order {order} is paid, at attempt {current_task().attempt}"

@queue.task
def remind(order: int) -> str:
    return f"reminded the buyer of order {order}"

@queue.task(max_retries=0)
def refund(order: int) -> None:
    raise ValueError(f"order {order} was never paid")

def main() -> None:
    paid = charge.enqueue_sync(7)
    reminder = remind.options(delay=1).enqueue_sync(7)
    refused = refund.enqueue_sync(8)
    both = queue.enqueue_sync(chord([price.message("lamp"), price.message("table")], total.partial(shipping=50)))
    try:
        refused.result_sync(timeout=60)
    except TaskExecutionError as error:
        refusal = str(error).partition("ValueError: ")[2]
    results = [paid.result_sync(timeout=60), reminder.result_sync(timeout=60), refusal, both.result_sync(timeout=60)]
    print(json.dumps(results, indent=1))

if __name__ == "__main__":
    main()
