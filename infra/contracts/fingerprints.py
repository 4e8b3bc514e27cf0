"""What a base model computes on fixed tokens: by this an engine that somebody else started is known."""

from datetime import datetime

from infra.contracts.base import SCHEMA_VERSION, Contract, SchemaVersion
from infra.contracts.manifests import SmokeCase


class BaseFingerprint(Contract):
    """In the artifact store at `bases/<base_revision>/fingerprint.json`. `taken_from` is a replica's name."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    base_revision: str
    taken_from: str
    taken_at: datetime
    cases: list[SmokeCase]
