"""Hybrid: DPO on the pairs first, then samples of its own against the reward model, one adapter all along.

As Lambert et al. 2024, arXiv 2411.15124, go from DPO to PPO; but KL is to the anchor in both, not to what DPO made of
it: what the policy may move in all is one budget.
"""

from dataclasses import replace

from infra.settings import TrainerSettings
from trainer.history import Trained
from trainer.methods.policy import SAMPLING, PolicyContext, policy_method
from trainer.progress import Progress, StageProgress

PHASE = "warm_start"


def is_warmed(settings: TrainerSettings) -> bool:
    """Methods that learn from judgements themselves have nothing to be warmed up for."""
    return settings.policy_warm_start != "none" and settings.method in SAMPLING


def learns_from_pairs(settings: TrainerSettings) -> bool:
    """Whether the policy itself, and not its reward model alone, is trained on pairs."""
    return settings.method == "dpo" or is_warmed(settings)


def train_policy(context: PolicyContext, *, reference: str | None) -> Trained:
    """By the method that is set, after the warm-up that is set. `reference` is what DPO of the warm-up starts from."""
    method = policy_method(context.settings.method)
    if not is_warmed(context.settings):
        return method(context)
    first = replace(
        context,
        settings=context.settings.model_copy(update={"method": context.settings.policy_warm_start}),
        anchor=reference,
        directory=context.directory / PHASE,
        progress=_named(context.progress),
        checkpoints=context.checkpoints.part(PHASE),
    )
    then = replace(context, checkpoints=context.checkpoints.part("then"))
    return _joined(policy_method(first.settings.method)(first), method(then))


def _joined(first: Trained, then: Trained) -> Trained:
    """Figures of both phases, the first one's under its own name."""
    history = [*(_prefixed(step) for step in first.history), *then.history]
    stopped = "; ".join(filter(None, (first.stopped, then.stopped))) or None
    return Trained({**_prefixed(first.metrics), **then.metrics}, history, stopped)


def _named(progress: Progress) -> Progress:
    """A series of its own where steps are kept: the second phase begins at step 1 again."""
    if isinstance(progress, StageProgress):
        return progress.part(PHASE)

    def report(step: int, total: int, metrics: dict[str, float]) -> None:
        progress(step, total, _prefixed(metrics))

    return report


def _prefixed(metrics: dict[str, float]) -> dict[str, float]:
    return {f"{PHASE}/{name}": value for name, value in metrics.items()}
