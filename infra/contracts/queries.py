"""What training wants to ask people: pairs of answers that its reward models disagree about.

One file a version, `queries/<version>.json` in the artifact store, written with the adapter. It quotes prompts, as
evidence does: an erasure takes out what was asked from prompts that are gone. Gateways hand the questions to raters.
"""

from datetime import datetime
from typing import Any

from infra.contracts.base import SCHEMA_VERSION, Contract, SchemaVersion


class QueryAnswer(Contract):
    """One side: who wrote it, and what."""

    version: str
    content: str


class Query(Contract):
    """`owner` is the hashed rater whose prompt it is: what is made of it is sealed for that person."""

    query_id: str
    prompt_id: str
    owner: str | None = None
    segment: str | None = None
    prompt: list[dict[str, Any]]
    a: QueryAnswer
    b: QueryAnswer
    preference: float  # mean over members of the probability that a is better
    disagreement: float  # variance of that probability over members


class Queries(Contract):
    """The most disputed first, chosen without chance from `candidates` pairs: no sample of what is asked otherwise."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    version: str
    alias: str
    tenant: str
    created_at: datetime
    members: int
    candidates: int
    queries: list[Query]


def queries_path(version: str) -> str:
    return f"queries/{version}.json"
