"""Shadow answers: what a version on trial would have said, asked for once the user has been answered, shown to nobody.

A mirrored request yields to users and is tried once. Nothing is said of it but its event, which points at the answer
that was shown.
"""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import structlog

from gateway.capture import Capture
from gateway.errors import EngineFailed, EngineTimeout, GatewayError
from gateway.metrics import Metrics
from gateway.recorder import Asked, Recorder
from gateway.replies import Replies
from gateway.routing import Target
from infra.clock import now
from infra.contracts.events import InferenceStatus

log = structlog.get_logger()

PRIORITY = 5  # the engine serves lower ones first: users have 0, training's samples 10
STREAMING = frozenset({"stream", "stream_options"})


@dataclass(frozen=True, slots=True)
class Mirrors:
    """At most `most` are under way in this process; requests beyond that are not mirrored, and counted."""

    replies: Replies
    recorder: Recorder
    metrics: Metrics
    most: int
    under_way: set["asyncio.Task[None]"] = field(default_factory=set)

    def take(self, asked: Asked, shown: Target) -> None:
        """Returns at once. A request of which no content may be kept is not mirrored."""
        if asked.request.store is False:
            return
        for target in self.replies.router.mirrors(shown, asked.unit):
            if len(self.under_way) < self.most:
                self._begin(asked, target)
            else:
                self._count("skipped")

    async def close(self) -> None:
        """Gives up what is under way."""
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)

    def _begin(self, asked: Asked, target: Target) -> None:
        """Counted from now on, so that the version stays loaded."""
        counted = ExitStack()
        counted.enter_context(self.replies.router.counting(target.version))
        task = asyncio.create_task(self._mirror(asked, target))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        task.add_done_callback(lambda _: counted.close())

    async def _mirror(self, shown: Asked, target: Target) -> None:
        asked = replace(
            shown,
            response_id=self.replies.identity.new_response_id(shown.tenant),
            shadow_of=shown.response_id,
            sent={name: value for name, value in shown.sent.items() if name not in STREAMING},
            started_at=now(),
        )
        capture = Capture(asked.request.n or 1)
        try:
            async with self.replies.to(asked, target, tries=1, priority=PRIORITY) as reply:
                capture.take_body(await reply.whole())
        except GatewayError as error:
            await self._fail(asked, target, error)
        else:
            await self.recorder.record(asked, target, capture, InferenceStatus.COMPLETED)
            self._count("completed")

    async def _fail(self, asked: Asked, target: Target, error: GatewayError) -> None:
        """The engine's words may quote the prompt, so only the kind of error is told."""
        log.warning("mirror_failed", version=target.version, reason=type(error).__name__)
        if isinstance(error, EngineFailed | EngineTimeout):
            await self.recorder.record(asked, target, Capture(0), InferenceStatus.FAILED)
        self._count("failed")

    def _count(self, outcome: str) -> None:
        self.metrics.mirrors.labels(outcome).inc()
