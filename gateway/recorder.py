"""Writes one event per answer into the spool, before the client can have seen the end of it."""

import asyncio
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from gateway.capture import Capture
from gateway.chat_request import ChatRequest, content, resolved_sampling, turn
from gateway.metrics import Metrics
from gateway.routing import Target
from infra.base_model import generation_defaults, template_hash
from infra.clock import now
from infra.contracts.events import INFERENCE_TOPIC, Consent, Inference, InferenceStatus
from infra.envelopes import Header, Sealer
from infra.spool import Entry, Spool, SpoolFull

log = structlog.get_logger()

INLINE_BYTES = 64 * 1024  # sealing more than this would hold up other answers


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the served model's directory says that its engine applies without being asked."""

    template_hash: str = ""
    sampling_defaults: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, directory: str) -> "ModelFacts":
        """Nothing is known where this gateway does not see the model's directory."""
        if not directory:
            return cls()
        path = Path(directory)
        return cls(template_hash(path), generation_defaults(path))


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as the gateway took it. `rater` is the hashed end user."""

    response_id: str
    tenant: str
    rater: str | None
    request: ChatRequest
    sent: Mapping[str, Any]
    bytes: int
    started_at: datetime
    shadow_of: str | None = None

    @property
    def may_be_paired(self) -> bool:
        """Two answers are asked for that have nothing to do with each other, as the beams of one search have."""
        return self.request.n == 2 and not self.sent.get("use_beam_search")

    @property
    def unit(self) -> str:
        """What a version sticks to: the person, else the session, else nothing but this request."""
        return self.rater or self.request.about.session_id or self.response_id


class Recorder:
    """Seals and spools. A full spool costs the event, counted and alarmed, never the answer."""

    def __init__(
        self, spool: Spool, sealer: Sealer, facts: ModelFacts, *, consent_default: bool, metrics: Metrics
    ) -> None:
        self._spool, self._sealer, self._facts = spool, sealer, facts
        self._consent_default, self._metrics = consent_default, metrics

    async def record(self, asked: Asked, target: Target, capture: Capture, status: InferenceStatus) -> None:
        """Returns when the event would survive a kill of this process."""
        event = self._event(asked, target, capture, status)
        header = self._header(asked)
        if asked.shadow_of is None:
            self._metrics.answers.labels(status.value).inc()
        if asked.bytes < INLINE_BYTES and self._sealer.is_quick(header):
            self._write(event, header)
        else:
            await asyncio.shield(asyncio.to_thread(self._write, event, header))  # whoever leaves now was answered

    def _write(self, event: Inference, header: Header) -> None:
        try:
            envelope = self._sealer.wrap(event, header)
            self._spool.append(Entry(INFERENCE_TOPIC, event.response_id, envelope.model_dump_json().encode()))
        except (SpoolFull, OSError, sqlite3.Error) as error:
            self._metrics.events_lost.inc()
            log.error("inference_event_lost", reason=str(error))

    def _header(self, asked: Asked) -> Header:
        about, unsaid = asked.request.about, asked.request.about.consent_train is None
        train = self._consent_default if unsaid else about.consent_train == "true"
        nothing_kept = asked.request.store is False
        return Header(
            tenant=asked.tenant,
            rater=asked.rater,
            session_id=about.session_id,
            segment=about.segment,
            consent=Consent(train=train and not nothing_kept, explicit=nothing_kept or not unsaid),
        )

    def _sampling(self, sent: Mapping[str, Any], stored: bool) -> dict[str, Any]:
        """Without content only the numbers: stop words and grammars may quote the prompt."""
        sampling = resolved_sampling(sent, self._facts.sampling_defaults or {})
        return sampling if stored else {k: v for k, v in sampling.items() if isinstance(v, int | float)}

    def _event(self, asked: Asked, target: Target, capture: Capture, status: InferenceStatus) -> Inference:
        request, about = asked.request, asked.request.about
        stored = request.store is not False
        return Inference(
            response_id=asked.response_id,
            status=status,
            alias=target.alias,
            base_revision=target.base_revision,
            template_hash=self._facts.template_hash,
            stored=stored,
            request=content(asked.sent) if stored else {},
            sampling=self._sampling(asked.sent, stored),
            prompt_token_ids=capture.prompt_token_ids if stored else [],
            choices=capture.choices(target, stored=stored),
            usage=capture.usage,
            started_at=asked.started_at,
            ended_at=now(),
            turn=turn(asked.sent),
            parent_response_id=about.parent_response_id,
            regenerated_from=about.regenerated_from,
            rateable=about.rateable == "true" and asked.shadow_of is None,
            routing_revision=target.revision,
            rollout_id=target.rollout_id,
            rollout_step=target.rollout_step,
            shadow_of=asked.shadow_of,
        )
