"""The serving room's settings."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.contracts.rollouts import STEPS, Step
from infra.sections.base import Section


class ServingSettings(Section):
    port: int = Field(0, ge=0, le=65535, description="Port of the controller's metrics and health; 0 picks a free one.")
    model: str = Field("", description="Directory of a Hugging Face causal LM with a chat template.")
    replicas: int = Field(1, ge=0, description="Engine processes that answer users and are started here.")
    next_model: str = Field(
        "", description="Directory of the base that is to follow: its engines are taken in beside those of `model`."
    )
    next_replicas: int = Field(0, ge=0, description="Engines of `next_model` that are started here, beside `replicas`.")
    replica_addresses: tuple[str, ...] = Field(
        (), description="host:port of engines that somebody else started; they are checked, then used like our own."
    )
    replica_dns: str = Field("", description="host:port whose addresses in the DNS are such engines.")
    replica_file: str = Field("", description="File that lists such engines: a JSON list, or one host:port a line.")
    discovery_s: float = Field(5, gt=0, description="How often the name and the file are looked at.")
    recheck_s: float = Field(
        60, gt=0, description="How often each replica must show again that it computes what was verified on it."
    )
    engine_port: int = Field(0, ge=0, le=65535, description="Port of the first engine; 0 picks free ones.")
    max_loras: int = Field(
        6, ge=1, description="Adapters on one engine: champion, challenger, previous, pinned, two for training."
    )
    max_lora_rank: int = Field(16, ge=1, description="Largest LoRA rank the engine takes.")
    lora_target_modules: tuple[str, ...] = Field(
        (), description="Linear layers whose LoRA the engine applies, by the last part of their name; empty: all."
    )
    max_model_len: int = Field(1024, ge=16, description="Longest prompt plus answer in tokens.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="auto: float32 on a CPU.")
    memory_share: float = Field(0.2, gt=0, lt=1, description="Share of memory the engine may plan with.")
    kv_cache_gib: float = Field(1.0, gt=0, description="Key-value cache of the CPU engine, in GiB.")
    start_timeout_s: float = Field(300, gt=0, description="Longest an engine may take to become healthy.")
    poll_s: float = Field(0.2, gt=0, description="How often the controller compares wanted with loaded.")
    drain_timeout_s: float = Field(
        60, gt=0, description="Longest wait for in-flight answers before an unload is postponed."
    )
    gateway_ttl_s: float = Field(5, gt=0, description="A gateway silent for this long no longer holds back a drain.")
    smoke_tolerance: float = Field(
        0.01, gt=0, description="Largest difference in nats between engine and trainer on the smoke prompts (fp32)."
    )
    auto_promote: bool = Field(
        True, description="Roll out by itself what passed every blocking gate, and promote it after the last step."
    )
    look_s: float = Field(5, gt=0, description="How often the evidence of a rollout on traffic is looked at.")
    rollout_steps: tuple[Step, ...] = Field(
        STEPS, description="By which a version earns its traffic; `[]` promotes at once."
    )
    gates_off: tuple[str, ...] = Field((), description="Gates that are not asked at all: their names.")
    gates_advisory: tuple[str, ...] = Field(
        (), description="Gates that block nothing, whatever they find: their names."
    )
    kl_anchor_budget: float = Field(10.0, gt=0, description="Most KL to the anchor, nats per answer.")
    kl_champion_budget: float = Field(10.0, gt=0, description="Most KL to the champion, nats per answer.")
    length_ratio_max: float = Field(
        2.0, gt=1, description="Most that answers may grow or shrink against the champion (x or 1/x)."
    )
    style_drift_max: float = Field(
        0.5, gt=0, le=1, description="Most a behaviour probe's rate may move against the champion."
    )
    style_drift_limits: dict[str, float] = Field(
        {"refusal": 0.15, "repetition": 0.15},
        description="Behaviour probes with a limit of their own, as refusal=0.15.",
    )
    judge_margin: float = Field(
        0.45, gt=0, lt=1, description="The judge's win rate must not be below this, at the gates and in the shadow."
    )
    judge_controlled_margin: float = Field(
        0.35, gt=0, lt=1, description="Nor its win rate at equal lengths below this."
    )
    judge_segment_margin: float = Field(0.35, gt=0, lt=1, description="Nor its win rate in any one segment below this.")
    regression_margin: float = Field(0.05, ge=0, lt=1, description="Most the share of passed exact checks may fall.")
    reward_fall_max: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Most that reward accuracy on held-out raters may fall in any segment, from the champion's model.",
    )
    perplexity_budget: float = Field(
        0.2, gt=0, description="Advisory: most the general text's nats per token may move against the champion."
    )
    reward_accuracy_min: float = Field(0.55, gt=0, lt=1, description="Advisory: reward accuracy on held-out raters.")
    off_policy_margin: float = Field(
        0.05, ge=0, lt=1, description="Advisory: most the estimated vote rate may be below the champion's."
    )
    off_policy_ess_min: float = Field(
        30, ge=2, description="Least effective number of votes for the off-policy estimate to say anything."
    )
    rollout_alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="Chance that a rollout of an equal version aborts, all monitors and looks together.",
    )
    rollout_min_raters: int = Field(
        10, ge=1, description="Raters of each arm before a monitor of means concludes anything."
    )
    rollout_rater_votes: float = Field(
        8,
        gt=0,
        description="After this many votes a rater counts half of what any number of votes could make it count.",
    )
    rollout_error_rise: float = Field(0.02, ge=0, le=1, description="Most that the share of failed answers may rise.")
    rollout_latency_ratio: float = Field(
        1.5, gt=1, description="Most that answers may take, as a multiple of the champion's time."
    )
    rollout_length_ratio: float = Field(
        2.0, gt=1, description="Most that answers to users may grow or shrink against the champion's (x or 1/x)."
    )
    rollout_refusal_rise: float = Field(0.1, ge=0, le=1, description="Most that the share of refusals may rise.")
    rollout_thumbs_down_rise: float = Field(
        0.1, ge=0, le=1, description="Most that thumbs down may rise, as a share of the answers that could be rated."
    )
    rollout_voting_odds: float = Field(
        1.25, ge=1, description="Most that the odds of voting may differ between the arms (x or 1/x)."
    )
    rollout_segment_drop: float = Field(
        0.05, ge=0, le=1, description="Most that the vote rate of any one segment may fall, whatever others gain."
    )

    @model_validator(mode="after")
    def names_a_replica(self) -> Self:
        if not (self.replicas or self.replica_addresses or self.replica_dns or self.replica_file):
            raise ValueError("with no replicas replica_addresses, replica_dns or replica_file must be set")
        if self.next_replicas and not self.next_model:
            raise ValueError("with next_replicas next_model must be set")
        return self
