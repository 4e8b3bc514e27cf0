"""Reward accuracy where votes are bad: a quarter of them flipped, and a fifth of the raters tossing coins.

`python -m tests.bench.noisy_raters [--seeds 3] [--json]`. The tiny random base learns what each word is worth from
simulated raters, with and without the weights that the feedback room computes from those votes alone, and with and
without an ensemble; measured on new pairs whose better answer is known.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from feedback.weighing.weights import weigh
from infra.console import print_json, print_table
from infra.settings import TrainerSettings
from tests.support.crowds import make_opinions
from tests.support.tiny_model import make_tiny_model
from tests.support.training import make_pair
from tests.support.weighing import make_mass, make_policy
from trainer.batches import encode
from trainer.data import Preference
from trainer.intervals import mean_interval
from trainer.methods import reward
from trainer.model import Base, load_base
from trainer.optimizing import threads
from trainer.rewarding import Reward

RESULT = Path(".thumbwheel/bench/noisy_raters.json")
WORDS = tuple("abcdefghijklmnopqrstuvwx")
ANSWER = 6  # words
FLIPPED, CARELESS = 0.25, 0.20
RATERS, PAIRS, VOTES_PER_PAIR, HELD_OUT = 40, 300, 3, 2000
LEAST_DIFFERENCE = 1.0  # in worth of words: closer answers are a matter of luck
MEMBERS = 4
SETTINGS: dict[str, Any] = {
    "reward_rank": 4,
    "reward_learning_rate": 3e-3,
    "reward_batch": 16,
    "reward_epochs": 2,
    "max_length": 128,
}


@dataclass(frozen=True)
class Votes:
    """V votes, each of one rater on one pair; `right_V` whether it is for the better answer."""

    pairs: Sequence[Preference]
    pair_V: np.ndarray
    rater_V: np.ndarray
    right_V: np.ndarray

    def rows(self, weight_V: np.ndarray) -> list[Preference]:
        return [
            replace(made, weight=float(weight), rater=f"rater-{rater}")
            for pair, rater, right, weight in zip(self.pair_V, self.rater_V, self.right_V, weight_V, strict=True)
            for made in [self.pairs[pair] if right else swapped(self.pairs[pair])]
        ]

    def weights(self) -> np.ndarray:
        """As a dataset's side files would have them: nobody says which votes are right."""
        opinions = make_opinions(self.rater_V, self.pair_V, self.right_V, raters=RATERS, items=len(self.pairs))
        mass = make_mass(self.rater_V, prompt_N=self.pair_V)
        return np.asarray(weigh(opinions, mass, [None], make_policy()).of(mass))


def swapped(pair: Preference) -> Preference:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)


def make_pairs(worth: dict[str, float], count: int, rng: np.random.Generator) -> list[Preference]:
    """The better answer is the chosen one."""
    found = list[Preference]()
    while len(found) < count:
        one, other = (rng.choice(WORDS, ANSWER) for _ in range(2))
        difference = sum(worth[word] for word in one) - sum(worth[word] for word in other)
        if difference > LEAST_DIFFERENCE:
            found.append(make_pair(" ".join(one), " ".join(other)))
    return found


def cast_votes(pairs: Sequence[Preference], rng: np.random.Generator, *, flipped: float, careless: float) -> Votes:
    right_R = np.full(RATERS, 1 - flipped)
    right_R[: round(careless * RATERS)] = 0.5
    rater_V = np.concatenate([rng.choice(RATERS, VOTES_PER_PAIR, replace=False) for _ in pairs])
    pair_V = np.repeat(np.arange(len(pairs)), VOTES_PER_PAIR)
    return Votes(pairs, pair_V, rater_V, rng.random(len(rater_V)) < right_R[rater_V])


@dataclass(frozen=True)
class Accuracy:
    """Over all held-out pairs; the share of pairs on which all members agree, and the accuracy on those."""

    overall: float
    agreed: float
    where_agreed: float


def accuracy(model: Reward, pairs: Sequence[Preference]) -> Accuracy:
    chosen, rejected = (
        model.member_scores([encode(model.base, pair.prompt, getattr(pair, side)) for pair in pairs])
        for side in ("chosen", "rejected")
    )
    right_P = (model.combine(chosen) > model.combine(rejected)).numpy()
    votes_P = (chosen > rejected).float().mean(1).numpy()
    agreed_P = (votes_P == 0) | (votes_P == 1)
    return Accuracy(float(right_P.mean()), float(agreed_P.mean()), float(right_P[agreed_P].mean()))


def trained(
    base: Base, rows: Sequence[Preference], held_out: Sequence[Preference], seed: int, *, members: int = 1
) -> Accuracy:
    settings = TrainerSettings.model_validate({**SETTINGS, "reward_members": members})
    model = reward.train(base, rows, [], name="reward", settings=settings, seed=seed, features=False)
    found = accuracy(model, held_out)
    model.close()
    return found


def measure(base: Base, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    worth = dict(zip(WORDS, rng.normal(size=len(WORDS)).tolist(), strict=True))
    pairs, held_out = make_pairs(worth, PAIRS, rng), make_pairs(worth, HELD_OUT, rng)
    clean = cast_votes(pairs, rng, flipped=0.0, careless=0.0)
    noisy = cast_votes(pairs, rng, flipped=FLIPPED, careless=CARELESS)
    even_V, weight_V = np.ones(len(noisy.pair_V)), noisy.weights()
    careless_V = noisy.rater_V < round(CARELESS * RATERS)
    ensemble = trained(base, noisy.rows(even_V), held_out, seed, members=MEMBERS)
    both = trained(base, noisy.rows(weight_V), held_out, seed, members=MEMBERS)
    return {
        "right votes": float(noisy.right_V.mean()),
        "weight of the careless": float(weight_V[careless_V].sum() / weight_V.sum()),
        "clean votes": trained(base, clean.rows(even_V), held_out, seed).overall,
        "noisy votes": trained(base, noisy.rows(even_V), held_out, seed).overall,
        "with weights": trained(base, noisy.rows(weight_V), held_out, seed).overall,
        "with an ensemble": ensemble.overall,
        "with both": both.overall,
        "with both, share on which members agree": both.agreed,
        "with both, where members agree": both.where_agreed,
    }


def gains(found: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Over training on the same votes as they are, paired by seed; needs two seeds."""
    compared = ("with weights", "with an ensemble", "with both")
    intervals = {name: mean_interval([each[name] - each["noisy votes"] for each in found]) for name in compared}
    return {name: interval.model_dump() for name, interval in intervals.items() if interval}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    with TemporaryDirectory() as directory, threads(1):
        base = load_base(make_tiny_model(Path(directory) / "model"))
        found = [measure(base, seed) for seed in range(options.seeds)]
    settings = {**SETTINGS, "members": MEMBERS, "raters": RATERS, "pairs": PAIRS, "votes_per_pair": VOTES_PER_PAIR}
    result = {
        "seeds": found,
        "gains": gains(found),
        "settings": settings,
        "seconds": round(time.monotonic() - began, 1),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print_json(result)
        return
    print_table(
        ("", *(f"seed {seed}" for seed in range(options.seeds)), "mean"),
        [
            (name, *(f"{each[name]:.3f}" for each in found), f"{statistics.mean(each[name] for each in found):.3f}")
            for name in found[0]
        ],
    )
    print_table(
        ("over noisy votes", "gain", "95%"),
        [(name, f"{g['value']:+.3f}", f"{g['lo']:+.3f} to {g['hi']:+.3f}") for name, g in gains(found).items()],
    )


if __name__ == "__main__":
    main()
