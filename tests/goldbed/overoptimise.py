"""Proxy against gold: `python -m tests.goldbed.overoptimise --seeds 0 1 2 3 4 --out DIRECTORY`.

Each seed trains once far beyond what is good for it. Every stopping rule is then applied to that one trajectory, and
with `--confirm` a run with the guard on shows that the loop stops where the rule says.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from infra.settings import TrainerSettings
from tests.goldbed.picture import Curve, Mark, draw
from tests.goldbed.rules import KLS, after_steps, guard_stop, guarded, kept_gain, left_out, peak_gain, smooth, within_kl
from tests.goldbed.trajectory import Trajectory, follow

STEPS = 140
HARD: dict[str, Any] = {"method": "rloo", "policy_learning_rate": 1e-3, "policy_beta": 0.0}
UNGUARDED: dict[str, Any] = {"policy_guard": False, "policy_kl_budget": 0}
GOLD, PROXY, HELD_OUT, STOP, QUIET = "#d9a441", "#c8553d", "#2a7f62", "#22313f", "#8795a1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path(".thumbwheel/goldbed"))
    parser.add_argument("--confirm", type=int, nargs="*", default=[], help="seeds that are trained with the guard too")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    trajectories = [smooth(_trajectory(wanted.out, seed)) for seed in wanted.seeds]
    found = {"seeds": rows(trajectories), "confirmed": [_confirmed(wanted.out, seed) for seed in wanted.confirm]}
    (wanted.out / "overoptimisation.json").write_text(json.dumps(found, indent=1))
    for trajectory in trajectories:
        (wanted.out / f"overoptimisation-{trajectory.seed}.svg").write_text(picture(trajectory))
    sys.stdout.write(table(found["seeds"]) + "\n" + json.dumps(found["confirmed"], indent=1) + "\n")


def rows(trajectories: Sequence[Trajectory]) -> list[dict[str, float]]:
    """One a seed: the gain in gold at its peak, at the end, and where each rule stops."""
    settings = TrainerSettings()
    steps, kls = [after_steps(count) for count in range(STEPS + 1)], [within_kl(budget) for budget in KLS]
    fixed = zip(trajectories, left_out(trajectories, steps), left_out(trajectories, kls), strict=True)
    found = []
    for trajectory, step_rule, kl_rule in fixed:
        kept, stopped = guard_stop(trajectory, settings)
        found.append(
            {
                "seed": trajectory.seed,
                "peak": peak_gain(trajectory),
                "peak_step": max(trajectory.looks, key=lambda look: look.gold).step,
                "end": trajectory.looks[-1].gold - trajectory.looks[0].gold,
                "guard": kept_gain(trajectory, guarded(settings)),
                "guard_kept": kept,
                "guard_stopped": stopped,
                "fixed_steps": kept_gain(trajectory, step_rule),
                "fixed_kl": kept_gain(trajectory, kl_rule),
            }
        )
    return found


def table(found: Sequence[dict[str, float]]) -> str:
    gains = ("peak", "end", "guard", "fixed_steps", "fixed_kl")
    lines = ["| seed | peak (at step) | unguarded end | guard (kept, stopped at) | fixed steps | fixed KL |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in found:
        lines.append(
            f"| {row['seed']} | {row['peak']:.2f} ({row['peak_step']}) | {row['end']:.2f} | {row['guard']:.2f}"
            f" ({row['guard_kept']}, {row['guard_stopped']}) | {row['fixed_steps']:.2f} | {row['fixed_kl']:.2f} |"
        )
    means = [fmean(row[name] for row in found) for name in gains]
    lines.append("| mean | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    return "\n".join(
        [
            *lines,
            "",
            *(f"{name}: {mean / means[0]:.0%} of the peak gain" for name, mean in zip(gains, means, strict=True)),
        ]
    )


def picture(trajectory: Trajectory) -> str:
    """Over steps: KL, which Gao et al. draw over, goes back and forth here."""
    start = trajectory.looks[0].gold
    kept, stopped = guard_stop(trajectory, TrainerSettings())
    curves = [
        Curve("reward (proxy)", PROXY, list(enumerate(_rolling(trajectory.proxy)))),
        Curve("held-out reward", HELD_OUT, list(enumerate(_rolling(trajectory.held_out)))),
        Curve("gold", GOLD, [(look.step, look.gold - start) for look in trajectory.looks]),
    ]
    marks = [Mark(f"kept ({kept})", QUIET, kept), Mark(f"stopped ({stopped})", STOP, stopped)]
    return draw(f"Seed {trajectory.seed}", "step", "gain over the SFT start", curves, marks)


def _rolling(values: Sequence[float], width: int = 8) -> list[float]:
    return [fmean(values[max(0, at - width + 1) : at + 1]) for at in range(len(values))]


def _trajectory(out: Path, seed: int) -> Trajectory:
    """Trained once a directory."""
    kept = out / f"trajectory-{seed}.json"
    if not kept.is_file():
        out.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(follow(out, seed, policy_steps=STEPS, **HARD, **UNGUARDED).as_json()))
    return Trajectory.from_json(json.loads(kept.read_text()))


def _confirmed(out: Path, seed: int) -> dict[str, Any]:
    found = follow(out, seed, policy_steps=STEPS, **HARD)
    return {"seed": seed, "stopped": found.stopped, "steps": len(found.history), **found.kept}


if __name__ == "__main__":
    main()
