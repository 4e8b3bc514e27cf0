"""From facts to the side files `weights/`: how much each rater, prompt and segment counts in this dataset.

A row's weight in training is its own `weight` times the factors of its rater (in its segment, if the file has that),
its segment and its prompt; what is not in a file has the factor 1. A re-estimate rewrites these files and no shard.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedback.cells import BUCKETS, VOTES
from feedback.datasets import facts
from feedback.datasets.arrays import Bools, Hashes, Lists, column, joined, wide
from feedback.datasets.composing import read_bucket
from feedback.datasets.draft import Draft
from feedback.datasets.index import Index
from feedback.datasets.selection import Chosen
from feedback.datasets.shards import WEIGHTS
from feedback.datasets.split import TRAIN
from feedback.weighing.calibration import AiPolicy
from feedback.weighing.opinions import Opinions
from feedback.weighing.reliability import Prior
from feedback.weighing.weights import Mass, Policy, Weights, rater_weight, trust, weigh
from infra.contracts.manifests import FileEntry
from infra.settings import FeedbackSettings

DIGITS = 6  # of what is stored: the last bits of a sum depend on the machine
COLUMNS = ("unit", "ai", "segment", "mass", "prompt", "check", "items", "says")
OPINION, WEIGHT = ("rater", "item", "yes", "segment", "check"), ("owner", "place", "mass", "high", "low")
Part = dict[str, NDArray[Any]]
RATERS = pa.schema(
    [
        ("unit", pa.string()),
        ("segment", pa.string()),  # null: wherever the file has no line for a row's segment
        ("factor", pa.float64()),
        ("reliability", pa.float64()),
        ("answers", pa.int64()),
        ("network", pa.int64()),
        ("capped", pa.float64()),
    ]
)
PROMPTS = pa.schema([("prompt_id", pa.string()), ("factor", pa.float64())])
SEGMENTS = pa.schema([("segment", pa.string()), ("factor", pa.float64())])


@dataclass
class Places:
    """Numbers values from 0 on, in the order in which they were first seen."""

    known: dict[Any, int] = field(default_factory=dict)

    def of(self, values: Iterable[Any]) -> NDArray[np.int64]:
        return np.array([self.known.setdefault(value, len(self.known)) for value in values], dtype=np.int64)

    def column(self, values: pa.ChunkedArray) -> NDArray[np.int64]:
        """Of a dictionary column: each distinct value is looked at once."""
        encoded = pc.dictionary_encode(values.cast(pa.string()), null_encoding="encode").combine_chunks()
        return np.asarray(self.of(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()])


@dataclass(frozen=True)
class Material:
    """What weights are made of, and what its places stand for. `prompts` are halves of prompt ids."""

    opinions: Opinions
    mass: Mass
    units: list[str]
    ai_R: Bools  # which of them are models
    segments: list[str | None]
    prompts: tuple[Hashes, Hashes]


def policy_of(settings: FeedbackSettings) -> Policy:
    return Policy(
        prior=Prior(settings.rater_prior, settings.rater_prior_strength),
        rater_most=settings.rater_weight_max,
        rater_cap=settings.rater_cap,
        prompt_cap=settings.prompt_cap,
        network_cap=settings.network_cap,
        network_overlap=settings.network_overlap,
        segment_min=settings.rater_segment_min,
        segment_mix=settings.segment_mix,
        segment_most=settings.segment_weight_max,
        ai=AiPolicy(settings.ai_shared_min, settings.ai_weight_max, settings.ai_share),
    )


def write_weights(
    draft: Draft, index: Index, chosen: Mapping[int, Chosen], settings: FeedbackSettings
) -> tuple[list[FileEntry], dict[str, Any]]:
    """The side files, and the report of who counts how much."""
    material = read_material(draft, index, chosen)
    weights = weigh(material.opinions, material.mass, material.segments, policy_of(settings), material.ai_R)
    files = [
        draft.write(f"{WEIGHTS}/prompts.parquet", _prompts(material, weights)),
        draft.write(f"{WEIGHTS}/raters.parquet", _raters(material, weights)),
        draft.write(f"{WEIGHTS}/segments.parquet", _segments(material, weights)),
    ]
    return files, {**weights.report, "models": models_told(material, weights)}


def models_told(material: Material, weights: Weights) -> dict[str, dict[str, Any]]:
    """How far each model agrees with people and what its votes weigh, by unit."""
    places = np.flatnonzero(material.ai_R).tolist()
    return {material.units[at]: weights.calibration.told(at, weights.policy.ai) for at in places}


def read_material(draft: Draft, index: Index, chosen: Mapping[int, Chosen]) -> Material:
    """Bucket by bucket, so in an order that does not depend on when the events came."""
    units, segments, parts, models = Places(), Places({None: 0}), list[Part](), set[str]()
    for number in range(BUCKETS):
        bucket = read_bucket(draft, index, VOTES, facts.JUDGEMENTS, COLUMNS, number)
        if bucket is not None:
            parts.append(_part(bucket.table, chosen[number].split_N(TRAIN), units, segments))
            models |= _models(bucket.table)
    opinions = _opinions(parts, units, segments)
    owner_N, place_N, mass_N, high_N, low_N = (_joined(parts, name) for name in WEIGHT)
    _, first_P, prompt_N = np.unique(joined(high_N, low_N), return_index=True, return_inverse=True)
    mass = Mass(owner_N, place_N, prompt_N, mass_N, len(first_P))
    ai_R, prompts = _among(units, models), (high_N[first_P], low_N[first_P])
    return Material(opinions, mass, list(units.known), ai_R, list(segments.known), prompts)


def calibrations(tables: Sequence[pa.Table], settings: FeedbackSettings) -> dict[str, dict[str, Any]]:
    """How far each model agrees with people, by unit, told from facts alone; as a dataset of the same votes has it."""
    units, segments = Places(), Places({None: 0})
    parts = [_part(table, np.zeros(len(table), dtype=np.bool_), units, segments) for table in tables]
    if not parts:
        return {}
    policy, ai_R = policy_of(settings), _among(units, {unit for table in tables for unit in _models(table)})
    _, calibration = trust(_opinions(parts, units, segments), ai_R, policy)
    known = list(units.known)
    return {known[at]: calibration.told(at, policy.ai) for at in np.flatnonzero(ai_R).tolist()}


def _models(facts: pa.Table) -> set[str]:
    return set(facts["unit"].filter(facts["ai"]).cast(pa.string()).unique().to_pylist())


def _among(units: Places, some: set[str]) -> Bools:
    return np.array([unit in some for unit in units.known], dtype=np.bool_)


def _opinions(parts: Sequence[Part], units: Places, segments: Places) -> Opinions:
    rater_N, item_N, yes_N, segment_N, check_N = (_joined(parts, name) for name in OPINION)
    item_I, item_N = np.unique(item_N, return_inverse=True)
    truth_I = np.full(len(item_I), np.nan)
    checked_N = check_N >= 0
    truth_I[item_N[checked_N]] = np.where(check_N[checked_N] == 1, yes_N[checked_N], ~yes_N[checked_N])
    return Opinions(rater_N, item_N, yes_N, segment_N, truth_I, len(units.known), len(segments.known))


def _part(table: pa.Table, train_N: Bools, units: Places, segments: Places) -> Part:
    """One bucket's opinions, of everybody, and masses, of what trains."""
    unit_N, segment_N, check_N = units.column(table["unit"]), segments.column(table["segment"]), column(table, "check")
    asked, said = Lists.of(table["items"]), Lists.of(table["says"])
    high_N, low_N = wide(table, "prompt")
    return {
        "rater": unit_N[asked.row_V],
        "item": asked.values_V,
        "yes": said.values_V.astype(np.bool_),
        "segment": segment_N[asked.row_V],
        "check": check_N[asked.row_V],
        "owner": unit_N[train_N],
        "place": segment_N[train_N],
        "mass": column(table, "mass")[train_N].astype(np.float64),
        "high": high_N[train_N],
        "low": low_N[train_N],
    }


