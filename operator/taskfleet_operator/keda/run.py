"""`taskfleet keda-scaler`: the external scaler as a process."""

from __future__ import annotations

import asyncio

from taskfleet import brokers, config, showing
from taskfleet.errors import ConfigurationError
from taskfleet.process import requests
from taskfleet.redis.broker import RedisBroker

from .recommendations import Recommendations
from .server import Certificates, ScalerServer

logger = showing.logger("taskfleet.keda")


def run(address: str, certificates: Certificates | None, redis_url: str | None) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code. The Redis is that of the settings, or `redis_url`."""
    asyncio.run(_serve(address, certificates, redis_url))
    return 0


async def _serve(address: str, certificates: Certificates | None, redis_url: str | None) -> None:
    redis = config.load().redis

    def connect(prefix: str) -> RedisBroker:
        named = redis.model_copy(update={"key_prefix": prefix})
        broker = brokers.broker_at(redis_url, named, stored_limit_bytes=0)
        if not isinstance(broker, RedisBroker):
            raise ConfigurationError("keda-scaler needs a Redis: its queues are those of other processes")
        return broker

    await connect(redis.key_prefix).close()  # a URL that cannot be read ends the command at once
    stop = asyncio.Event()
    asked = requests.Requests(stop.set, stop.set)
    for number in requests.signals():
        asyncio.get_running_loop().add_signal_handler(number, asked.heard, number)
    recommendations = Recommendations(connect)
    server = ScalerServer(recommendations, address, certificates)
    logger.info("answering KEDA on %s%s", address, "" if certificates else ", without TLS")
    try:
        await server.serve(stop)
    finally:
        await recommendations.close()
