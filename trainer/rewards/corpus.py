"""All judgements that reward models are trained on, encoded once for every member of an ensemble."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infra.settings import TrainerSettings
from trainer.data import Preference, Tie
from trainer.errors import StageFailed
from trainer.model import Base
from trainer.optimizing import threads
from trainer.rewarding import bare_features
from trainer.rewards.rankings import Element, elements


@dataclass(frozen=True, slots=True)
class Corpus:
    """What there is to learn from; features, [answer, feature] of each element, never change: the base is frozen."""

    elements: Sequence[Element]
    features: Sequence[Tensor] | None

    def without(self, units: Collection[str]) -> "Corpus":
        kept = [place for place, element in enumerate(self.elements) if element.unit not in units]
        features = None if self.features is None else [self.features[place] for place in kept]
        return Corpus([self.elements[place] for place in kept], features)

    def features_of(self, picked: Sequence[int]) -> Tensor | None:
        """[A, feature], element by element."""
        return None if self.features is None else torch.cat([self.features[place] for place in picked])


def read_corpus(
    base: Base, pairs: Sequence[Preference], ties: Sequence[Tie], settings: TrainerSettings, *, features: bool
) -> Corpus:
    usable = [pair for pair in pairs if pair.sampled or not features]
    found = elements(
        base,
        [*usable, *ties],
        longest=settings.max_length,
        margin_scale=settings.reward_margin_scale,
        style=settings.reward_style_control,
    )
    if not found:
        raise StageFailed("no preference pairs are left to train a reward model on")
    if not features:
        return Corpus(found, None)
    with threads(settings.threads):
        features_BF = bare_features(base, [answer for element in found for answer in element.answers])
    return Corpus(found, features_BF.split([len(element.answers) for element in found]))
