"""The bell in Redis: one message on a channel for each new routing table."""

import asyncio

import structlog
from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis

log = structlog.get_logger()

CHANNEL = "thumbwheel.routing"
PATIENCE_S = 1.0  # whoever rings waits no longer than that
RETRY_S = 1.0


class RedisBell:
    """A channel of Redis. Rings are lost while nobody is connected, so a new connection counts as one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = Redis.from_url(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)

    def ring(self) -> None:
        try:
            self._client.publish(CHANNEL, b"")
        except RedisError as error:
            log.warning("bell_unreachable", reason=str(error))

    async def listen(self, heard: asyncio.Event) -> None:
        while True:
            try:
                await self._follow(heard)
            except RedisError as error:
                log.warning("bell_unreachable", reason=str(error))
            await asyncio.sleep(RETRY_S)

    async def _follow(self, heard: asyncio.Event) -> None:
        async with AsyncRedis.from_url(self._url, socket_keepalive=True) as client, client.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            async for _ in channel.listen():
                heard.set()

    def close(self) -> None:
        self._client.close()
