"""How often rollouts abort falsely, how soon a worse version is stopped, and how many votes a better one needs.

`python -m tests.bench.rollouts [--rollouts 1000] [--json PATH]`: simulated rollouts through the usual steps, with the
product's own draw and looks, for versions that change everybody's vote rate by so much.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import beta, norm

from infra.console import print_table
from infra.contracts.rollouts import STEPS
from serving.monitors.planning import smallest_drop
from tests.support.simulated_rollouts import LIMITS, Course, World, simulate_one

RESULT = Path(".thumbwheel/bench/rollouts.json")
EFFECTS = (0.0, -0.02, -0.05, -0.10, 0.05)
SEED = 20
CHUNK = 10


def share(found: int, of: int, level: float = 0.95) -> dict[str, float]:
    """With the interval of Clopper and Pearson."""
    tail = (1 - level) / 2
    lo = float(beta.ppf(tail, found, of - found + 1)) if found else 0.0
    hi = float(beta.ppf(1 - tail, found + 1, of - found)) if found < of else 1.0
    return {"value": found / of, "lo": lo, "hi": hi}


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {name: float(np.quantile(values, place)) for name, place in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))}


def shares_seen(courses: Sequence[Course]) -> dict[str, Any]:
    """Raters by step against the share, and how many rollouts are outside of their own 95%."""
    found: dict[str, Any] = {}
    for wanted in dict.fromkeys(place for course in courses for place, _, _ in course.shares):
        met = [(raters, drawn) for course in courses for place, raters, drawn in course.shares if place == wanted]
        raters_C, drawn_C = np.array(met, np.float64).T
        away_C = (drawn_C - wanted * raters_C) / np.sqrt(raters_C * wanted * (1 - wanted))
        seen = float(drawn_C.sum() / raters_C.sum())
        outside = int((np.abs(away_C) > norm.ppf(0.975)).sum())
        found[f"{wanted:g}"] = {"seen": seen, "rollouts": len(met), "outside_95": outside / len(met)}
    return found


def summary(world: World, courses: Sequence[Course]) -> dict[str, Any]:
    outcomes = Counter(course.outcome for course in courses)
    ended = {name: [course for course in courses if course.outcome == name] for name in ("aborted", "passed")}
    return {
        "effect": world.effect,
        "rater_votes": world.rater_votes,
        "rollouts": len(courses),
        **{name: share(outcomes[name], len(courses)) for name in ("aborted", "passed", "asked")},
        "aborted_by": dict(Counter(name for course in ended["aborted"] for name in course.failed)),
        "aborted_at_step": {
            STEPS[step].title: count for step, count in sorted(Counter(c.step for c in ended["aborted"]).items())
        },
        "votes_until_aborted": quantiles([course.votes for course in ended["aborted"]]),
        "days_until_aborted": quantiles([course.days for course in ended["aborted"]]),
        "votes_until_passed": quantiles([course.votes for course in ended["passed"]]),
        "choices_until_passed": quantiles([course.choices for course in ended["passed"]]),
        "days_until_passed": quantiles([course.days for course in ended["passed"]]),
        "looks": quantiles([course.looks for course in courses]),
        "interval_held_at_all_looks": share(sum(course.covered for course in courses), len(courses)),
        "pooled_test_would_have_aborted": share(sum(course.naive is not None for course in courses), len(courses)),
        "sticky": share(sum(course.sticky for course in courses), len(courses)),
        "shares": shares_seen(courses),
    }


def measure(world: World, rollouts: int, pool: ProcessPoolExecutor) -> dict[str, Any]:
    began = time.monotonic()
    courses = list(pool.map(partial(simulate_one, world, SEED), range(rollouts), chunksize=CHUNK))
    return {**summary(world, courses), "seconds": time.monotonic() - began}


def show(results: Sequence[dict[str, Any]]) -> None:
    columns = ["effect", "aborted", "passed", "asked", "votes to abort", "votes to pass", "held", "sticky"]
    rows = [
        [
            f"{found['effect']:+.2f}",
            *(_told(found[name]) for name in ("aborted", "passed", "asked")),
            *(_middle(found[name]) for name in ("votes_until_aborted", "votes_until_passed")),
            _told(found["interval_held_at_all_looks"]),
            _told(found["sticky"]),
        ]
        for found in results
    ]
    print_table(columns, rows, title="simulated rollouts")


def _told(found: dict[str, float]) -> str:
    return f"{found['value']:.1%} [{found['lo']:.1%}, {found['hi']:.1%}]"


def _middle(found: dict[str, float] | None) -> str:
    return f"{found['p50']:.0f} ({found['p10']:.0f} to {found['p90']:.0f})" if found else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1000, help="of each effect")
    parser.add_argument("--effects", type=float, nargs="+", default=EFFECTS, help="on everybody's vote rate")
    parser.add_argument("--rater-votes", type=float, default=World().rater_votes, help="how alike raters are")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULT, help="where the figures go")
    options = parser.parse_args()
    found = {"alpha": LIMITS.alpha, "smallest_drop": smallest_drop(STEPS, LIMITS), "seed": SEED}
    results = list[dict[str, Any]]()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.processes) as pool:
        for effect in options.effects:
            world = World(effect=effect, rater_votes=options.rater_votes)
            results.append(measure(world, options.rollouts, pool))
            options.json.write_text(json.dumps({**found, "effects": results}, indent=2) + "\n")
            show(results[-1:])


if __name__ == "__main__":
    main()
