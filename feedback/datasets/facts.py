"""What decides whether a judgement becomes rows and how much they weigh: numbers and hashes, none of the words.

They are kept beside a dataset, so that the next one opens the bodies of new events only. Hashes are 64 bits of the
hashes that rows carry: among ten million texts two differ in no bit with a probability of three in a million.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from feedback.datasets.arrays import Ints, column
from feedback.datasets.split import PROMPT_SALT, RATER_SALT, fraction
from feedback.judgements.exchange import Exchange
from feedback.judgements.judgement import COMPARISONS, THUMBS, TURN_BYTES, Judgement, Verdict

VERSION = 3  # another way to make facts out of events gets another number: then none of the old are used
EVENT_BYTES = 16
VERDICTS = tuple(Verdict)
NEVER_HELD_OUT = 1.0  # a model's votes are no test: what is held out is people
WORDS = pa.dictionary(pa.int32(), pa.string())
HASHES = pa.list_(pa.uint64())
JUDGEMENTS = pa.schema(
    [
        ("event_id", pa.binary(16)),
        ("turn", pa.uint16()),  # of a conversation that was judged as a whole, from 1; 0 for all else
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("unit", WORDS),
        ("ai", pa.bool_()),  # a model judged
        ("segment", WORDS),
        ("verdict", pa.int8()),
        ("check", pa.int8()),  # 1: a check question, answered right; 0: answered wrong; -1: none
        ("mass", pa.float32()),  # what its rows weigh together before any factor
        ("rater_at", pa.float64()),  # where its rater stands between 0 and 1: see `feedback.datasets.split`
        ("prompt_at", pa.float64()),
        ("prompt", pa.binary(16)),
        ("asked", pa.uint64()),  # the same person, prompt and criterion
        ("stance", pa.uint64()),  # and the same opinion
        ("pairing", pa.uint64()),  # thumbs of the same person on the same prompt; 0 for all else
        ("made_of", pa.uint64()),  # the events that its rows are made of, when they were, and the place of a turn
        ("claims", HASHES),
        ("denials", HASHES),  # what would contradict the claims
        ("digests", HASHES),
        ("items", HASHES),  # the yes-or-no questions that it answers, for the reliability of raters
        ("says", pa.list_(pa.bool_())),
    ]
)
PROMPTS = pa.schema(
    [
        ("event_id", pa.binary(16)),
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("prompt", pa.binary(16)),
        ("prompt_at", pa.float64()),
    ]
)


def judgement_facts(judgements: Sequence[Judgement]) -> pa.Table:
    return _table([_judged(judgement) for judgement in judgements], JUDGEMENTS)


def prompt_facts(exchanges: Iterable[Exchange]) -> pa.Table:
    return _table([_asked(exchange) for exchange in exchanges], PROMPTS)


def digest64(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


def _table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pydict({name: [row[name] for row in rows] for name in schema.names}, schema=schema)


def _judged(judgement: Judgement) -> dict[str, Any]:
    envelope = judgement.vote.envelope
    unit, prompt, claims = judgement.unit, judgement.prompt_id, sorted(judgement.claims)
    items = _items(judgement)
    return {
        "event_id": envelope.event_id.bytes,
        "turn": judgement.place.turn if judgement.place else 0,
        "occurred_at": envelope.occurred_at,
        "unit": unit,
        "ai": judgement.vote.is_ai,
        "segment": envelope.segment or judgement.exchange.event.envelope.segment,
        "verdict": VERDICTS.index(judgement.verdict),
        "check": -1 if judgement.check is None else int(judgement.check),
        "mass": _mass(judgement),
        "rater_at": NEVER_HELD_OUT if judgement.vote.is_ai else fraction(RATER_SALT, unit),
        "prompt_at": fraction(PROMPT_SALT, prompt),
        "prompt": bytes.fromhex(prompt),
        "asked": digest64(*judgement.asked),
        "stance": digest64(*judgement.stance),
        "pairing": digest64(unit, prompt) if judgement.is_paired else 0,
        "made_of": _made_of(judgement),
        "claims": [digest64(better, worse) for better, worse in claims],
        "denials": [digest64(worse, better) for better, worse in claims],
        "digests": sorted(_short(digest) for digest in judgement.texts),
        "items": [item for item, _ in items],
        "says": [yes for _, yes in items],
    }


def _asked(exchange: Exchange) -> dict[str, Any]:
    envelope = exchange.event.envelope
    return {
        "event_id": envelope.event_id.bytes,
        "occurred_at": envelope.occurred_at,
        "prompt": bytes.fromhex(exchange.prompt_id),
        "prompt_at": fraction(PROMPT_SALT, exchange.prompt_id),
    }


def _items(judgement: Judgement) -> list[tuple[int, bool]]:
    """Each question with the answer yes or no, so put that everybody's answers can be compared."""
    prompt, place = judgement.prompt_id, judgement.place
    if place and place.turn < place.turns:
        return []  # one question for the whole, which is the last turn's prompt and answer
    if judgement.check is not None and not judgement.is_of_planted:
        return []
    if judgement.verdict in THUMBS:
        asked = "good conversation" if place else "good"
        return [(digest64(asked, prompt, judgement.answers[0].digest), judgement.verdict is Verdict.GOOD)]
    if judgement.verdict not in COMPARISONS:
        return []
    return [_item(prompt, better.digest, worse.digest) for better, worse in judgement.strict]


def _item(prompt: str, better: str, worse: str) -> tuple[int, bool]:
    first, second = sorted((better, worse))
    return digest64("better", prompt, first, second), better == first


def _mass(judgement: Judgement) -> float:
    """A verdict on a conversation weighs as much as one on an answer, however many turns it has."""
    if judgement.place:
        return 1 / judgement.place.turns
    return max(1.0, 2 / len(judgement.answers) * len(judgement.strict))


def _made_of(judgement: Judgement) -> int:
    """An event that comes again from an earlier moment, under the same id, may say something else."""
    orders = (judgement.vote.order, *(exchange.event.order for exchange in judgement.exchanges))
    place = [f"{judgement.place.turn} of {judgement.place.turns}"] if judgement.place else []
    return digest64(*(f"{event} {moment.isoformat()}" for moment, event in orders), *place)


def _short(digest: str) -> int:
    return int(digest[:16], 16)


def event_id(value: bytes) -> str:
    """Of a judgement's key, or of an event's id in bytes."""
    return UUID(bytes=value[:EVENT_BYTES]).hex


def keys(judged: pa.Table, places: Ints) -> pa.Array:
    """As `Judgement.key` has them."""
    events = judged["event_id"].take(pa.array(places)).combine_chunks().cast(pa.binary())
    turn_N = column(judged, "turn")[places]
    if not turn_N.any():
        return events
    turns = [turn.to_bytes(TURN_BYTES, "big") if turn else b"" for turn in range(int(turn_N.max()) + 1)]
    return pc.binary_join_element_wise(events, pa.array(turns, pa.binary()).take(pa.array(turn_N)), b"")
