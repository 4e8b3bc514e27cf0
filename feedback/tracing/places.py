"""Which shards of a dataset may hold rows that are made of one event: told from open columns, before any is read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.cells import Cell, bucket_of
from feedback.datasets.conversations import RATINGS
from feedback.datasets.rows import JUDGED, Table
from feedback.datasets.shards import MARGIN_SUFFIX, shard_path
from feedback.datasets.split import GATE, REPORT, TEST, TRAIN
from feedback.datasets.standing import chunks
from feedback.rights.traces import votes_on
from feedback.tables import InferenceRow, VoteEventRow
from feedback.votes import SESSION
from infra.clock import now

PREFERENCES = (Table.PREFERENCE.value, f"{Table.PREFERENCE}{MARGIN_SUFFIX}")
KINDS = (*(table.value for table in JUDGED), PREFERENCES[1])
RATINGS_MOST = 5000  # of one person: whoever has more may have some on any day


@dataclass(frozen=True)
class Places:
    """Cells of the votes that it is part of, of thumbs that may make a pair with those, and of its prompt."""

    votes: frozenset[Cell]
    paired: frozenset[Cell] = frozenset()
    prompts: frozenset[Cell] = frozenset()

    @property
    def names(self) -> list[str]:
        """Of the shards in a dataset; few of them are there."""
        judged = ((kind, split, cell) for cell in self.votes for kind in KINDS for split in (TRAIN, TEST))
        paired = ((kind, split, cell) for cell in self.paired for kind in PREFERENCES for split in (TRAIN, TEST))
        asked = ((Table.PROMPTS, split, cell) for cell in self.prompts for split in (TRAIN, GATE, REPORT))
        return sorted({shard_path(*one) for some in (judged, paired, asked) for one in some})

    @property
    def end(self) -> datetime:
        """No dataset whose window begins later has any of them."""
        return max(cell.end for cell in (*self.votes, *self.paired, *self.prompts))


def of_vote(session: Session, row: VoteEventRow) -> Places:
    raters = {row.rater} if row.rater and row.kind in RATINGS else set[str]()
    cells = frozenset({Cell.of(row.occurred_at, row.bucket)})
    return Places(cells, frozenset(_ratings(session, row.tenant, raters, row.occurred_at)))


def of_answer(session: Session, row: InferenceRow) -> Places:
    """Its own prompt, and everybody's votes on it or on its conversation."""
    targets = {row.response_id, *([f"{SESSION}{row.session_id}"] if row.session_id else [])}
    votes = list(votes_on(session, row.tenant, targets))
    ratings = [vote for vote in votes if vote.rater and vote.kind in RATINGS]
    since = min((vote.occurred_at for vote in ratings), default=row.occurred_at)
    return Places(
        votes=frozenset(Cell.of(vote.occurred_at, vote.bucket) for vote in votes),
        paired=frozenset(_ratings(session, row.tenant, {vote.rater for vote in ratings}, since)),
        prompts=frozenset({Cell.of(row.occurred_at, row.bucket)}),
    )


def _ratings(session: Session, tenant: str, raters: Iterable[str], since: datetime) -> Iterator[Cell]:
    """Two thumbs of one person make a pair, which lies where the later one does."""
    cast = VoteEventRow
    query = select(cast.occurred_at, cast.bucket).where(
        cast.tenant == tenant, cast.kind.in_(RATINGS), cast.occurred_at >= since
    )
    for names in chunks(raters):
        found = session.execute(query.where(cast.rater.in_(names)).limit(RATINGS_MOST)).all()
        yield from (Cell.of(occurred_at, bucket) for occurred_at, bucket in found)
        if len(found) == RATINGS_MOST:
            yield from _every_day(since, {bucket_of(name) for name in names})


def _every_day(since: datetime, buckets: set[int]) -> Iterator[Cell]:
    for after in range((now() - since).days + 2):
        yield from (Cell.of(since + timedelta(days=after), bucket) for bucket in buckets)
