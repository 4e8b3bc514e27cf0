"""Makes a regression case of a live answer: finds what was asked, and seals it anew for whoever asked.

The rule is that of a dataset's prompts: their owner's consent to training, for as long as they may be kept, with the
same things taken out of the text. What can't become a case leaves nothing behind but the reason.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from feedback.datasets.archive import UNREADABLE, envelope_of
from feedback.datasets.redaction import Redactor
from feedback.errors import NoCase
from feedback.judgements.exchange import Exchange, make_exchange
from feedback.tables import InferenceRow
from feedback.votes import Answered
from infra.cases import KINDS, Case, open_checks
from infra.clock import now
from infra.contracts.events import INFERENCE_TOPIC, Inference
from infra.database.engine import Database
from infra.database.tables import CaseRow
from infra.envelopes import Sealer
from infra.eventlog.base import Position
from infra.keystore.base import KeyringAway
from infra.registry import cases
from infra.registry.cases import Source
from infra.sealing import KeyDestroyed

log = structlog.get_logger()
KEPT = timedelta(hours=1)  # how long it can be read why one was refused
AWAY = (SQLAlchemyError, OSError, KeyringAway)  # may pass: the next turn tries again
OWN_WORDS = "write the case in your own words into trainer.regression_file"
WHY = {
    "erased": f"whoever asked was erased: {OWN_WORDS}",
    "expired": f"it was to be kept until a day that has passed: {OWN_WORDS}",
    "unreadable": "its body cannot be opened with this keyring",
    "not_stored": f"it was asked with store: false, so that nothing of it was kept: {OWN_WORDS}",
    "unfinished": "it failed or was cancelled: name an answer that was completed",
    "unsupported_content": "its conversation holds something that is not text: name another answer",
    "no_consent": "whoever asked has not allowed training (gateway.consent_default, metadata.consent_train):"
    f" {OWN_WORDS}",
    "planted": f"it is a check question that an operator planted: {OWN_WORDS}",
}


@dataclass(frozen=True)
class CaseMaker:
    """Any process may work: each wish is decided in one transaction that holds its row."""

    database: Database
    sealer: Sealer
    redactor: Redactor | None

    def turn(self) -> int:
        """Returns how many were decided."""
        with self.database.reading() as session:
            wishes, old = cases.requested(session), cases.any_refused_before(session, now() - KEPT)
        if old:
            with self.database.transaction() as session:
                cases.forget_refused(session, now() - KEPT)
        return sum(self._decide(row) for row in wishes)

    def _decide(self, wish: CaseRow) -> bool:
        try:
            with self.database.transaction() as session:
                row = cases.claim(session, wish.tenant, wish.name, wish.case_id)
                if row is not None:
                    self._settle(session, row)
        except AWAY as error:
            log.warning("case_postponed", case=wish.name, reason=type(error).__name__)
            return False
        return row is not None

    def _settle(self, session: Session, row: CaseRow) -> None:
        """The answer's row stays locked: an erasure of its person comes before, and is seen, or blanks the case."""
        answer = session.get(InferenceRow, (row.tenant, row.response_id), with_for_update=True)
        try:
            cases.keep(session, row, self._source(row, answer))
        except NoCase as error:
            cases.refuse(session, row, str(error))

    def _source(self, row: CaseRow, answer: InferenceRow | None) -> Source:
        """Raises NoCase."""
        if answer is None:
            raise NoCase(
                f"no answer {row.response_id} is stored: it has not come yet, never came, or is older than"
                " feedback.keep_days"
            )
        exchange = self._exchange(answer)
        case = self._case(row, exchange)
        key_id, sealed = self.sealer.seal(case, row.tenant, answer.rater, context=UUID(row.case_id))
        if key_id != answer.key_id:  # the key that the answer was opened with a moment ago is gone
            raise NoCase(WHY["erased"])
        return Source(answer.alias, answer.rater, answer.occurred_at, answer.retain_until, key_id, sealed)

    def _case(self, row: CaseRow, exchange: Exchange) -> Case:
        try:
            checks = open_checks(self.sealer, row)
        except UNREADABLE:
            raise NoCase(WHY["unreadable"]) from None
        wanted = {kind: getattr(checks, kind) for kind in KINDS}
        return Case(name=row.name, messages=list(exchange.prompt), tools=list(exchange.tools), **wanted)

    def _exchange(self, answer: InferenceRow) -> Exchange:
        """What was asked, if it may be asked again; raises NoCase."""
        if answer.erased_at is not None:
            raise NoCase(WHY["erased" if answer.erasure_id else "expired"])
        if answer.retain_until is not None and answer.retain_until <= now():
            raise NoCase(WHY["expired"])
        body = self._opened(answer)
        if body.shadow_of is not None:
            raise NoCase(f"nobody was shown it: name {body.shadow_of}, which was shown")
        if body.check is not None:
            raise NoCase(WHY["planted"])
        at = Position(INFERENCE_TOPIC, answer.log_partition, answer.log_offset)
        found = make_exchange(Answered(envelope_of(answer), body, at))
        if not isinstance(found, Exchange):
            raise NoCase(WHY[found.reason])
        if not found.owner.train:
            raise NoCase(WHY["no_consent"])
        return found

    def _opened(self, answer: InferenceRow) -> Inference:
        try:
            body = self.sealer.open(envelope_of(answer), Inference)
        except KeyDestroyed:
            raise NoCase(WHY["erased"]) from None
        except UNREADABLE:
            raise NoCase(WHY["unreadable"]) from None
        return self.redactor.inference(body)[0] if self.redactor else body
