# after.py
import json

from taskfleet import Retry, TaskExecutionError, TaskQueue, chain, current_task, group

queue = TaskQueue.from_config(queues=["default", {"name": "mail", "priority": -10}], result_ttl=3600)

@queue.task
def price(item: str) -> int:
    return 100 * len(item)

@queue.task
def with_shipping(price: int) -> int:
    return price + 50

@queue.task(max_retries=3, retry=Retry.exponential(0.1, max_delay=1))
def charge(order: int) -> str:
    if current_task().attempt == 1:
        raise ConnectionError("the bank does not answer")
    return f"order {order} is paid, at attempt {current_task().attempt}"

@queue.task(queue="mail", timeout=300)
def remind(order: int) -> str:
    return f"reminded the buyer of order {order}"

@queue.task(never_retry=ValueError)
def refund(order: int) -> None:
    raise ValueError(f"order {order} was never paid")

def main() -> None:
    paid = charge.enqueue_sync(7)
    reminder = remind.options(delay=1).enqueue_sync(7)
    refused = refund.enqueue_sync(8)
    one = queue.enqueue_sync(chain(price.message("table"), with_shipping.partial()))
    both = queue.enqueue_sync(group(price.message("lamp"), price.message("table")))
    try:
        refused.result_sync(timeout=60)
    except TaskExecutionError as error:
        refusal = str(error).partition("failed: ")[2]
    results = [handle.result_sync(timeout=60) for handle in (paid, reminder)]
    ends = [one.result_sync(timeout=60), *both.result_sync(timeout=60)]
    print(json.dumps([*results, refusal, *ends], indent=1))

if __name__ == "__main__":
    main()
