# before.py
import asyncio
import json
import os

from arq import Retry, create_pool
from arq.connections import RedisSettings

settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])

async def price(ctx: dict, item: str) -> int:
    return 100 * len(item)

async def charge(ctx: dict, order: int) -> str:
    if ctx["job_try"] == 1:
        raise Retry(defer=1)
    return f"order {order} is paid, at attempt {ctx['job_try']} by {ctx['bank']}"

async def remind(ctx: dict, order: int) -> str:
    return f"reminded the buyer of order {order}"

async def refund(ctx: dict, order: int) -> None:
    raise ValueError(f"order {order} was never paid")

async def startup(ctx: dict) -> None:
    ctx["bank"] = "the test bank"

class WorkerSettings:
    functions = [price, charge, remind, refund]
    on_startup = startup
    redis_settings = settings
    max_jobs = 10
    job_timeout = 300
    max_tries = 4
    keep_result = 3600

async def main() -> None:
    redis = await create_pool(settings)
    paid = await redis.enqueue_job("charge", 7)
    reminder = await redis.enqueue_job("remind", 7, _defer_by=1)
    once = [await redis.enqueue_job("remind", 9, _job_id="remind-9") for _ in range(2)]
    refused = await redis.enqueue_job("refund", 8)
    prices = [await redis.enqueue_job("price", item) for item in ("lamp", "table")]
    both = sum([await job.result(timeout=60) for job in prices]) + 50
    try:
        await refused.result(timeout=60)
    except ValueError as error:
        refusal = f"{type(error).__name__}: {error}"
    results = [await paid.result(timeout=60), await reminder.result(timeout=60), refusal, both]
    print(json.dumps([*results, await once[0].result(timeout=60), len(once) - once.count(None)], indent=1))
    await redis.aclose()

if __name__ == "__main__":
    asyncio.run(main())
