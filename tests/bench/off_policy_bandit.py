"""A bandit whose answers are rows of independent symbols, so that the candidate's true vote rate is a finite sum."""

from dataclasses import dataclass
from itertools import product
from math import lgamma
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from trainer.off_policy import Floats, Ints, Votes

WORTH_K = np.array([1.0, 0.0, -1.0])  # of a symbol, in log-odds of an up
BEHAVIOUR_K = np.array([0.3, 0.4, 0.3])
LEANING = 0.6  # of half the raters up, of the others down
VOTING_LEVEL = -1.0  # log-odds of a vote at all


class Trial(NamedTuple):
    """Votes on logged answers, and a poor model's scores of these and of the candidate's own to the same prompts."""

    votes: Votes
    score_N: Floats
    own_NS: Floats


@dataclass(frozen=True)
class Bandit:
    """Answers of `length` symbols; the candidate prefers worthy ones by `shift` in log-odds.

    `eager` is by how much more people vote, in log-odds, for each point of how much they like an answer.
    """

    length: int
    shift: float
    eager: float = 0.0

    @property
    def candidate_K(self) -> Floats:
        odds_K = BEHAVIOUR_K * np.exp(self.shift * WORTH_K)
        return np.asarray(odds_K / odds_K.sum())

    @property
    def tokens(self) -> float:
        return float(self.length)

    @property
    def kl(self) -> float:
        """Nats per answer, of the candidate to the behaviour."""
        return self.length * float((self.candidate_K * np.log(self.candidate_K / BEHAVIOUR_K)).sum())

    @property
    def truth(self) -> float:
        """P(up | voted) under the candidate, summed over all counts of symbols."""
        every = [row for row in product(range(self.length + 1), repeat=len(WORTH_K)) if sum(row) == self.length]
        counts_NK = np.array(every)
        ways_N = np.array([lgamma(self.length + 1) - sum(lgamma(n + 1) for n in row) for row in every])
        chance_N = np.exp(ways_N + counts_NK @ np.log(self.candidate_K)) * self.voting(counts_NK)
        leaning_N = np.full(len(every), LEANING)
        up_N = (self.up(counts_NK, leaning_N) + self.up(counts_NK, -leaning_N)) / 2
        return float((chance_N * up_N).sum() / chance_N.sum())

    def liking(self, counts_NK: Ints) -> Floats:
        """Log-odds of an up without the rater's leaning, by how often each symbol occurs."""
        return np.asarray(2 * (counts_NK @ WORTH_K) / np.sqrt(self.length))

    def up(self, counts_NK: Ints, leaning_N: Floats) -> Floats:
        return np.asarray(expit(self.liking(counts_NK) + leaning_N))

    def voting(self, counts_NK: Ints) -> Floats:
        return np.asarray(expit(VOTING_LEVEL + self.eager * self.liking(counts_NK)))

    def draw(self, votes: int, raters: int, rng: np.random.Generator) -> Trial:
        asked_NK = rng.multinomial(self.length, BEHAVIOUR_K, size=20 * votes)
        counts_NK = asked_NK[rng.random(len(asked_NK)) < self.voting(asked_NK)][:votes]
        rater_N = rng.integers(raters, size=votes)
        leaning_N = LEANING * np.where(rater_N % 2, 1.0, -1.0)
        up_N = (rng.random(votes) < self.up(counts_NK, leaning_N)).astype(np.float64)
        own_NK = rng.multinomial(self.length, self.candidate_K, size=votes)
        behaviour_N, candidate_N = (counts_NK @ np.log(chance_K) for chance_K in (BEHAVIOUR_K, self.candidate_K))
        score_N, own_N = (_poor(some_NK) for some_NK in (counts_NK, own_NK))
        return Trial(Votes(up_N, behaviour_N, candidate_N, rater_N, np.ones(votes)), score_N, own_N[:, None])


def _poor(counts_NK: Ints) -> Floats:
    """Sees the good symbols only."""
    return np.asarray(counts_NK[:, 0], dtype=np.float64)
