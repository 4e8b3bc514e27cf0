"""Judgements into rows, in TRL's conversational formats. One row is one rater's judgement."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from feedback.cells import Cell, bucket_of
from feedback.datasets.rows import SIDES, Row, Table
from feedback.datasets.split import rater_group
from feedback.judgements import conversation
from feedback.judgements.conversation import Message
from feedback.judgements.exchange import Answer, Exchange
from feedback.judgements.judgement import Judgement, Verdict

CORRECTION = "correction"  # `source` of rows whose better side a person wrote
Side = Answer | Message  # a person's own text has no ref, version or log-probability


def make_rows(judgements: Sequence[Judgement]) -> list[Row]:
    """Every row of the judged tables, in a fixed order."""
    rows = [row for judgement in judgements for row in own_rows(judgement)]
    return sorted([*rows, *paired_rows(judgements)], key=lambda row: (row.table, row.row_id))


def own_rows(judgement: Judgement) -> list[Row]:
    """Those that a judgement makes by itself."""
    answers = judgement.answers
    match judgement.verdict:
        case Verdict.ORDERED:
            weight = 2 / len(answers)  # k answers give k(k-1)/2 rows, but say no more than k-1 comparisons do
            return [_row(Table.PREFERENCE, [judgement], pair, weight) for pair in judgement.strict]
        case Verdict.TIE:
            return _ties(judgement, "tie")
        case Verdict.BOTH_BAD:
            bad = [_row(Table.UNPAIRED, [judgement], [answer], label=False) for answer in answers]
            return [*_ties(judgement, "both_bad"), *bad]
        case Verdict.GOOD | Verdict.BAD:
            return [_row(Table.UNPAIRED, [judgement], answers, label=judgement.verdict is Verdict.GOOD)]
        case Verdict.CORRECTED:
            return _correction(judgement)
    return []


def paired_rows(judgements: Iterable[Judgement]) -> list[Row]:
    """Preferences that two thumbs or stars make together."""
    return [row for one in _same_rater_and_prompt(judgements) for row in _paired_thumbs(one)]


def make_prompts(exchanges: Iterable[Exchange]) -> list[Row]:
    """One row per canonical prompt: its first appearance."""
    first: dict[str, Exchange] = {}
    for exchange in sorted(exchanges, key=lambda exchange: exchange.event.order):
        first.setdefault(exchange.prompt_id, exchange)
    return [_prompt_row(exchange) for _, exchange in sorted(first.items())]


def _ties(judgement: Judgement, kind: str) -> list[Row]:
    """A ranking may tie any number; a comparison two."""
    answers, weight = judgement.answers, 2 / len(judgement.answers)
    pairs = [(a, b) for at, a in enumerate(answers) for b in answers[at + 1 :] if a.digest != b.digest]
    return [_row(Table.TIES, [judgement], pair, weight, kind=kind) for pair in pairs]


def _correction(judgement: Judgement) -> list[Row]:
    """A demonstration, and the correction before the answer where they differ."""
    answer, better = judgement.answers[0], judgement.correction
    if better is None:
        return []
    rows = [_row(Table.DEMONSTRATIONS, [judgement], [better], source=CORRECTION)]
    if conversation.answer_hash(better) != answer.digest:
        rows.append(_row(Table.PREFERENCE, [judgement], [better, answer], source=CORRECTION))
    return rows


def _same_rater_and_prompt(judgements: Iterable[Judgement]) -> list[list[Judgement]]:
    """Thumbs and stars of one named person on answers to one prompt."""
    groups: dict[tuple[str, str], list[Judgement]] = defaultdict(list)
    for judgement in sorted(judgements, key=lambda judgement: judgement.vote.order):
        if judgement.is_paired:
            groups[judgement.unit, judgement.prompt_id].append(judgement)
    return list(groups.values())


def _paired_thumbs(judgements: Sequence[Judgement]) -> list[Row]:
    """Good before bad. However many pairs they make, they weigh no more than the rarer of the two."""
    good = {j.answers[0].digest: j for j in reversed(judgements) if j.verdict is Verdict.GOOD}
    bad = {j.answers[0].digest: j for j in reversed(judgements) if j.verdict is Verdict.BAD}
    return [
        _row(Table.PREFERENCE, [up, down], [up.answers[0], down.answers[0]], 1 / max(len(good), len(bad)))
        for up in good.values()
        for down in bad.values()
    ]


def _row(
    table: Table, judgements: Sequence[Judgement], sides: Sequence[Side], weight: float = 1.0, *,
    source: str | None = None, **extra: Any,
) -> Row:  # fmt: skip
    """`judgements` are one, or the two thumbs that make a pair: then nothing was shown first or timed."""
    last = max(judgements, key=lambda judgement: judgement.vote.order)
    events = sorted({event for judgement in judgements for event in _events(judgement)})
    names = SIDES[table]
    refs = [side.ref if isinstance(side, Answer) else CORRECTION for side in sides]
    row_id = _identify(table, *sorted(judgement.event_id for judgement in judgements), *refs)
    messages = [side.message if isinstance(side, Answer) else side for side in sides]
    values = {
        **_asked(last.exchange),
        **{name: [message] for name, message in zip(names, messages, strict=True)},
        **{column: dict(zip(names, parts, strict=True)) for column, parts in _per_side(sides).items()},
        **_judged(last, alone=len(judgements) == 1, refs=dict(zip(refs, names, strict=True))),
        **_margin(table, judgements[0]),
        **(_lone(judgements[0], sides[0]) if table is Table.UNPAIRED else {}),
        "pair_id": row_id,
        "source": source or last.vote.envelope.source.value,
        "source_event_ids": events,
        "weight": weight,
        **extra,
    }
    return Row(table, row_id, Cell.of(last.vote.envelope.occurred_at, bucket_of(last.vote.owner)), values)


def _events(judgement: Judgement) -> list[str]:
    return [judgement.event_id, *(exchange.event.envelope.event_id.hex for exchange in judgement.exchanges)]


def _per_side(sides: Sequence[Side]) -> dict[str, list[Any]]:
    columns = ("version", "behaviour_logprob", "finish_reason")
    version, logprob, finish = ([getattr(side, name, None) for side in sides] for name in columns)
    return {"versions": version, "behaviour_logprob": logprob, "finish_reason": finish}


def _judged(judgement: Judgement, *, alone: bool, refs: dict[str, str]) -> dict[str, Any]:
    envelope = judgement.vote.envelope
    return {
        "rater": envelope.rater,
        "unit": judgement.unit,
        "rater_group": rater_group(judgement.unit),
        "segment": envelope.segment or judgement.exchange.event.envelope.segment,
        "shown_first": refs.get(judgement.first_shown or "") if alone else None,
        "latency_ms": judgement.vote.body.latency_ms if alone else None,
        "occurred_at": envelope.occurred_at,
    }


def _lone(judgement: Judgement, side: Side) -> dict[str, Any]:
    """What only a row about a single answer has: its place in a conversation, what kind of vote, how it was drawn."""
    turn, turns = (judgement.place.turn, judgement.place.turns) if judgement.place else (None, None)
    placed = {"conversation_turn": turn, "conversation_turns": turns, "feedback_kind": judgement.vote.body.kind}
    return {**placed, **_drawn(judgement.exchange_of(side), side)} if isinstance(side, Answer) else placed


def _drawn(exchange: Exchange, answer: Answer) -> dict[str, Any]:
    return {
        "prompt_token_ids": exchange.prompt_token_ids,
        "completion_token_ids": answer.token_ids,
        "sampling": exchange.sampling,
        "arm": answer.arm,
        "arm_propensity": answer.arm_propensity,
        "base_revision": exchange.event.body.base_revision,
        "template_hash": exchange.event.body.template_hash,
    }


def _margin(table: Table, judgement: Judgement) -> dict[str, float]:
    strength = judgement.vote.body.strength
    return {"margin": strength} if table is Table.PREFERENCE and strength is not None else {}


def _asked(exchange: Exchange) -> dict[str, Any]:
    tools = json.dumps(exchange.tools, sort_keys=True) if exchange.tools else None
    return {"prompt": list(exchange.prompt), "tools": tools, "prompt_id": exchange.prompt_id}


def _prompt_row(exchange: Exchange) -> Row:
    envelope = exchange.event.envelope
    unit = envelope.rater or f"nobody:{envelope.session_id or exchange.event.body.response_id}"
    values = {
        **_asked(exchange),
        "rater": envelope.rater,
        "unit": unit,
        "rater_group": rater_group(unit),
        "segment": envelope.segment,
        "source": envelope.source.value,
        "occurred_at": envelope.occurred_at,
        "source_event_ids": [envelope.event_id.hex],
        "weight": 1.0,
    }
    row_id = _identify(Table.PROMPTS, exchange.prompt_id)
    return Row(Table.PROMPTS, row_id, Cell.of(envelope.occurred_at, bucket_of(exchange.event.owner)), values)


def _identify(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]
