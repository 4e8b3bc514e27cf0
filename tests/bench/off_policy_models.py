"""Real language models: a tiny one that answers, candidates at several distances, and raters whose taste is known.

The behaviour is the test bed's base, fine-tuned on answers of a stated length; candidates lie on the line from it
through a policy that DPO made of the raters' choices, so that they moved in the direction in which policies do. What
the candidate's vote rate is in truth is measured on its own answers, with the raters' chances instead of their votes.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.special import expit

from tests.bench.off_policy_bandit import VOTING_LEVEL, Trial
from tests.goldbed.bed import FULL, START, Judged, Size, draw_pairs, judge, make_base, settings_for
from tests.goldbed.gold import DECISIVE, gold, recruit
from tests.goldbed.world import MANNERS, Speech, answer, fitting_words, learned_things, prompt
from trainer.data import Demonstration
from trainer.divergence import answer_kls, tempered_logprobs
from trainer.lines import Encoded
from trainer.methods import dpo, sft
from trainer.methods.policy import PolicyContext
from trainer.model import Base, adapter_parameters, attach_fresh, copy_adapter, remove_adapter
from trainer.off_policy import Floats, Ints, Votes
from trainer.sampling import Sampled
from trainer.transformers_sampler import TransformersSampler

TUNED, CANDIDATE = "tuned", "candidate"
CARELESS = 0.1
CROWD = 1000  # raters, of whom each trial has some
MOST_TOKENS = 32
SPEECHES = {
    "short": Speech(manner=0.25, fitting=0.7, shortest=1, longest=2),
    "long": Speech(manner=0.25, fitting=0.7, shortest=10, longest=13),
}


@dataclass(frozen=True)
class Effort:
    """How much is drawn and trained; `shares` are how far on the line candidates are, 1 is DPO's policy."""

    size: Size = FULL
    logged: int = 400  # answers of the behaviour to each of the things
    own: int = 100  # and of each candidate
    shares: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Pool:
    """Many answers of one policy: what they ask about, gold and words of manner, a poor score, log-probabilities."""

    thing_N: Ints
    gold_N: Floats
    manners_NW: Floats
    score_N: Floats
    tokens: float
    rows: Sequence[Encoded]
    logprob_N: Floats


@dataclass(frozen=True)
class Models:
    """One candidate beside the behaviour."""

    logged: Pool
    own: Pool
    candidate_N: Floats  # its log-probabilities of the logged answers
    quirks_RW: Floats
    level: float
    kl: float
    eager: float = 0.0

    @property
    def tokens(self) -> float:
        return self.logged.tokens

    @property
    def truth(self) -> float:
        chance_N = self._voting(self.own)
        up_NR = self._up(self.own.gold_N[:, None], self.own.manners_NW @ self.quirks_RW.T)
        return float((chance_N * up_NR.mean(1)).sum() / chance_N.sum())

    def draw(self, votes: int, raters: int, rng: np.random.Generator) -> Trial:
        order = rng.permutation(len(self.logged.gold_N))
        picked = order[rng.random(len(order)) < self._voting(self.logged)[order]][:votes]
        quirks_RW = self.quirks_RW[rng.choice(len(self.quirks_RW), raters, replace=False)]
        rater_N = rng.integers(raters, size=votes)
        wish_N = (self.logged.manners_NW[picked] * quirks_RW[rater_N]).sum(1)
        up_N = (rng.random(votes) < self._up(self.logged.gold_N[picked], wish_N)).astype(np.float64)
        found = Votes(up_N, self.logged.logprob_N[picked], self.candidate_N[picked], rater_N, np.ones(votes))
        each = len(self.own.thing_N) // len(learned_things())
        own_N = self.logged.thing_N[picked] * each + rng.integers(each, size=votes)  # answers lie thing by thing
        return Trial(found, self.logged.score_N[picked], self.own.score_N[own_N][:, None])

    def _voting(self, pool: Pool) -> Floats:
        return np.asarray(expit(VOTING_LEVEL + self.eager * (pool.gold_N - self.level)))

    def _up(self, gold_N: Floats, wish_N: Floats) -> Floats:
        """As `tests.goldbed.gold.Rater` votes, as a chance."""
        return np.asarray(CARELESS / 2 + (1 - CARELESS) * expit(DECISIVE * (gold_N + wish_N - self.level)))


def candidates(directory: Path, speech: str, effort: Effort, seed: int = 0) -> Iterator[Models]:
    """Each distance once, by people who vote on all answers alike."""
    base = _trained(directory, SPEECHES[speech], effort, seed)
    logged = _pool(base, START, effort.logged, seed + 1)
    crowd = recruit(CROWD, seed, careless=CARELESS)
    quirks_RW = np.array([[rater.quirks[word] for word in MANNERS] for rater in crowd])
    for share in effort.shares:
        _blend(base, share)
        own = _pool(base, CANDIDATE, effort.own, seed + 2)
        logprobs = tempered_logprobs(base, logged.rows, [1.0] * len(logged.rows), CANDIDATE)
        kl = fmean(answer_kls(base, own.rows[::10], policy=CANDIDATE, references=[START])[START])
        yield Models(logged, own, np.array(logprobs), quirks_RW, float(logged.gold_N.mean()), kl)
        remove_adapter(base, CANDIDATE)


def _trained(directory: Path, speech: Speech, effort: Effort, seed: int) -> Base:
    """The behaviour, and a policy that DPO made of it."""
    base, rng = make_base(directory, effort.size), random.Random(f"shown:{seed}")
    settings = settings_for(preference_learning_rate=5e-4, preference_epochs=1, sft_epochs=3)
    attach_fresh(base, START, settings, seed)
    things = rng.choices(learned_things(), k=effort.size.demonstrations)
    shown = [Demonstration(prompt(t), {"role": "assistant", "content": answer(t, speech, rng)}) for t in things]
    sft.train(base, shown, adapter=START, settings=settings, seed=seed)
    judged: Judged = judge(draw_pairs(base, effort.size.pairs, seed), recruit(effort.size.raters, seed), seed)
    copy_adapter(base, START, TUNED)
    context = PolicyContext(base, TUNED, START, settings, seed, directory, "unused", pairs=judged.pairs)
    dpo.train(context)
    return base


def _blend(base: Base, share: float) -> None:
    """The candidate is so far from the behaviour on the way through DPO's policy."""
    copy_adapter(base, START, CANDIDATE)
    for mine, end in zip(adapter_parameters(base, CANDIDATE), adapter_parameters(base, TUNED), strict=True):
        mine.data.lerp_(end.data, share)


def _pool(base: Base, adapter: str, count: int, seed: int) -> Pool:
    things = learned_things()
    drawn = TransformersSampler(base).sample(
        [prompt(thing) for thing in things],
        adapter=adapter, n=count, temperature=1.0, top_p=1.0, max_tokens=MOST_TOKENS, seed=seed,
    )  # fmt: skip
    flat: list[tuple[str, Sampled]] = [(things[at], one) for at, group in enumerate(drawn) for one in group]
    return Pool(
        thing_N=np.repeat(np.arange(len(things)), count),
        gold_N=np.array([gold(thing, one.text) for thing, one in flat]),
        manners_NW=np.array([[one.text.split().count(word) for word in MANNERS] for _, one in flat], dtype=np.float64),
        score_N=np.array([float(len(fitting_words(thing).intersection(one.text.split()))) for thing, one in flat]),
        tokens=fmean(len(one.token_ids) for _, one in flat),
        rows=[Encoded(one.prompt_ids, one.token_ids) for _, one in flat],
        logprob_N=np.array([sum(one.logprobs) for _, one in flat]),
    )
