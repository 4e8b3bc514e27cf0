"""Reward model training: Bradley-Terry on strict choices, Davidson's extension where there are ties.

Bradley & Terry 1952 (10.2307/2334029), Davidson 1970 (10.1080/01621459.1970.10481082); as in Ouyang et al. 2022, arXiv
2203.02155, with a ranking's pairs in one batch element, but each row is one rater's judgement with a weight of its own:
loss = sum(w * l) / sum(w). Davidson and not Rao-Kupper: with him the odds of winning against losing are e^margin
whatever ties there are, so that scores mean the same with and without them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from infra.settings import TrainerSettings
from trainer.batches import make_batch
from trainer.checkpoints import NOWHERE, Checkpoints, Stateful
from trainer.data import Preference, Tie
from trainer.history import Metrics
from trainer.loop import AdapterState, run_steps
from trainer.losses.preference import bradley_terry, centring_loss, tie_loss
from trainer.losses.tokens import weighted_mean
from trainer.model import Base, adapter_parameters, attach_adapter
from trainer.offline import passes
from trainer.optimizing import HEAD_RATE, Optimiser, cosine, threads
from trainer.parts import accumulate
from trainer.progress import Progress, silent
from trainer.raters import left_out
from trainer.rewarding import Head, Reward, RewardModel
from trainer.rewards.corpus import Corpus, read_corpus
from trainer.rewards.ensemble import Ensemble
from trainer.rewards.rankings import Collated, collate
from trainer.rewards.style import StyleControl

FEATURES_RATE = 40.0  # three weights that tell right from wrong: at 10, 300 pairs end before they are found
REFERENCES = 32  # judgements whose answers score 0 on average once training is over
MEMBERS_APART = 1009  # between the seeds of an ensemble's members: no other seed of a cycle is so far away


def train(  # noqa: PLR0913  # two more than the judgements and the model: who follows, and where it is kept
    base: Base,
    pairs: Sequence[Preference],
    ties: Sequence[Tie],
    *,
    name: str,
    settings: TrainerSettings,
    seed: int,
    features: bool,
    progress: Progress = silent,
    checkpoints: Checkpoints = NOWHERE,
) -> Reward:
    """`reward_members` models, each without a part of the raters; one is a plain model on all of them.

    Attaches adapters to the base: `name`, or `name` with the number of a member. Raises StageFailed without any rows.
    With features, a correction's row is left out: a person's text has log-probabilities of another size (a mean of
    -6.8 against -.5), which flips the sign of what the head learns from them.
    """
    corpus, count = read_corpus(base, pairs, ties, settings, features=features), settings.reward_members
    if count == 1:
        return train_on(
            base, corpus, corpus, name=name, settings=settings, seed=seed, progress=progress, checkpoints=checkpoints
        )
    members = []
    for number, units in enumerate(left_out((element.unit for element in corpus.elements), count, seed)):
        own, report = seed + number * MEMBERS_APART, _part(progress, number, count)
        theirs, called, kept = corpus.without(units), f"{name}_{number}", checkpoints.part(f"member-{number}")
        members.append(
            train_on(base, theirs, corpus, name=called, settings=settings, seed=own, progress=report, checkpoints=kept)
        )
    ensemble = Ensemble(members, settings.reward_score, settings.reward_uncertainty_weight)
    ensemble.stopped = "; ".join(member.stopped for member in members if member.stopped) or None
    return ensemble


def train_on(
    base: Base,
    corpus: Corpus,
    everything: Corpus,
    *,
    name: str,
    settings: TrainerSettings,
    seed: int,
    progress: Progress = silent,
    checkpoints: Checkpoints = NOWHERE,
) -> RewardModel:
    """`corpus` is what this model learns, `everything` what it is centred on: the same for all members."""
    with threads(settings.threads):
        attach_adapter(base, name, rank=settings.reward_rank, alpha=2 * settings.reward_rank, seed=seed)
        model = RewardModel(base, name, Head(base.hidden_size, features=corpus.features is not None))
        _fit(model, corpus, settings, seed, progress, checkpoints)
        _centre(model, everything)
    return model


def _fit(
    model: RewardModel,
    corpus: Corpus,
    settings: TrainerSettings,
    seed: int,
    progress: Progress,
    checkpoints: Checkpoints,
) -> None:
    lengths = [element.length for element in corpus.elements]
    batches = passes(lengths, settings.reward_batch, settings.reward_epochs, seed=seed)
    learner = Learner(model, corpus, settings)

    def step(index: int) -> Metrics:
        return learner.step(batches[index], cosine(index, len(batches)))

    model.stopped = run_steps(len(batches), step, learner.state(), progress, checkpoints).stopped
    if learner.style is not None:
        model.style_coefficients = learner.style.report()


class Learner:
    """All that changes while a reward model is trained: its LoRA, its head, the style beside it, the optimizer."""

    def __init__(self, model: RewardModel, corpus: Corpus, settings: TrainerSettings) -> None:
        self._model, self._corpus, self._settings = model, corpus, settings
        whole = collate(corpus.elements, model.base.device)
        self._with_ties = bool(whole.tied_P.any())
        self.style = _style_control(whole) if settings.reward_style_control else None
        features = list(model.head.features.parameters()) if model.head.features else []
        if corpus.features is not None:
            model.head.standardise_by(torch.cat(list(corpus.features)))
        rate, lora = settings.reward_learning_rate, adapter_parameters(model.base, model.name)
        head = [*model.head.hidden.parameters(), model.head.log_tie, *(self.style.parameters() if self.style else ())]
        groups = [(lora, rate), (head, HEAD_RATE * rate), (features, FEATURES_RATE * rate)]
        self.optimizer = Optimiser(*groups, world=model.base.world)

    def step(self, places: Sequence[int], rate: float = 1.0) -> Metrics:
        """One update on these elements."""
        model, elements = self._model, [self._corpus.elements[place] for place in places]
        weighing = sum(pair.weight for element in elements for pair in element.pairs)

        def loss_of(picked: list[int]) -> tuple[Tensor, Metrics]:
            chosen = collate([elements[index] for index in picked], model.base.device)
            features_AF = self._corpus.features_of([places[index] for index in picked])
            scores_A = model.scores(make_batch(model.base, chosen.rows), features_AF)
            return self._loss(scores_A, chosen, weighing), _metrics(scores_A.detach(), chosen)

        metrics = accumulate(model.base, model.name, [element.answers for element in elements], loss_of)
        return {**metrics, "grad_norm": self.optimizer.step(rate)}

    def state(self) -> dict[str, Stateful]:
        model = self._model
        adapter = AdapterState(model.base, model.name)
        found: dict[str, Stateful] = {"adapter": adapter, "head": model.head, "optimizer": self.optimizer}
        return found if self.style is None else {**found, "style": self.style}

    def _loss(self, scores_A: Tensor, chosen: Collated, weighing: float) -> Tensor:
        return pairs_loss(
            scores_A,
            chosen,
            log_tie=self._model.head.log_tie if self._with_ties else None,
            style=self.style,
            centring=self._settings.center_rewards_coefficient,
            weighing=weighing,
        )


def pairs_loss(
    scores_A: Tensor,
    chosen: Collated,
    *,
    log_tie: Tensor | None = None,
    style: StyleControl | None = None,
    centring: float = 0.0,
    weighing: float | None = None,
) -> Tensor:
    """sum(w * l) / sum(w) over all pairs of the elements; a ranking's pairs are averaged by that as well.

    `weighing` is the last sum of a larger batch, of which these elements are a part.
    """
    first_P, second_P = chosen.sides(scores_A)
    margins_P = first_P - second_P
    if style is not None:
        margins_P = margins_P + style(chosen.style_PS)
    losses_P = bradley_terry(margins_P, log_tie, asked_B=chosen.asked_P)
    if log_tie is not None:
        losses_P = torch.where(chosen.tied_P, tie_loss(margins_P, log_tie), losses_P)
    if centring:
        losses_P = losses_P + centring * centring_loss(first_P, second_P)
    return weighted_mean(losses_P, chosen.weights_P, weighing)


def _style_control(whole: Collated) -> StyleControl:
    return StyleControl(whole.style_PS, whole.weights_P * ~whole.tied_P)


def _centre(model: RewardModel, everything: Corpus) -> None:
    """Choices fix differences only, so the zero is put at the mean score of the same answers for every model.

    Exact for the whole; that no prompt's answers lie far from it is what `center_rewards_coefficient` is for.
    """
    generator = torch.Generator().manual_seed(0)
    picked = torch.randperm(len(everything.elements), generator=generator)[:REFERENCES].tolist()
    rows = [answer for place in picked for answer in everything.elements[place].answers]
    model.offset = float(model.raw_scores(rows, everything.features_of(picked)).mean())


def _part(progress: Progress, number: int, count: int) -> Progress:
    """One member's steps as a part of all."""

    def report(step: int, total: int, metrics: dict[str, float]) -> None:
        progress(number * total + step, count * total, metrics)

    return report


def _metrics(scores_A: Tensor, chosen: Collated) -> dict[str, float]:
    """TRL's names; accuracy over strict choices only."""
    first_P, second_P = chosen.sides(scores_A)
    margins_P = first_P - second_P
    strict = margins_P[~chosen.tied_P]
    accuracy = float((strict > 0).float().mean()) if len(strict) else 0.5
    return {"accuracy": accuracy, "margin": float(margins_P.mean())}
