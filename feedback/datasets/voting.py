"""How often answers are voted on: whoever reads a vote rate must know of how many answers nobody said anything."""

from collections.abc import Iterable, Iterator

from feedback.judgements.exchange import Exchange
from feedback.judgements.judgement import THUMBS, Judgement


def rateable_versions(exchanges: Iterable[Exchange], alias: str) -> Iterator[str]:
    """Who wrote each answer of this alias whose rating was offered."""
    for exchange in exchanges:
        if exchange.event.body.alias == alias and _is_offered(exchange):
            yield from (answer.version for answer in exchange.answers.values())


def voted_versions(judgements: Iterable[Judgement]) -> Iterator[str]:
    """Who wrote the answer of each person's thumb or star, up or down, whether it may become a row or not."""
    for judgement in judgements:
        alone = judgement.place is None and not judgement.vote.is_ai
        if judgement.verdict in THUMBS and alone and _is_offered(judgement.exchange):
            yield judgement.answers[0].version


def _is_offered(exchange: Exchange) -> bool:
    body = exchange.event.body
    return body.rateable and body.check is None
