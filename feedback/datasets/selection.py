"""Which judgements become rows, decided from facts alone: the same ones in whatever order the events came.

People contradict and repeat themselves within one bucket, since all of one person is in one. Held-out texts that
training has too are found over all buckets.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedback.datasets.arrays import Bools, Hashes, Lists, column, firsts, group_sums, joined, mix, moments, wide
from feedback.datasets.split import TEST, TRAIN
from infra.settings import FeedbackSettings

Fates = NDArray[np.int8]
NO_HASHES: Hashes = np.zeros(0, dtype=np.uint64)


class Fate(IntEnum):
    """What became of a judgement that could have been a row."""

    KEPT = 0
    CHECK_QUESTION = 1
    SELF_CONTRADICTION = 2
    DUPLICATE = 3
    HELD_OUT_PROMPT = 4
    LEAKS_FROM_TRAIN = 5
    YIELDS_TO_PEOPLE = 6


@dataclass(frozen=True)
class Chosen:
    """One bucket's judgements: their fates, and which of them are for training."""

    fate_N: Fates
    train_N: Bools

    @property
    def kept_N(self) -> Bools:
        return np.asarray(self.fate_N == Fate.KEPT)

    def split_N(self, split: str) -> Bools:
        return self.kept_N & (self.train_N if split == TRAIN else ~self.train_N)

    @property
    def dropped(self) -> Counter[str]:
        counts = np.bincount(self.fate_N, minlength=len(Fate))
        return +Counter({fate.name.lower(): int(counts[fate]) for fate in Fate if fate is not Fate.KEPT})


def choose(facts: pa.Table, settings: FeedbackSettings) -> Chosen:
    """Everything but leaks."""
    fate_N = np.full(len(facts), Fate.KEPT, dtype=np.int8)
    _drop(fate_N, column(facts, "check") >= 0, Fate.CHECK_QUESTION)
    _drop(fate_N, _contradicts(facts, fate_N == Fate.KEPT), Fate.SELF_CONTRADICTION)
    _drop(fate_N, _repeats(facts, fate_N == Fate.KEPT), Fate.DUPLICATE)
    train_N = np.asarray(column(facts, "rater_at") >= settings.test_share)
    _drop(fate_N, held_out(facts, settings), Fate.HELD_OUT_PROMPT)
    return Chosen(fate_N, train_N)


@dataclass(frozen=True)
class Texts:
    """What training has read: prompts and answers by their hashes."""

    prompts: Hashes
    digests: Hashes

    @classmethod
    def of(cls, parts: Iterable["Texts"]) -> "Texts":
        found = [cls(NO_HASHES, NO_HASHES), *parts]
        return cls(
            *(np.unique(np.concatenate([getattr(one, name) for one in found])) for name in ("prompts", "digests"))
        )


def trained_on(facts: pa.Table, chosen: Chosen) -> Texts:
    """Of one bucket."""
    return _texts(facts, chosen.split_N(TRAIN))


def held_from_models(facts: pa.Table, chosen: Chosen) -> Texts:
    """What held-out people judged in one bucket."""
    return _texts(facts, chosen.split_N(TEST))


def yield_to_people(facts: pa.Table, chosen: Chosen, held: Texts) -> Chosen:
    """A model may judge whatever people judge: where they are held out its judgement goes, and not theirs as a leak."""
    return _drop_known(facts, chosen, column(facts, "ai").astype(np.bool_), held, Fate.YIELDS_TO_PEOPLE)


def drop_leaks(facts: pa.Table, chosen: Chosen, texts: Texts) -> Chosen:
    """No held-out judgement stays whose prompt or answers anything in training has."""
    return _drop_known(facts, chosen, chosen.split_N(TEST), texts, Fate.LEAKS_FROM_TRAIN)


def content_N(facts: pa.Table, chosen: Chosen) -> Hashes:
    """A hash of all that a judgement's rows are made of: its events, and the thumbs that it is paired with."""
    made_N, pairing_N = mix(column(facts, "made_of").astype(np.uint64)), column(facts, "pairing").astype(np.uint64)
    paired_N = chosen.kept_N & (pairing_N != 0)
    made_N[paired_N] = joined(made_N[paired_N], group_sums(pairing_N[paired_N], made_N[paired_N]))
    return made_N


def first_asked(facts: pa.Table) -> Bools:
    """Of each prompt its first appearance, over all buckets."""
    high_N, low_N = wide(facts, "prompt")
    return firsts(joined(high_N, low_N), (moments(facts, "occurred_at"), *wide(facts, "event_id")))


def _texts(facts: pa.Table, among_N: Bools) -> Texts:
    digests = Lists.of(facts["digests"])
    return Texts(np.unique(wide(facts, "prompt")[0][among_N]), np.unique(digests.values_V[among_N[digests.row_V]]))


def _drop_known(facts: pa.Table, chosen: Chosen, among_N: Bools, texts: Texts, fate: Fate) -> Chosen:
    known_N = np.isin(wide(facts, "prompt")[0], texts.prompts)
    known_N |= Lists.of(facts["digests"]).any_in(texts.digests, len(facts))
    fate_N = chosen.fate_N.copy()
    _drop(fate_N, known_N & among_N, fate)
    return Chosen(fate_N, chosen.train_N)


def _drop(fate_N: Fates, chosen_N: Bools, fate: Fate) -> None:
    """The first reason found is the one that is counted."""
    fate_N[chosen_N & (fate_N == Fate.KEPT)] = fate


def _contradicts(facts: pa.Table, among_N: Bools) -> Bools:
    """All sides of a contradiction: which one was meant cannot be known."""
    asked_N = column(facts, "asked").astype(np.uint64)
    claims, denials = Lists.of(facts["claims"]), Lists.of(facts["denials"])
    held = among_N[claims.row_V]
    claimed = joined(asked_N[claims.row_V[held]], claims.values_V[held])
    contradicted = Lists(joined(asked_N[denials.row_V], denials.values_V), denials.row_V)
    return contradicted.any_in(claimed, len(facts))


def _repeats(facts: pa.Table, among_N: Bools) -> Bools:
    """Saying the same of the same texts again adds nothing: the first time counts."""
    stance_N = column(facts, "stance").astype(np.uint64)
    keys = (moments(facts, "occurred_at"), *wide(facts, "event_id"))
    again = np.zeros(len(facts), dtype=np.bool_)
    again[among_N] = ~firsts(stance_N[among_N], [key[among_N] for key in keys])
    return again


def held_out(facts: pa.Table, settings: FeedbackSettings) -> Bools:
    """Nothing learns from a report prompt, and no policy from a gate prompt; held-out raters may judge on those."""
    prompt_at, train_N = column(facts, "prompt_at"), column(facts, "rater_at") >= settings.test_share
    report = prompt_at < settings.report_share
    gate = ~report & (prompt_at < settings.report_share + settings.gate_share)
    return np.asarray(report | (gate & train_N))
