"""From the events of a window to the rows of a dataset: the same events and settings, the same rows, in any order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from feedback import pairs
from feedback.archive import Material
from feedback.exchange import Exchange, make_exchange
from feedback.filters import chain
from feedback.join import join
from feedback.rows import JUDGED
from feedback.split import TRAIN, Divided, divide
from infra.settings import FeedbackSettings


@dataclass(frozen=True, slots=True)
class Content:
    """`filtered` counts votes by why they made no row, and test rows that would have leaked."""

    divided: Divided
    filtered: Counter[str]

    @property
    def trainable(self) -> int:
        """Rows that something can learn from."""
        return sum(len(self.divided.get((table, TRAIN), ())) for table in JUDGED)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Table -> split -> rows."""
        found: dict[str, dict[str, int]] = {}
        for (table, split), rows in sorted(self.divided.items()):
            found.setdefault(table.value, {})[split] = len(rows)
        return found


def compose(material: Material, settings: FeedbackSettings, alias: str, as_of: datetime) -> Content:
    exchanges = {event.body.response_id: make_exchange(event) for event in material.answered}
    joined, unjoined = join(material.votes, exchanges, alias)
    kept, dropped = chain.apply(chain.make_chain(settings, as_of), joined)
    usable = [one for one in exchanges.values() if isinstance(one, Exchange) and one.event.body.alias == alias]
    rows = [*pairs.make_rows(kept), *pairs.make_prompts(_allowed(usable, as_of))]
    divided, leaked = divide(rows, settings)
    return Content(divided, material.lost + unjoined + dropped + leaked)


def _allowed(exchanges: Sequence[Exchange], as_of: datetime) -> list[Exchange]:
    """A prompt needs its owner's consent only, for as long as it may be kept."""
    return [
        exchange for exchange in exchanges if exchange.owner.train and exchange.prompt and not _expired(exchange, as_of)
    ]


def _expired(exchange: Exchange, as_of: datetime) -> bool:
    end = exchange.event.envelope.consent.retain_until
    return end is not None and end <= as_of
