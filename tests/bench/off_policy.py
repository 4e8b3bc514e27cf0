"""The off-policy estimate against a known truth: bias, and how often its 95% interval holds the truth.

`python -m tests.bench.off_policy [--json FILE] [--replications 1000]`. A bandit whose truth is a finite sum, and tiny
language models whose truth is measured on the candidate's own answers; answers of a few tokens and of fifteen.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from infra.console import print_table
from tests.bench.off_policy_bandit import Bandit, Trial
from tests.bench.off_policy_models import Effort, Models, candidates
from trainer.off_policy import Estimate, doubly_robust, ips, mean_weight, snips
from trainer.vote_model import cross_fitted

VOTES, RATERS = 256, 64
EAGER = 0.5  # log-odds of a vote by point of liking, where people do not vote on all answers alike
BANDITS = [(4, 0.0), (4, 0.4), (4, 1.0), (15, 0.0), (15, 0.2), (15, 0.4), (15, 0.7), (15, 1.0)]
ESTIMATORS = ("ips", "snips", "dr")


class Scene(Protocol):
    """Somebody's logged votes, and a candidate whose vote rate is known."""

    @property
    def tokens(self) -> float: ...
    @property
    def kl(self) -> float: ...
    @property
    def truth(self) -> float: ...
    def draw(self, votes: int, raters: int, rng: np.random.Generator) -> Trial: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One estimator in one scene. `coverage` is of the trials that had an interval, whose share is `answered`."""

    bed: str
    voting: str
    tokens: float
    kl: float
    truth: float
    ess_share: float
    mean_weight: float
    estimator: str
    bias: float
    rmse: float
    coverage: float
    width: float
    answered: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--directory", type=Path, default=Path(".thumbwheel/bench/off_policy"))
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = list(measure(wanted.directory, wanted.replications, Effort()))
    if wanted.json:
        wanted.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print_table([*asdict(rows[0])], [[_told(value) for value in asdict(row).values()] for row in rows])


def measure(directory: Path, replications: int, effort: Effort) -> Iterator[Row]:
    for length, shift in BANDITS:
        for eager in (0.0, EAGER):
            yield from replicate("bandit", Bandit(length, shift, eager), eager, replications)
    for speech in ("short", "long"):
        for models in candidates(directory, speech, effort):
            for eager in (0.0, EAGER):
                found: Models = replace(models, eager=eager)
                yield from replicate("models", found, eager, replications)


def replicate(bed: str, scene: Scene, eager: float, replications: int, seed: int = 0) -> Iterator[Row]:
    rng, truth = np.random.default_rng(seed), scene.truth
    found: dict[str, list[Estimate]] = {name: [] for name in ESTIMATORS}
    shares, weights = list[float](), list[float]()
    for _ in range(replications):
        trial = scene.draw(VOTES, RATERS, rng)
        shares.append(trial.votes.effective_size / VOTES)
        weights.append(mean_weight(trial.votes))
        for name, estimate in estimates(trial).items():
            found[name].append(estimate)
    known = {"bed": bed, "voting": "by liking" if eager else "alike", "tokens": scene.tokens, "kl": scene.kl}
    means = {"truth": truth, "ess_share": float(np.mean(shares)), "mean_weight": float(np.mean(weights))}
    sys.stderr.write(f"{known} {means}\n")
    for name, some in found.items():
        yield Row(**known, **means, estimator=name, **_judged(some, truth))  # type: ignore[arg-type]  # one dict for all


def estimates(trial: Trial) -> dict[str, Estimate]:
    guesses = cross_fitted(trial.votes, trial.score_N, trial.own_NS)
    return {"ips": ips(trial.votes), "snips": snips(trial.votes), "dr": doubly_robust(trial.votes, *guesses)}


def _judged(some: Sequence[Estimate], truth: float) -> dict[str, float]:
    errors_T = np.array([one.value for one in some]) - truth
    intervals = [interval for one in some if (interval := one.interval(0.0, np.inf)) is not None]
    return {
        "bias": float(errors_T.mean()),
        "rmse": float(np.sqrt(np.square(errors_T).mean())),
        "coverage": float(np.mean([one.lo <= truth <= one.hi for one in intervals])) if intervals else float("nan"),
        "width": float(np.mean([one.hi - one.lo for one in intervals])) if intervals else float("nan"),
        "answered": len(intervals) / len(some),
    }


def _told(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
