"""Which of a dataset's votes say something about another policy: those on one answer whose every token is known.

A person's thumb or star on an answer of this base, drawn at a temperature and nothing else. What cuts the vocabulary
(top_p, top_k, min_p, grammars) leaves tokens out that the candidate may say: no weight makes up for answers that could
not be seen. Penalties make a token's chance depend on more than the model. All that is left out is counted by reason.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.data import Prompt, unpaired
from trainer.lines import Encoded

Row = Mapping[str, Any]

NEUTRAL: Mapping[str, frozenset[Any]] = {  # at these values a parameter changes nothing
    "top_p": frozenset({1}),
    "top_k": frozenset({0, -1}),
    "min_p": frozenset({0}),
    "repetition_penalty": frozenset({1}),
    "presence_penalty": frozenset({0}),
    "frequency_penalty": frozenset({0}),
    "min_tokens": frozenset({0}),
    "use_beam_search": frozenset({False}),
    "ignore_eos": frozenset({False}),
    "tool_choice": frozenset({"auto", "none"}),
    "response_format": frozenset({"text"}),
}
# These end an answer or repeat a draw, as they would the candidate's.
HARMLESS = frozenset(
    {"temperature", "seed", "n", "max_tokens", "stop", "include_stop_str_in_output", "truncate_prompt_tokens",
     "length_penalty"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vote:
    """`logprob` is of the whole answer, at its temperature; `propensity` the chance of the arm that gave it."""

    vote_id: str
    up: bool
    rater: str
    weight: float
    version: str
    propensity: float
    temperature: float
    logprob: float
    encoded: Encoded
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Origin:
    """The base whose tokens can be read, and the longest row in tokens that fits a forward."""

    base_revision: str
    template_hash: str
    longest: int


@dataclass(frozen=True, slots=True)
class Logged:
    """`lost_versions`: those of which nothing could be used, so that the chance of an arm decides what is seen."""

    votes: list[Vote]
    left_out: Counter[str] = field(default_factory=Counter)
    lost_versions: frozenset[str] = frozenset()


def usable(rows: Iterable[Row], origin: Origin) -> Logged:
    votes, left_out, seen = list[Vote](), Counter[str](), set[str]()
    for row in rows:
        if (reason := _unfit(row)) is None:
            seen.add(_version(row))
            reason = _unweighable(row, origin)
        if reason is None:
            votes.append(_vote(row))
        else:
            left_out[reason] += 1
    return Logged(votes, left_out, frozenset(seen - {vote.version for vote in votes}))


def drawn(votes: Sequence[Vote], most: int, seed: int) -> list[Vote]:
    """At most so many, by a hash: the newest alone would be a few people's."""
    ordered = sorted(votes, key=lambda vote: hashlib.sha256(f"{seed}\0{vote.vote_id}".encode()).digest())
    return ordered[:most]


def _unfit(row: Row) -> str | None:
    """Why it is no person's vote on one answer."""
    if row.get("source") != "human":
        return "no_persons"
    if row.get("conversation_turns") is not None:
        return "whole_conversation"
    return None if row.get("feedback_kind") in ("thumbs", "rating") else "no_thumb_or_rating"


def _unweighable(row: Row, origin: Origin) -> str | None:
    """Why the candidate's chance of this answer can't be set against the logged one."""
    prompt, answer = row.get("prompt_token_ids"), row.get("completion_token_ids")
    if not prompt or not answer or _logprob(row) is None or not row.get("arm_propensity"):
        return "tokens_unknown"
    if row.get("base_revision") != origin.base_revision:
        return "other_base"
    if row.get("template_hash") not in (origin.template_hash, ""):
        return "other_template"
    if len(prompt) + len(answer) > origin.longest:
        return "too_long"
    return next(_reshaping(json.loads(row["sampling"])), None)


def _reshaping(sampling: Mapping[str, Any]) -> Iterator[str]:
    if not sampling.get("temperature"):
        yield "greedy"
    for name, value in sampling.items():
        if name not in HARMLESS and value not in NEUTRAL.get(name, ()):
            yield f"sampled_with_{name}"


def _vote(row: Row) -> Vote:
    (said,) = unpaired([dict(row)])
    return Vote(
        vote_id=str(row["pair_id"]),
        up=said.label,
        rater=str(row["unit"]),
        weight=said.weight,
        version=_version(row),
        propensity=float(row["arm_propensity"]),
        temperature=float(json.loads(row["sampling"])["temperature"]),
        logprob=float(_logprob(row) or 0.0),
        encoded=Encoded(row["prompt_token_ids"], row["completion_token_ids"]),
        prompt=said.prompt,
    )


def _logprob(row: Row) -> float | None:
    found: float | None = (row.get("behaviour_logprob") or {}).get("completion")
    return found


def _version(row: Row) -> str:
    return str((row.get("versions") or {}).get("completion"))
