"""Which pairs of answers to ask people about: those that the members of a reward ensemble dispute.

Christiano et al. 2017 (arXiv 1706.03741), section 2.2.4: many pairs, each member predicts which one is preferred, and
those with the highest variance across members are asked. What was changed: at most so many pairs of one prompt.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from infra.artifacts import ArtifactStore, dump_json
from infra.contracts.queries import Queries, Query, QueryAnswer, queries_path
from trainer.data import Prompt

Floats = NDArray[np.float64]
ROLES = frozenset({"system", "user", "assistant"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two answers to one prompt, each with the version that wrote it."""

    prompt: Prompt
    a: QueryAnswer
    b: QueryAnswer


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose prompt it is, by hash, and of which kind of user."""

    rater: str | None = None
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class Occasion:
    """The version that the questions come with, and when they were made."""

    version: str
    alias: str
    tenant: str
    created_at: datetime


def disagreement(margins_QM: Floats) -> Floats:
    """Variance over members of the probability that the first is better; margins are score differences, in nats."""
    return np.asarray(expit(margins_QM).var(axis=1))


def choose(margins_QM: Floats, prompt_ids: Sequence[str], *, most: int, per_prompt: int) -> list[int]:
    """Places of at most `most` pairs, the most disputed first; the same ones whatever order the pairs come in.

    Where two are disputed alike the prompt's id decides, then the margins. What nobody disputes is not asked.
    """
    variance_Q = disagreement(margins_QM)
    ordered = sorted(range(len(prompt_ids)), key=lambda q: (-variance_Q[q], prompt_ids[q], margins_QM[q].tolist()))
    chosen, asked = list[int](), Counter[str]()
    for q in ordered:
        if len(chosen) < most and variance_Q[q] > 0 and asked[prompt_ids[q]] < per_prompt:
            chosen.append(q)
            asked[prompt_ids[q]] += 1
    return chosen


def owners(rows: Iterable[Mapping[str, Any]]) -> dict[str, Owner]:
    """By prompt id, from a dataset's rows of prompts."""
    return {str(row["prompt_id"]): Owner(row.get("rater"), row.get("segment")) for row in rows}


def can_be_shown(candidate: Candidate) -> bool:
    """A rater reads two different texts and a conversation of texts: no tools, nothing empty."""
    texts = [candidate.a.content.strip(), candidate.b.content.strip()]
    messages = candidate.prompt.messages
    plain = all(message.get("role") in ROLES and message.get("content") for message in messages)
    return bool(messages) and plain and not candidate.prompt.tools and all(texts) and texts[0] != texts[1]


def make_queries(
    candidates: Sequence[Candidate], margins_QM: Floats, known: Mapping[str, Owner], occasion: Occasion, *,
    most: int, per_prompt: int = 1,
) -> Queries:  # fmt: skip
    """`known` are the owners by prompt id: what is in no dataset could not be erased, and is not asked about."""
    usable = [q for q, one in enumerate(candidates) if can_be_shown(one) and one.prompt.prompt_id in known]
    ids = [candidates[q].prompt.prompt_id for q in usable]
    chosen = [usable[at] for at in choose(margins_QM[usable], ids, most=most, per_prompt=per_prompt)]
    return Queries(
        version=occasion.version, alias=occasion.alias, tenant=occasion.tenant, created_at=occasion.created_at,
        members=margins_QM.shape[1], candidates=len(usable),
        queries=[_query(candidates[q], margins_QM[q], known[candidates[q].prompt.prompt_id]) for q in chosen],
    )  # fmt: skip


def publish(store: ArtifactStore, queries: Queries) -> None:
    """Before the version is registered; writing the same again changes nothing."""
    store.write(queries_path(queries.version), dump_json(queries.model_dump(mode="json")))


def _query(candidate: Candidate, margins_M: Floats, owner: Owner) -> Query:
    prompt, a, b = candidate.prompt, candidate.a, candidate.b
    named = json.dumps([prompt.prompt_id, a.version, a.content, b.version, b.content]).encode()
    return Query(
        query_id=hashlib.sha256(named).hexdigest()[:32],
        prompt_id=prompt.prompt_id,
        owner=owner.rater,
        segment=owner.segment,
        prompt=list(prompt.messages),
        a=a,
        b=b,
        preference=float(expit(margins_M).mean()),
        disagreement=float(disagreement(margins_M[None])[0]),
    )
