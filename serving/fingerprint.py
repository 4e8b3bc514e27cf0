"""Knows a base by what it computes: an engine can't be asked for the hash of its weights, and a name proves nothing.

The replicas that are started here have hashed their files; the first of them says what everybody else must compute.
"""

from pydantic import ValidationError

from infra.artifacts import ArtifactStore, MissingArtifact, dump_json
from infra.clock import now
from infra.contracts.fingerprints import BaseFingerprint
from infra.contracts.manifests import SmokeCase
from serving.engine import SMOKE_TOKENS, Engine

PROMPTS = ((5, 17, 33, 60, 121, 200, 7, 9), (41, 3, 88, 150, 12, 97, 64, 28), (180, 2, 75, 75, 19, 230, 6, 110))


class Fingerprints:
    """Of one base revision."""

    def __init__(self, store: ArtifactStore, base_revision: str) -> None:
        self._store, self.base_revision = store, base_revision
        self._path = f"bases/{base_revision}/fingerprint.json"

    def known(self) -> BaseFingerprint | None:
        try:
            return BaseFingerprint.model_validate_json(self._store.read(self._path))
        except (MissingArtifact, ValidationError):
            return None

    def keep(self, cases: list[SmokeCase], taken_from: str) -> BaseFingerprint:
        found = BaseFingerprint(
            base_revision=self.base_revision, taken_from=taken_from, taken_at=now(), cases=cases
        )  # fmt: skip
        self._store.write(self._path, dump_json(found.model_dump(mode="json")))
        return found


async def take(engine: Engine, name: str) -> list[SmokeCase]:
    """Each prompt with the tokens that follow it greedily. Nobody compares the prompt's own: its scores are zeros."""
    return [await _case(engine, name, list(prompt)) for prompt in PROMPTS]


async def _case(engine: Engine, name: str, prompt: list[int]) -> SmokeCase:
    token_ids, logprobs = list(prompt), [0.0] * (len(prompt) - 1)
    for _ in range(SMOKE_TOKENS):
        top = await engine.top_logprobs(name, token_ids)
        token = max(top, key=top.__getitem__)
        token_ids.append(token)
        logprobs.append(top[token])
    return SmokeCase(token_ids=token_ids, logprobs=logprobs)
