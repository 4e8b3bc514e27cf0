"""The trainer's settings; a cycle may have its own."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.sections.base import Section
from infra.sizes import BY_SIZE, Size


class TrainerSettings(Section):
    port: int = Field(0, ge=0, le=65535, description="Port of the worker's metrics and health; 0 picks a free one.")
    method: Literal["auto", "ppo", "grpo", "rloo", "dpo", "kto"] = Field(
        "grpo", description="How the policy is trained; auto: as each cycle's data speaks for."
    )
    size: Size = Field(
        "small", description="How large the base is: sets learning rates, batches and steps that aren't set by name."
    )
    init: Literal["anchor", "champion"] = Field("anchor", description="What a cycle's policy starts from.")
    threads: int = Field(1, ge=1, description="CPU threads of torch beside a running engine.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="What trains: a GPU where there is one.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="The base's precision: bfloat16 on a GPU, float32 on a CPU. Adapters are float32 always."
    )
    recompute: bool = Field(
        False, description="Gradient checkpointing: less memory, and a third more work in the backward."
    )
    shard_base: bool = Field(False, description="FSDP: of several processes each keeps a part of the base's layers.")
    processes: int = Field(1, ge=1, description="Processes that train a cycle together on this machine, one per GPU.")
    launch_with: str = Field(
        "",
        description="What starts a cycle's processes instead, up to -m: accelerate launch --config_file FILE.",
    )
    checkpoint_s: float = Field(
        30, ge=0, description="How often a training keeps where it stands, to go on from there when it was killed."
    )
    sampler: Literal["engine", "transformers"] = Field("engine", description="Who writes the training samples.")
    seed: int = Field(0, ge=0, description="Seed of every random choice in a cycle.")
    min_pairs: int = Field(50, ge=1, description="Fewer pairs than this start no cycle, but KTO's.")
    min_thumbs: int = Field(100, ge=2, description="Fewer lone thumbs than this start no cycle of KTO.")
    data_checks: Literal["refuse", "warn"] = Field(
        "refuse",
        description="What a cycle does where its data can teach nothing good: one rater, one prompt, coin flips.",
    )
    threshold_pairs: int = Field(
        0, ge=0, description="A cycle starts by itself after this many new pairs, but KTO's; 0: never."
    )
    threshold_thumbs: int = Field(
        0, ge=0, description="A cycle of kto or auto starts by itself after this many new lone thumbs; 0: never."
    )
    schedule_s: float = Field(0, ge=0, description="A cycle starts by itself this often, in seconds; 0: never.")
    sweep_s: float = Field(2, gt=0, description="How often cycles without a live worker are looked for.")
    queue: Literal["cpu", "gpu"] = Field("cpu", description="Queue, so the kind of machine, that trainings go to.")
    worker_queues: tuple[Literal["cpu", "gpu"], ...] = Field(
        ("cpu", "gpu"), min_length=1, description="Queues that this worker takes from; sweeps and scores are on cpu."
    )
    report_to: tuple[Literal["mlflow", "tensorboard"], ...] = Field(
        (), description="Where metrics go besides metrics.jsonl: mlflow, tensorboard, or both."
    )
    max_length: int = Field(1024, gt=8, description="Longest prompt plus answer in tokens that is trained on.")
    lora_rank: int = Field(16, ge=1, description="Rank of the policy's LoRA.")
    lora_alpha: int = Field(32, ge=1, description="Scale of the policy's LoRA (alpha / rank).")
    lora_target_modules: tuple[str, ...] = Field(
        (), description="Linear layers with the policy's LoRA, by the last part of their name; empty: all."
    )
    sft_learning_rate: float = Field(2e-4, gt=0, description="SFT learning rate.")
    sft_epochs: int = Field(1, ge=1, description="SFT passes over the demonstrations.")
    sft_min_rows: int = Field(64, ge=1, description="Fewer demonstrations than this skip SFT.")
    judge_share: float = Field(
        0.3, ge=0, le=0.6, description="Share of raters whose votes train the judge instead of the reward model."
    )
    guard_share: float = Field(
        0.1,
        ge=0,
        le=0.3,
        description="Share of raters whose votes train the guard, which watches the policy's stage.",
    )
    reward_rank: int = Field(16, ge=1, description="Rank of the reward model's LoRA.")
    reward_learning_rate: float = Field(1e-4, gt=0, description="Reward model learning rate.")
    reward_epochs: int = Field(1, ge=1, description="Reward model passes over the pairs.")
    reward_batch: int = Field(16, ge=1, description="Judgements per reward model step: pairs, or whole rankings.")
    reward_features: bool = Field(
        False, description="The head also sees log-probability features under the adapter-free base."
    )
    reward_compare: bool = Field(
        False, description="Also train the reward model's other variant (features or none), only to compare both."
    )
    policy_warm_start: Literal["none", "dpo"] = Field(
        "none", description="What GRPO, RLOO and PPO start with: DPO on the pairs, or nothing."
    )
    policy_learning_rate: float = Field(1e-5, gt=0, description="Policy learning rate.")
    reward_margin_scale: float = Field(
        1.0,
        ge=0,
        description="Scores are to differ by this times a row's `margin`; 0 leaves margins out.",
    )
    reward_style_control: bool = Field(
        False,
        description="Length, headers, lists and bold explain choices beside the score, not in it.",
    )
    center_rewards_coefficient: float = Field(
        0, ge=0, description="Weight of the squared sum of a pair's scores in the reward model's loss; 0: none."
    )
    reward_members: int = Field(
        1,
        ge=1,
        description="Reward models in the ensemble, each of its own seed and order, and without a part of the raters.",
    )
    reward_score: Literal["mean", "worst", "uncertainty"] = Field(
        "mean", description="An ensemble's score: its members' mean, their least, or the mean less their disagreement."
    )
    reward_uncertainty_weight: float = Field(
        1.0, ge=0, description="Times the members' standard deviation, taken from the mean by reward_score uncertainty."
    )
    conversation_discount: float = Field(
        0.9, gt=0, le=1, description="Feedback on a whole conversation: each turn's part of it over the next turn's."
    )
    policy_steps: int = Field(50, ge=1, description="Policy steps per cycle.")
    policy_prompts: int = Field(16, ge=1, description="Prompts per policy step.")
    policy_samples: int = Field(8, ge=2, description="Samples per prompt and step.")
    policy_epochs: int = Field(1, ge=1, description="Update passes over each step's samples.")
    policy_minibatch: int = Field(64, ge=1, description="Samples per optimizer step.")
    policy_beta: float = Field(0.04, ge=0, description="Weight of the KL penalty to the anchor.")
    policy_clip: float = Field(0.2, gt=0, description="Clip range of the policy ratio.")
    policy_truncate: float = Field(2.0, gt=0, description="Cap of the trainer-over-sampler importance ratio.")
    policy_overlap: bool = Field(
        False, description="The engine draws a step's samples while the step before is learnt from (one step behind)."
    )
    policy_truncated_answers: Literal["penalise", "mask"] = Field(
        "penalise", description="What happens to answers cut by the length limit."
    )
    policy_average: Literal["bnpo", "grpo", "dr_grpo"] = Field(
        "bnpo", description="GRPO's mean: over tokens, over answers first, or over the longest answer's length."
    )
    policy_scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="What GRPO's advantages are divided by: a standard deviation, or nothing."
    )
    policy_normalise_advantages: bool = Field(
        False, description="RLOO's advantages are standardised over the step's samples."
    )
    ppo_value_clip: float = Field(0.2, gt=0, description="How far a value may move from its old one per step of PPO.")
    ppo_gamma: float = Field(1.0, gt=0, le=1, description="PPO's discount per token.")
    ppo_lambda: float = Field(0.95, ge=0, le=1, description="GAE's lambda.")
    ppo_whiten_rewards: bool = Field(False, description="PPO's token rewards are scaled to deviation 1.")
    ppo_kl_target: float = Field(
        0, ge=0, description="KL to the anchor, nats per answer, that PPO's coefficient is steered to; 0: it stays."
    )
    ppo_ptx: float = Field(0, ge=0, description="Weight of demonstrations mixed into PPO's updates; 0: none.")
    preference_learning_rate: float = Field(1e-5, gt=0, description="Learning rate of DPO and KTO.")
    preference_epochs: int = Field(1, ge=1, description="Passes of DPO and KTO over the rows.")
    preference_batch: int = Field(16, ge=1, description="Rows per step of DPO and KTO.")
    dpo_beta: float = Field(0.1, gt=0, description="How strongly DPO holds the policy to its reference.")
    dpo_loss: Literal["sigmoid", "ipo"] = Field("sigmoid", description="DPO's loss, or IPO's.")
    dpo_label_smoothing: float = Field(0, ge=0, lt=0.5, description="Share of choices that DPO believes to be wrong.")
    kto_beta: float = Field(0.1, gt=0, description="How strongly KTO holds the policy to its reference.")
    policy_guard: bool = Field(
        True, description="Sampling methods end where a held-out reward model turns, if there is one; the best is kept."
    )
    policy_guard_z: float = Field(
        2.5, gt=0, description="Standard errors that the held-out reward loses from its best before it counts as lost."
    )
    policy_guard_kl_price: float = Field(
        0.05, ge=0, description="Log-odds of the held-out reward that a nat of KL to the anchor must be worth."
    )
    policy_guard_patience: int = Field(
        5, ge=1, description="Steps in a row on which it must have lost so much before the training ends."
    )
    policy_guard_samples: int = Field(
        4, ge=1, description="Answers per prompt, drawn before the first step, that the held-out reward starts from."
    )
    policy_guard_drift: float = Field(
        0.5,
        gt=0,
        le=1,
        description="A behaviour probe's rate that moves further since the first steps is a warning.",
    )
    policy_guard_probes: Literal["warn", "stop"] = Field("warn", description="What such a move does to the training.")
    policy_kl_budget: float = Field(
        10.0, ge=0, description="Sampling methods end at more KL to the anchor, nats per answer; 0: no such end."
    )
    policy_max_new_tokens: int = Field(256, ge=1, description="Longest training sample in tokens.")
    evaluate_prompts: int = Field(200, ge=1, description="Most gate prompts used by the evaluation.")
    query_pairs: int = Field(
        20, ge=0, description="Most questions for raters that a cycle makes where its reward models disagree; 0: none."
    )
    evaluate_samples: int = Field(2, ge=1, description="Samples per gate prompt and version.")
    off_policy_answers: int = Field(
        256, ge=0, description="Most logged answers with held-out raters' votes for the off-policy estimate; 0: none."
    )
    regression_file: str = Field(
        "",
        description="JSONL of exact checks {name, messages, tools, contains_all, contains_any, contains_none,"
        " refuses}; empty: none. Cases from live answers come on top of it.",
    )
    canary_file: str = Field("", description="JSONL of facts that no vote may shift, as exact checks; empty: none.")
    safety_file: str = Field(
        "", description="JSONL of prompts with what must be refused or never said, as exact checks; empty: none."
    )
    general_text_file: str = Field(
        "", description="Text that nobody votes on, whose likelihood is compared with the champion's; empty: none."
    )
    segment_min_prompts: int = Field(
        60, ge=2, description="A segment of fewer gate prompts blocks a version only where it is shown worse."
    )
    segment_min_raters: int = Field(
        20, ge=2, description="A segment of fewer held-out raters blocks a version only where it is shown worse."
    )
    regression_samples: int = Field(1, ge=1, description="Answers per exact check and version; 1 decodes greedily.")

    @model_validator(mode="after")
    def suits_its_size(self) -> Self:
        """What is set by name stays, and alone counts as set."""
        for name, value in BY_SIZE[self.size].items():
            if name not in self.model_fields_set:
                object.__setattr__(self, name, value)
        return self


# The worker's, not a cycle's.
NOT_PER_CYCLE = frozenset({
    "port", "sweep_s", "threshold_pairs", "threshold_thumbs", "schedule_s", "queue", "worker_queues", "processes",
    "launch_with",
})  # fmt: skip
