"""Asks the replicas that have a version, one after another, until one of them begins to answer."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import ClientResponse

from gateway.chat_request import engine_body
from gateway.errors import EngineAway
from gateway.recorder import Asked
from gateway.routing import Router, Target
from gateway.upstream import Engines, Events, UnknownVersion, whole
from infra.contracts.routing import Replica
from infra.identity import Identity

Json = dict[str, Any]
TRIES = 2  # connections per answer: another replica's, or the only one's again


class Reply(Protocol):
    """An answer whose head has come. Both raise EngineFailed or EngineTimeout."""

    async def whole(self) -> Json:
        """The body of an answer that is not streamed."""

    def pieces(self) -> AsyncIterator[Iterable[Json | None]]:
        """What has arrived together at once, and None where the engine says that this was all."""


@dataclass(frozen=True, slots=True)
class OneReply:
    replica: Replica
    response: ClientResponse

    async def whole(self) -> Json:
        return await whole(self.response, self.replica)

    def pieces(self) -> Events:
        return Events(self.response, self.replica)


@dataclass(frozen=True, slots=True)
class Replies:
    router: Router
    engines: Engines
    identity: Identity

    @asynccontextmanager
    async def to(
        self, asked: Asked, target: Target, *, name: str | None = None, tries: int = TRIES, **own: Any
    ) -> AsyncIterator[Reply]:
        """`own` is what the gateway alone says to the engine, which knows the request by `name`.

        Raises UnknownVersion where no replica has the version, EngineAway where none can be reached.
        """
        away, known_as, has_begun = EngineAway("no engine is ready"), name or asked.response_id, False
        replicas = self.router.replicas(target.version)
        for replica in (replicas * tries)[:tries]:
            body = {**self._body(asked, replica, target), **own}
            try:
                with self.router.occupying(replica):
                    async with await self.engines.ask(replica, body, known_as) as response:
                        has_begun = True
                        yield OneReply(replica, response)
                        return
            except EngineAway as error:
                if has_begun:
                    raise
                away = error
        if not replicas and self.router.has_ready_replica:
            raise UnknownVersion(f"no engine has {target.version}")
        raise away

    def _body(self, asked: Asked, replica: Replica, target: Target) -> Json:
        return engine_body(
            asked.sent, model=replica.name_of(target.version), cache_salt=self.identity.cache_salt(asked.tenant)
        )
