"""How far a chaos run is, read from Redis."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from sinfer.errors import UnavailableError
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.store.partition.account import COUNTS, Account
from tests.chaos.site import Site
from tests.support.accounts import read_account
from tests.support.until import until


class Progress:
    """Watches what became of the messages of all tasks, past the proxies."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.store = Store(site.redis.url)
        self.broker: Redis = Redis.from_url(
            site.redis.url.replace("/0", "/1"),
            retry=Retry(ConstantBackoff(0.1), 5),
            socket_timeout=0.5,
        )

    async def ended(self) -> dict[str, int]:
        """How many messages of each task came to an end; nothing while Redis is unavailable."""
        found: dict[str, int] = {}
        with suppress(RedisError, OSError):
            for task in self._site.tasks:
                counts = await self.store.redis.hmget(PartitionKeys(task.scope).meta, COUNTS[1:])
                found[task.id] = sum(int(count or 0) for count in counts)
        return found

    async def until_ended(self, messages: int) -> None:
        """Wait until so many messages of each task came to an end."""

        async def have() -> bool:
            ended = await self.ended()
            return bool(ended) and min(ended.values()) >= messages

        await until(have, f"{messages} messages of each task to come to their end")

    async def accounts(self) -> dict[str, Account]:
        """The accounts of all tasks; nothing while Redis is unavailable."""
        try:
            return {
                task.id: await read_account(self.store, task.scope) for task in self._site.tasks
            }
        except UnavailableError:
            return {}

    async def all_ended(self, messages: Mapping[str, int]) -> bool:
        """Whether all partitions have read so many messages by task, and nothing is under way."""
        try:
            found = [(s, await read_account(self.store, s)) for s in self._site.scopes]
        except UnavailableError:
            return False
        return all(
            account.fetched >= messages[scope.task]
            and not account.buffered
            and not account.in_flight
            for scope, account in found
        )

    async def aclose(self) -> None:
        await self.store.aclose()
        await self.broker.aclose()
