"""Manifests in the artifact store: what a dataset, reward model or adapter is made of, and the evidence about it.

Layout of a dataset: `<table>/<split>/<shard>.parquet`, `weights/{raters,prompts,segments}.parquet`, `index/` (what
the next dataset is made from) and `manifest.json`. Tables: `preference`, `ties`, `unpaired`, `demonstrations` (splits
train, test) and `prompts` (splits train, gate, report). Layout of an adapter: PEFT's `adapter_config.json` and
`adapter_model.safetensors`, `manifest.json`, `evidence.json`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from infra.contracts.base import SCHEMA_VERSION, Contract, SchemaVersion


class FileEntry(Contract):
    path: str
    sha256: str
    bytes: int
    rows: int | None = None


class Voting(Contract):
    """Of one version: answers whose rating was offered, and people's thumbs and stars, up or down, on such answers."""

    answers: int = 0
    votes: int = 0


class DatasetManifest(Contract):
    """`sha256` is over the sorted shard hashes. `counts[table][split]` are rows; `filtered[reason]` were left out."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    dataset_id: str
    tenant: str
    alias: str
    sha256: str
    as_of: datetime
    window_start: datetime | None = None
    event_cut: dict[str, dict[int, int]] = {}
    files: list[FileEntry]
    counts: dict[str, dict[str, int]]
    filtered: dict[str, int] = {}
    redacted: dict[str, int] = {}  # kind -> how often it was taken out of texts
    voting: dict[str, Voting] = {}  # by version, over the window, whatever became rows
    weights: dict[str, Any] = {}  # who counts how much: raters in and out, agreement, effective size
    settings: dict[str, Any] = {}
    parent: str | None = None
    erased: bool = False


class RewardManifest(Contract):
    schema_version: SchemaVersion = SCHEMA_VERSION
    name: str
    base_revision: str
    dataset_sha256: list[str]
    sha256: str
    features: bool
    seed: int
    settings: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    code_version: str = ""
    created_at: datetime


class DataWarning(Contract):
    """What is doubtful about the rows that something was trained on: `kind` for programs, `message` for people."""

    kind: str
    message: str


class AdapterManifest(Contract):
    """Immutable. `sha256` is of `adapter_model.safetensors`; the version ends in its first eight digits."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    version: str
    alias: str
    tenant: str
    cycle_id: str | None
    base_revision: str
    rank: int
    sha256: str
    dataset_sha256: list[str]  # the transitive closure
    dataset_ids: list[str] = []
    parent: str | None = None
    init: Literal["anchor", "champion"] = "anchor"
    anchor: str = "base"
    reward_model: str | None = None
    method: str
    method_reason: str = ""
    warnings: list[DataWarning] = []
    seeds: dict[str, int]
    settings: dict[str, Any] = {}
    code_version: str = ""
    metrics: dict[str, Any] = {}
    created_at: datetime


class Interval(Contract):
    """A measured value with its two-sided interval at `level`, over `n` independent units."""

    value: float
    lo: float
    hi: float
    n: int
    level: float = 0.95


class SmokeCase(Contract):
    """Fixed token ids and the trainer's own log-probabilities of them (nats, temperature 1) under this adapter."""

    token_ids: list[int]
    logprobs: list[float]  # of token_ids[1:], so one shorter
    prompt_id: str | None = None  # whose words the tokens are, in part


class Sample(Contract):
    """Two answers to one gate prompt, the candidate's and the champion's, with the judge's scores."""

    prompt_id: str
    prompt: list[dict[str, Any]]
    candidate: str
    champion: str
    base: str | None = None
    judge_candidate: float | None = None
    judge_champion: float | None = None


class RegressionResult(Contract):
    """One exact check: did this version, and did its champion, still say what it must?"""

    name: str
    passed: bool
    champion_passed: bool | None = None


class SegmentResult(Contract):
    """Of one segment, or of several that are small; one that has not `enough` blocks only where it is shown worse."""

    interval: Interval | None = None
    enough: bool


class GeneralText(Contract):
    """Negative log-likelihood of a text that nobody voted on, nats per token; `rise` is candidate minus champion."""

    rise: Interval | None = None
    candidate: float
    champion: float


class OffPolicy(Contract):
    """What held-out raters' votes on logged answers say of the candidate's P(up | voted), before anybody has seen it.

    `effective_size` is how many votes on its own answers would say as much. Weights are cut at `weight_cap`, which
    `clipped` is the share of. `snips` is the estimate; `ips` and `dr` are right where people vote on all answers
    equally often. `champion` is the present one's logged rate, `difference` candidate's (`snips`) minus champion's.
    """

    votes: int = 0
    raters: int = 0
    versions: dict[str, int] = {}  # whose answers the votes are on
    mean_tokens: float | None = None  # of an answer
    effective_size: float = 0.0
    weight_cap: float | None = None
    clipped: float = 0.0
    mean_weight: float | None = None  # far from 1: people vote at another rate, or it says what was never seen
    ips: Interval | None = None
    snips: Interval | None = None
    dr: Interval | None = None
    champion: Interval | None = None
    difference: Interval | None = None
    voting_rate: float | None = None  # votes per answer whose rating was offered, of those versions
    voting_rate_candidate: float | None = None  # estimated
    left_out: dict[str, int] = {}


class Evidence(Contract):
    """What the trainer measured for the gates. A missing measurement stays None, which a gate calls inconclusive."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    version: str
    champion: str
    smoke: list[SmokeCase] = []
    kl_anchor: Interval | None = None
    kl_champion: Interval | None = None
    judge_win_rate: Interval | None = None  # candidate over champion on gate prompts, ties half
    judge_controlled: Interval | None = None  # the same at equal lengths
    judge_segments: dict[str, SegmentResult] = {}  # the same by the prompts' segments, where any is named
    length_ratio: Interval | None = None  # candidate over champion, in tokens
    probes: dict[str, Interval] = {}  # candidate minus champion, share of answers: refusal, question, hedge, ...
    probe_rates: dict[str, dict[str, float]] = {}  # probe -> {candidate, champion}
    reward_accuracy: Interval | None = None
    reward_metrics: dict[str, Any] = {}
    reward_falls: dict[str, SegmentResult] = {}  # by segment: accuracy on held-out raters below `reward_falls_from`
    reward_falls_from: str = ""  # the champion's reward model, or the whole: this one's own accuracy on all
    regressions: list[RegressionResult] = []
    regression_drop: Interval | None = None  # champion's minus candidate's share of passed cases
    regressions_left_out: dict[str, int] = {}  # why -> stored cases that could not be asked: erased, expired, ...
    canaries: list[RegressionResult] = []  # facts that no vote may shift
    safety: list[RegressionResult] = []  # what must be refused, or never said
    general_text: GeneralText | None = None
    off_policy: OffPolicy | None = None
    samples: list[Sample] = []


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class GateResult(Contract):
    name: str
    blocking: bool
    verdict: Verdict
    threshold: float | None = None
    interval: Interval | None = None
    reason: str
    evidence: dict[str, Any] = {}


class GateReport(Contract):
    """An artifact and registry row of its own, never part of the immutable adapter manifest."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    version: str
    champion: str
    verdict: Verdict
    gates: list[GateResult]
    decided_at: datetime
