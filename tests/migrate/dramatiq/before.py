# before.py
import json
import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from dramatiq.results.errors import ResultFailure

broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["REDIS_URL"]), result_ttl=3_600_000))
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)

@dramatiq.actor(store_results=True)
def price(item: str) -> int:
    return 100 * len(item)

@dramatiq.actor(store_results=True)
def with_shipping(price: int) -> int:
    return price + 50

@dramatiq.actor(store_results=True, max_retries=3, min_backoff=100, max_backoff=1000)
def charge(order: int) -> str:
    retries = CurrentMessage.get_current_message().options.get("retries", 0)
    if retries == 0:
        raise ConnectionError("the bank does not answer")
    return f"order {order} is paid, at attempt {retries + 1}"

@dramatiq.actor(store_results=True, queue_name="mail", priority=10, time_limit=300_000)
def remind(order: int) -> str:
    return f"reminded the buyer of order {order}"

@dramatiq.actor(store_results=True, max_retries=0, throws=(ValueError,))
def refund(order: int) -> None:
    raise ValueError(f"order {order} was never paid")

def main() -> None:
    paid = charge.send(7)
    reminder = remind.send_with_options(args=(7,), delay=1000)
    refused = refund.send(8)
    one = dramatiq.pipeline([price.message("table"), with_shipping.message()]).run()
    both = dramatiq.group([price.message("lamp"), price.message("table")]).run()
    try:
        refused.get_result(block=True, timeout=60_000)
    except ResultFailure as error:
        refusal = f"{error.orig_exc_type}: {error.orig_exc_msg}"
    results = [message.get_result(block=True, timeout=60_000) for message in (paid, reminder)]
    ends = [one.get_result(block=True, timeout=60_000), *both.get_results(block=True, timeout=60_000)]
    print(json.dumps([*results, refusal, *ends], indent=1))

if __name__ == "__main__":
    main()
