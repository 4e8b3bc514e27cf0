"""How much of everything one run does: every count and rate of the demo, in one place."""

from dataclasses import dataclass, field
from typing import Any, Literal

Size = Literal["full", "smoke"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Counts of a run. The `expected_s` of each kind of stage is what two cores took, for the time that is left."""

    symbols: int = 200
    base_steps: int = 235
    checks: int = 200
    raters: int = 100
    pairs_first: int = 600  # the first cycle's reward model starts from nothing; later ones learn from all votes so far
    pairs_later: int = 220
    answers_per_question: int = 5  # a rater compares the first two that differ
    vote_concurrency: int = 24
    thumbs_share: float = 0.12
    rating_share: float = 0.06
    correction_share: float = 0.02
    report_questions: int = 200
    report_answers: int = 5  # per question and version
    report_concurrency: int = 32
    max_tokens: int = 64
    traffic_every_s: float = 1.0
    traffic_every_s_near_a_swap: float = 0.04
    bootstraps: int = 2000
    cycle_timeout_s: float = 600
    trainer: dict[str, Any] = field(default_factory=dict)
    serving: dict[str, Any] = field(default_factory=dict)
    expected_s: dict[str, float] = field(
        default_factory=lambda: {"base": 145, "start": 36, "votes": 36, "cycle": 95, "report": 18, "rollback": 6}
    )

    def pairs(self, cycle: int) -> int:
        """Comparisons to be acknowledged for cycle 1, 2, ..., beside those for the cycles before."""
        return self.pairs_first if cycle == 1 else self.pairs_later


TARGETS = ["o_proj", "down_proj"]  # what writes into the residual stream: as good as all, and 1.5 times faster to serve
TUNED = {
    "size": "tiny",
    "min_thumbs": 40,
    "init": "champion",
    "threads": 2,
    "lora_rank": 8,
    "lora_alpha": 16,
    "lora_target_modules": TARGETS,
    "reward_features": True,
    "reward_batch": 8,
    "reward_learning_rate": 1.5e-3,
    "preference_learning_rate": 1e-3,
    "preference_epochs": 2,
    "policy_learning_rate": 4e-3,
    "policy_beta": 0.03,
    "policy_steps": 8,
    "policy_prompts": 16,
    "policy_samples": 8,
    "policy_minibatch": 128,
    "policy_max_new_tokens": 64,
    "max_length": 192,
    "evaluate_prompts": 100,
    "regression_samples": 1,
}
# Few votes and no hours: a demo ends. The product's own steps see more (docs/rollouts.md).
QUICK = {"pairs": 0.5, "max_s": 60, "on_inconclusive": "advance"}
CANARIES = [{"share": 0.1, "min_votes": 10, **QUICK}, {"share": 0.5, "min_votes": 40, **QUICK}]
SERVING = {
    "max_model_len": 512,
    "max_lora_rank": 8,
    "lora_target_modules": TARGETS,
    "look_s": 0.5,
    "rollout_steps": CANARIES,
}
SMOKE = {
    **TUNED,
    "min_pairs": 8,
    "policy_steps": 2,
    "policy_prompts": 4,
    "policy_samples": 4,
    "evaluate_prompts": 8,
    "judge_share": 0.5,
    "guard_share": 0,  # its few raters are shared by reward model and judge
}
OPEN_GATES = {
    **SERVING,
    "judge_margin": 0.01,
    "judge_controlled_margin": 0.01,
    "style_drift_max": 1.0,
    "style_drift_limits": {},
    "regression_margin": 0.99,
    "length_ratio_max": 9,
}


def plan_for(size: Size) -> Plan:
    """`full` is the demo; `smoke` is every stage once and small, for tests: its figures mean nothing.

    Two policy steps make nothing better, so the smoke's gates let through whatever is valid: its swap is what counts.
    """
    if size == "full":
        return Plan(trainer=TUNED, serving=SERVING)
    return Plan(
        symbols=40,
        base_steps=60,
        checks=8,
        raters=20,
        pairs_first=180,
        pairs_later=120,
        report_questions=20,
        report_answers=2,
        bootstraps=200,
        trainer=SMOKE,
        serving=OPEN_GATES,
        expected_s={"base": 20, "start": 50, "votes": 10, "cycle": 30, "report": 3, "rollback": 8},
    )
