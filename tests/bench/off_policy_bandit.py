"""A bandit whose answers are rows of independent symbols, so that the candidate's true vote rate is a finite sum."""

from dataclasses import dataclass
from itertools import product
from math import lgamma

import numpy as np
from scipy.special import expit

from trainer.off_policy import Floats, Ints, Votes

WORTH_K = np.array([1.0, 0.0, -1.0])  # of a symbol, in log-odds of an up
BEHAVIOUR_K = np.array([0.3, 0.4, 0.3])
LEANING = 0.6  # of half the raters up, of the others down
VOTING_LEVEL, VOTING_SLOPE = -1.0, 0.5  # people vote somewhat more often on answers that they like


@dataclass(frozen=True)
class Bandit:
    """Answers of `length` symbols; the candidate prefers worthy ones by `shift` in log-odds."""

    length: int
    shift: float

    @property
    def candidate_K(self) -> Floats:
        odds_K = BEHAVIOUR_K * np.exp(self.shift * WORTH_K)
        return np.asarray(odds_K / odds_K.sum())

    @property
    def kl(self) -> float:
        """Nats per answer, of the candidate to the behaviour."""
        return self.length * float((self.candidate_K * np.log(self.candidate_K / BEHAVIOUR_K)).sum())

    def liking(self, counts_NK: Ints) -> Floats:
        """Log-odds of an up without the rater's leaning, by how often each symbol occurs."""
        return np.asarray(2 * (counts_NK @ WORTH_K) / np.sqrt(self.length))

    def up(self, counts_NK: Ints, leaning_N: Floats) -> Floats:
        return np.asarray(expit(self.liking(counts_NK) + leaning_N))

    def voting(self, counts_NK: Ints) -> Floats:
        return np.asarray(expit(VOTING_LEVEL + VOTING_SLOPE * self.liking(counts_NK)))

    @property
    def truth(self) -> float:
        """P(up | voted) under the candidate, summed over all counts of symbols."""
        every = [row for row in product(range(self.length + 1), repeat=len(WORTH_K)) if sum(row) == self.length]
        counts_NK = np.array(every)
        ways_N = np.array([lgamma(self.length + 1) - sum(lgamma(n + 1) for n in row) for row in every])
        chance_N = np.exp(ways_N + counts_NK @ np.log(self.candidate_K)) * self.voting(counts_NK)
        leaning = np.full(len(every), LEANING)
        up_N = (self.up(counts_NK, leaning) + self.up(counts_NK, -leaning)) / 2
        return float((chance_N * up_N).sum() / chance_N.sum())

    def votes(self, count: int, raters: int, rng: np.random.Generator) -> tuple[Votes, Floats, Floats]:
        """That many votes on answers of the behaviour, and a poor model's guesses of them and of candidate answers."""
        drawn_NK = rng.multinomial(self.length, BEHAVIOUR_K, size=20 * count)
        counts_NK = drawn_NK[rng.random(20 * count) < self.voting(drawn_NK)][:count]
        rater_N = np.sort(rng.integers(raters, size=len(counts_NK)))
        leaning_N = LEANING * np.where(rater_N % 2, 1.0, -1.0)
        up_N = (rng.random(len(counts_NK)) < self.up(counts_NK, leaning_N)).astype(np.float64)
        own_NK = rng.multinomial(self.length, self.candidate_K, size=len(counts_NK))
        behaviour_N, candidate_N = (counts_NK @ np.log(chance_K) for chance_K in (BEHAVIOUR_K, self.candidate_K))
        votes = Votes(up_N, behaviour_N, candidate_N, rater_N, np.ones(len(counts_NK)))
        return votes, expit(self.liking(counts_NK) / 2), expit(self.liking(own_NK) / 2)
