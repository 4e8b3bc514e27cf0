"""When to stop, decided on trajectories that ran to their end: the guard beside a fixed number of steps and a fixed KL.

The fixed rules get the number that was best on average over the other seeds, as somebody would have found by trying.
"""

from collections.abc import Callable, Sequence
from statistics import fmean

from infra.settings import TrainerSettings
from tests.goldbed.trajectory import Look, Trajectory
from trainer.guard import Guard
from trainer.observation import Observation

KLS = [0.1 * 1.1**power for power in range(70)]  # nats per answer, 0.1 to 72
Rule = Callable[[Trajectory], int]  # the step whose policy is kept


def smooth(trajectory: Trajectory) -> Trajectory:
    """Gold as the mean of three looks, so that no rule, and not the peak, profits from one lucky measurement."""
    looks = trajectory.looks
    middle = [
        Look(look.step, fmean(one.gold for one in looks[index - 1 : index + 2]), look.kl)
        for index, look in enumerate(looks)
        if 0 < index < len(looks) - 1
    ]
    return Trajectory(trajectory.seed, [looks[0], *middle, looks[-1]], trajectory.history)


def guarded(settings: TrainerSettings) -> Rule:
    return lambda trajectory: guard_stop(trajectory, settings)[0]


def guard_stop(trajectory: Trajectory, settings: TrainerSettings) -> tuple[int, int]:
    """The step whose policy is kept, and the one at which the training ends."""
    guard, last = Guard(settings), len(trajectory.history)
    for step, metrics in enumerate(trajectory.history):
        if guard.observe(step, Observation.read(metrics)).stop:
            return guard.best_step, step
    return (last if guard.still_gaining else guard.best_step), last


def after_steps(count: int) -> Rule:
    return lambda trajectory: min(count, len(trajectory.history))


def within_kl(budget: float) -> Rule:
    def kept(trajectory: Trajectory) -> int:
        beyond = next((step for step, kl in enumerate(trajectory.kl) if kl > budget), len(trajectory.history))
        return max(0, beyond - 1)

    return kept


def kept_gain(trajectory: Trajectory, rule: Rule) -> float:
    return trajectory.gold_at(rule(trajectory)) - trajectory.looks[0].gold


def peak_gain(trajectory: Trajectory) -> float:
    return max(look.gold for look in trajectory.looks) - trajectory.looks[0].gold


def best_of(rules: Sequence[Rule], others: Sequence[Trajectory]) -> Rule:
    return max(rules, key=lambda rule: fmean(kept_gain(trajectory, rule) for trajectory in others))


def left_out(trajectories: Sequence[Trajectory], rules: Sequence[Rule]) -> list[Rule]:
    """For each trajectory the rule that is best for all the others."""
    return [best_of(rules, [one for one in trajectories if one is not mine]) for mine in trajectories]
