"""Which answers make up a conversation, and who has rated them one by one: told from open columns alone."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, select

from feedback.datasets.standing import Cut, before, chunks, superseded
from feedback.judgements.exchange import Turn
from feedback.judgements.turns import TURNS_MOST
from feedback.tables import ChoiceRow, InferenceRow, VoteEventRow, VoteTargetRow
from feedback.votes import Judge
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC, SHADOW, InferenceStatus, Source
from infra.database.engine import Database

RATINGS = ("thumbs", "rating")  # the kinds that are about one answer, and about it alone


@dataclass(frozen=True)
class Conversations:
    """One tenant's, as they stood at a cut."""

    database: Database
    tenant: str
    cut: Cut

    def of(self, session_ids: Iterable[str]) -> Mapping[str, Sequence[Turn]]:
        """Their turns in the order of time; of a conversation that has too many the first ones and one more."""
        rows = list(self._answers(session_ids))
        judges = self._judges(row.response_id for row in rows)
        found = defaultdict[str, list[Turn]](list)
        for row in rows:
            order, judged_by = (row.occurred_at, row.event_id), frozenset(judges.get(row.response_id, ()))
            found[row.session_id].append(Turn(row.response_id, row.alias, order, judged_by))
        return found

    def _answers(self, session_ids: Iterable[str]) -> Iterator[Any]:
        asked = InferenceRow
        order = (asked.occurred_at, asked.event_id)
        place = func.row_number().over(partition_by=asked.session_id, order_by=order).label("place")
        columns = (asked.session_id, asked.response_id, asked.alias, *order)
        mine = (asked.tenant == self.tenant, asked.status == InferenceStatus.COMPLETED, ~_is_shadow())
        for ids in chunks(session_ids):
            where = (*mine, asked.session_id.in_(ids), before(asked, INFERENCE_TOPIC, self.cut))
            numbered = select(*columns, place).where(*where).subquery()
            query = select(numbered).where(numbered.c.place <= TURNS_MOST + 1)
            with self.database.reading() as session:
                yield from session.execute(query.order_by(numbered.c.session_id, numbered.c.place)).all()

    def _judges(self, response_ids: Iterable[str]) -> Mapping[str, set[Judge]]:
        """Whose thumbs or stars each of these answers has now."""
        cast, target = VoteEventRow, VoteTargetRow
        same = and_(target.tenant == cast.tenant, target.vote_id == cast.vote_id)
        standing = (~cast.retracted, cast.erased_at.is_(None), ~superseded(self.cut))
        found = defaultdict[str, set[Judge]](set)
        for ids in chunks(response_ids):
            where = (target.tenant == self.tenant, target.target.in_(ids), cast.kind.in_(RATINGS), *standing)
            query = select(target.target, cast.rater, cast.source).select_from(target).join(cast, same)
            with self.database.reading() as session:
                for response_id, rater, source in session.execute(
                    query.where(*where, before(cast, FEEDBACK_TOPIC, self.cut))
                ):
                    found[response_id].add((rater, source == Source.AI))
        return found


def _is_shadow() -> ColumnElement[bool]:
    """It has the session of the answer that was shown in its place, and is no turn of it."""
    said = ChoiceRow
    same = (said.tenant == InferenceRow.tenant, said.response_id == InferenceRow.response_id)
    return exists().where(*same, said.arm == SHADOW)
