# after.py
import asyncio
import json

from taskfleet import Depends, RetryLater, TaskExecutionError, TaskQueue, current_task

queue = TaskQueue.from_config(result_ttl=3600)

async def get_bank() -> str:
    return "the test bank"

@queue.task
async def price(item: str) -> int:
    return 100 * len(item)

@queue.task(max_retries=3, timeout=300)
async def charge(order: int, bank: str = Depends(get_bank)) -> str:
    if current_task().attempt == 1:
        raise RetryLater(1)
    return f"order {order} is paid, at attempt {current_task().attempt} by {bank}"

@queue.task
async def remind(order: int) -> str:
    return f"reminded the buyer of order {order}"

@queue.task(max_retries=0)
async def refund(order: int) -> None:
    raise ValueError(f"order {order} was never paid")

async def main() -> None:
    async with queue:
        paid = await charge.enqueue(7)
        reminder = await remind.options(delay=1).enqueue(7)
        once = await queue.enqueue_many([remind.options(unique_key="remind-9").message(9) for _ in range(2)])
        refused = await refund.enqueue(8)
        prices = await queue.enqueue_many([price.message(item) for item in ("lamp", "table")])
        both = sum([await handle.result(timeout=60) for handle in prices]) + 50
        try:
            await refused.result(timeout=60)
        except TaskExecutionError as error:
            refusal = str(error).partition("failed: ")[2]
        results = [await paid.result(timeout=60), await reminder.result(timeout=60), refusal, both]
        print(json.dumps([*results, await once[0].result(timeout=60), len({task.id for task in once})], indent=1))

if __name__ == "__main__":
    asyncio.run(main())