def _joined(parts: Sequence[Part], name: str) -> NDArray[Any]:
    return np.concatenate([part[name] for part in parts])


def _raters(material: Material, weights: Weights) -> pa.Table:
    """One line for each rater, and one for each segment in which its reliability is known by itself."""
    known = weights.reliability
    rater_E, segment_E = np.nonzero(~np.isnan(known.p_RS))
    every = np.arange(len(material.units))
    places = np.concatenate([every, rater_E])
    calibration, ai_R = weights.calibration, material.ai_R
    trust_R = np.where(ai_R, calibration.weight_R, rater_weight(known.p_R, weights.policy))
    p_R, answers_R = np.where(ai_R, calibration.lo_R, known.p_R), np.where(ai_R, calibration.shared_R, known.answers_R)
    factor_R = trust_R * weights.capped_R
    columns = {
        "unit": [material.units[at] for at in places],
        "segment": [None] * len(every) + [material.segments[at] for at in segment_E],
        "factor": np.round(np.concatenate([factor_R, weights.rater_RS[rater_E, segment_E]]), DIGITS),
        "reliability": np.round(np.concatenate([p_R, known.p_RS[rater_E, segment_E]]), DIGITS),
        "answers": answers_R[places],
        "network": weights.network_R[places],
        "capped": np.round(weights.capped_R[places], DIGITS),
    }
    return pa.Table.from_pydict(columns, schema=RATERS).sort_by([("unit", "ascending"), ("segment", "ascending")])


def _prompts(material: Material, weights: Weights) -> pa.Table:
    """Those that a cap has made lighter."""
    capped = np.flatnonzero(weights.prompt_P < 1)
    high, low = (half[capped].tolist() for half in material.prompts)
    names = [f"{a:016x}{b:016x}" for a, b in zip(high, low, strict=True)]
    factors = np.round(weights.prompt_P[capped], DIGITS)
    return pa.Table.from_pydict({"prompt_id": names, "factor": factors}, schema=PROMPTS).sort_by("prompt_id")


def _segments(material: Material, weights: Weights) -> pa.Table:
    factors = np.round(weights.segment_S, DIGITS)
    return pa.Table.from_pydict({"segment": material.segments, "factor": factors}, schema=SEGMENTS).sort_by("segment")
