"""All settings, one frozen section per room, read from environment and one TOML file here and nowhere else.

`THUMBWHEEL_<SECTION>__<FIELD>` wins over `config.toml` in the state directory, which wins over the defaults. Under the
full profile what `thumbwheel services start` wrote down comes before the defaults.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from infra.contracts.rollouts import Step
from infra.sizes import BY_SIZE, Size

PREFIX = "THUMBWHEEL_"
HOME_VARIABLE = "THUMBWHEEL_HOME"
CONFIG_VARIABLE = "THUMBWHEEL_CONFIG"
PROFILE_FILE = Path("run") / "profile"  # what the stack was started on last: commands look at the same parts
SERVICES_FILE = Path("services") / "settings.toml"  # where the servers of this machine are
URL_PASSWORD = re.compile(r"(?<=:)[^:/@]+(?=@)")
MASK = "********"
POSTGRES_PORT = 5432
ENVIRONMENT = "environment"


class SettingsError(ValueError):
    """A setting is unknown or bad. The message names each one and what is wrong with it."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InfraSettings(Section):
    profile: Literal["embedded", "full"] = Field(
        "embedded", description="Which parts to run on: embedded needs no servers; full is Kafka, PostgreSQL and Redis."
    )
    database_url: SecretStr = Field(
        SecretStr(""), description="SQLAlchemy URL; empty means state.db in the state directory."
    )
    keyring_url: SecretStr = Field(
        SecretStr(""),
        description="SQLAlchemy URL of a PostgreSQL database for data keys alone, needed by more than one host; empty"
        " means keyring.db in the state directory.",
    )
    kafka_bootstrap_servers: tuple[str, ...] = Field((), description="Brokers to ask first, as host:port.")
    kafka_topic_prefix: str = Field(
        "", description="Put before the names of topics and groups, in a cluster that others use too."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to."
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="How we say who we are, where the protocol is one of SASL's."
    )
    kafka_sasl_username: str = Field("", description="The user of PLAIN and SCRAM.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="That user's password.")
    kafka_ssl_cafile: str = Field("", description="PEM file of the authority that signed the brokers' certificates.")
    kafka_ssl_certfile: str = Field("", description="PEM file of our own certificate, where brokers ask for one.")
    kafka_ssl_keyfile: str = Field("", description="PEM file of that certificate's key.")
    redis_url: SecretStr = Field(SecretStr(""), description="Redis of the full profile, as redis://:PASSWORD@HOST/0.")
    artifacts_url: str = Field(
        "", description="fsspec URL of the artifact store; empty means artifacts/ in the state directory."
    )
    eventlog_partitions: int = Field(
        4, ge=1, description="Partitions per topic; consumers share a topic by partitions."
    )
    eventlog_retention_days: float = Field(90, gt=0, description="Events older than this leave the log.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere."
    )
    lease_ttl_s: float = Field(10, gt=0, description="A lease without a heartbeat for this long may be taken over.")
    secret: SecretStr | None = Field(
        None, description="Root secret of tokens, ids and rater hashes; embedded mode makes one at the first start."
    )

    @model_validator(mode="after")
    def full_names_its_servers(self) -> Self:
        needed = ("kafka_bootstrap_servers", "database_url", "redis_url", "secret")
        missing = [name for name in needed if not getattr(self, name)]
        if self.profile == "full" and missing:
            raise ValueError(f"the full profile needs {', '.join(missing)}: set them, or run `make services`")
        return self

    @model_validator(mode="after")
    def keys_lie_apart(self) -> Self:
        keys, main = (url.get_secret_value() for url in (self.keyring_url, self.database_url))
        if keys and not keys.startswith("postgresql"):
            raise ValueError("keyring_url: must be a postgresql URL; for a file of this host leave it empty")
        if keys and main.startswith("postgresql") and _place(keys) == _place(main):
            raise ValueError(
                "keyring_url: names the same database as database_url: the keys need one of their own, since a backup"
                " that holds them brings erased people back"
            )
        return self


class GatewaySettings(Section):
    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port the gateway listens on; 0 picks a free one.")
    alias: str = Field("assistant", description="The model name that clients ask for.")
    offer_queries: bool = Field(
        False,
        description="Whether raters get questions that training chose: a consenting person's prompt, shown to others.",
    )
    cors_origins: tuple[str, ...] = Field((), description="Browser origins that may vote with an answer's token.")
    consent_default: bool = Field(
        False, description="Whether an answer may be trained on where the request says nothing."
    )
    max_body_bytes: int = Field(4 * 1024 * 1024, gt=0, description="Larger request bodies are refused with 413.")
    upstream_timeout_s: float = Field(300, gt=0, description="Longest silence of the engine before 504.")
    connect_timeout_s: float = Field(2, gt=0, description="Longest wait for a connection to the engine before 503.")
    upstream_connections: int = Field(1024, gt=0, description="Pooled connections to the engines.")
    mirror_most: int = Field(
        16, ge=0, description="Most requests that one gateway mirrors to a shadow at a time; others are not mirrored."
    )
    routing_poll_s: float = Field(0.1, gt=0, description="How often the routing table is read again.")
    routing_max_age_s: float = Field(
        60, gt=0, description="After this long without a readable table everything goes to its champion."
    )
    token_ttl_s: float = Field(7 * 86400, gt=0, description="How long an answer's feedback token is good for.")
    spool_max_bytes: int = Field(256 * 1024 * 1024, gt=0, description="Most that the local spool may hold.")
    log_ack_timeout_s: float = Field(
        2, gt=0, description="A vote the log has not acknowledged by then goes to the spool."
    )
    drain_timeout_s: float = Field(20, ge=1, description="Longest a stopping gateway waits for answers under way.")
    inline_body_limit: int = Field(512 * 1024, gt=0, description="Larger event bodies go to the artifact store.")
    export_wait_s: float = Field(5, ge=0, description="Longest a request waits for a person's export; then 202.")


class FeedbackSettings(Section):
    processes: int = Field(1, ge=1, description="Consumer processes on this machine; they share the log by partitions.")
    port: int = Field(
        0, ge=0, le=65535, description="Port of the first consumer's metrics and health; 0 picks free ones."
    )
    batch_size: int = Field(500, gt=0, description="Most events handled in one transaction.")
    poll_s: float = Field(0.2, gt=0, description="Longest wait for new events before looking for other work.")
    window_days: float = Field(90, gt=0, description="A dataset takes the events of this many days before its cut.")
    keep_days: float = Field(
        400, gt=0, description="Events older than this leave the database; must be longer than the window."
    )
    test_share: float = Field(0.2, gt=0, lt=1, description="Share of raters whose rows are held out as test.")
    gate_share: float = Field(0.2, ge=0, lt=1, description="Share of prompt clusters kept for the gates.")
    report_share: float = Field(0.1, ge=0, lt=1, description="Share of prompt clusters that only reports may use.")
    rater_cap: float = Field(200, gt=0, description="Most that one rater's judgements weigh together in one dataset.")
    prompt_cap: float = Field(50, gt=0, description="Most that the judgements on one prompt cluster weigh together.")
    network_cap: float = Field(400, gt=0, description="Most that raters who always agree weigh together.")
    network_overlap: int = Field(
        20, ge=2, description="Two raters may be called a network after this many questions that both answered."
    )
    rater_prior: float = Field(
        0.75, gt=0.5, lt=1, description="How often a rater is right of whom nothing is known; such a one weighs 1."
    )
    rater_prior_strength: float = Field(8, gt=0, description="How many answers that belief is worth.")
    rater_weight_max: float = Field(2, ge=1, description="Most that one judgement of a reliable rater weighs.")
    rater_segment_min: int = Field(
        10, ge=1, description="Answers from which on a rater's reliability is told by segment too."
    )
    segment_mix: dict[str, float] = Field(
        {}, description="Shares by segment that training shall see, as de=0.5,en=0.5; empty: as they come."
    )
    segment_weight_max: float = Field(5, ge=1, description="Most that a rare segment's judgements are multiplied by.")
    ai_shared_min: int = Field(
        50, ge=1, description="A model's votes weigh nothing before people decided this many of its questions."
    )
    ai_weight_max: float = Field(
        1, ge=0, description="Most that one vote of a model weighs; a person of whom nothing is known weighs 1."
    )
    ai_share: float = Field(
        1, ge=0, description="Most that the votes of all models weigh together, as a multiple of what people's weigh."
    )
    judge_url: str = Field(
        "", description="OpenAI-compatible endpoint that `thumbwheel judge` asks, as https://HOST/v1; empty: none."
    )
    judge_model: str = Field("", description="The model that is asked there.")
    judge_key_variable: str = Field(
        "", description="Name of the environment variable that holds that endpoint's key; empty: it needs none."
    )
    judge_constitution: str = Field(
        "", description="Text file with the principles that the judge is given; empty: those that come along."
    )
    judge_format: Literal["json_schema", "letter"] = Field(
        "json_schema",
        description="How it answers: JSON held to a schema, or one letter where a server knows no schema.",
    )
    judge_max_tokens: int = Field(512, ge=1, description="Most tokens of one answer, thinking included.")
    judge_concurrency: int = Field(8, ge=1, description="Requests to the judge at one time.")
    judge_timeout_s: float = Field(60, gt=0, description="Longest wait for one answer of the judge.")
    judge_attempts: int = Field(4, ge=1, description="How often one question is sent before the run stops.")
    too_fast_share: float = Field(
        0.25, ge=0, description="A vote faster than this share of the reading time is dropped."
    )
    too_fast_words_per_second: float = Field(
        5.0, gt=0, description="Fast adult reading, words per second (Brysbaert 2019)."
    )
    orphan_after_s: float = Field(
        3600, gt=0, description="A vote whose answer has not arrived by then is called orphaned; it joins all the same."
    )
    snapshot_processes: int = Field(
        0, ge=0, description="Processes that make a large dataset together; 0 is one for each core."
    )
    cut_timeout_s: float = Field(
        60, gt=0, description="Longest wait for the consumer to store what was acknowledged before a snapshot."
    )
    erasure_policy: Literal["accept", "retrain"] = Field(
        "accept", description="What becomes of adapters that an erasure touched: named only, or trained anew without."
    )
    redact_pii: bool = Field(
        False, description="Whether e-mail addresses, phone numbers, cards, IBANs and IPs are taken out of datasets."
    )
    redact_region: str = Field(
        "", pattern="^([A-Z]{2})?$", description="Country, as DE, whose national phone numbers are found too."
    )

    @model_validator(mode="after")
    def keeps_what_datasets_take(self) -> Self:
        if self.keep_days <= self.window_days + 1:
            raise ValueError("keep_days must be more than a day longer than window_days")
        return self


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
        description="JSONL of exact checks {name, messages, contains_all, contains_any, contains_none, refuses};"
        " empty: none.",
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


class ServingSettings(Section):
    port: int = Field(0, ge=0, le=65535, description="Port of the controller's metrics and health; 0 picks a free one.")
    model: str = Field("", description="Directory of a Hugging Face causal LM with a chat template.")
    replicas: int = Field(1, ge=0, description="Engine processes that answer users and are started here.")
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
        (), description="By which a version earns its traffic; `[]` promotes at once."
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
    judge_margin: float = Field(0.45, gt=0, lt=1, description="The judge's win rate must not be below this.")
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

    @model_validator(mode="after")
    def names_a_replica(self) -> Self:
        if not (self.replicas or self.replica_addresses or self.replica_dns or self.replica_file):
            raise ValueError("with no replicas replica_addresses, replica_dns or replica_file must be set")
        return self


class Settings(Section):
    """The whole; a room gets its own section only."""

    infra: InfraSettings = InfraSettings()
    gateway: GatewaySettings = GatewaySettings()
    feedback: FeedbackSettings = FeedbackSettings()
    trainer: TrainerSettings = TrainerSettings()
    serving: ServingSettings = ServingSettings()
    home: Path = Field(Path(".thumbwheel"), description="The state directory; deleting it is a clean start.")


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of `thumbwheel settings`. `value` is masked where it is secret."""

    name: str
    value: Any
    source: str
    default: Any
    description: str


def home_directory(environ: Mapping[str, str] | None = None) -> Path:
    """The state directory, for what must work before any setting is right."""
    env = os.environ if environ is None else environ
    return Path(env.get(HOME_VARIABLE, ".thumbwheel")).absolute()


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """What may be fetched again: shared by all checkouts of this user."""
    env = os.environ if environ is None else environ
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thumbwheel"


def load_settings(home: Path | None = None, environ: dict[str, str] | None = None) -> Settings:
    """Raises SettingsError naming every unknown or bad setting."""
    env = dict(os.environ) if environ is None else environ
    root = home.absolute() if home else home_directory(env)
    merged: dict[str, Any] = {}
    for found in reversed(_sources(root, env).values()):
        merged = _merge(merged, found)
    try:
        return Settings(home=root, **merged)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def secret_named(name: str, environ: Mapping[str, str] | None = None) -> SecretStr:
    """The secret in the environment variable that a setting names; raises SettingsError where it holds none."""
    value = (os.environ if environ is None else environ).get(name, "")
    if not value:
        raise SettingsError(f"the environment variable {name}, which a setting names, is not set")
    return SecretStr(value)


def describe_settings(settings: Settings, environ: dict[str, str] | None = None) -> Iterator[Setting]:
    """Every setting with its value, where it came from, its default and its description."""
    env = dict(os.environ) if environ is None else environ
    sources = _sources(settings.home, env)
    for section_name in ("infra", "gateway", "feedback", "trainer", "serving"):
        section: Section = getattr(settings, section_name)
        for name, field in type(section).model_fields.items():
            unsaid = _unsaid(section, name)
            source = next((told for told, found in sources.items() if name in found.get(section_name, {})), unsaid)
            told = variable(section_name, name) if source == ENVIRONMENT else source
            value, default = shown(getattr(section, name)), shown(field.default)
            yield Setting(f"{section_name}.{name}", value, told, default, field.description or "")


def shown(value: Any) -> Any:
    """Without what is secret: of an address only the password is."""
    if not isinstance(value, SecretStr):
        return value
    secret = value.get_secret_value()
    return URL_PASSWORD.sub(MASK, secret) if "://" in secret or not secret else MASK


def _unsaid(section: Section, name: str) -> str:
    """Where a value comes from that nobody set by name."""
    if isinstance(section, TrainerSettings) and name in BY_SIZE[section.size]:
        return f"size={section.size}"
    return "default"


def variable(section: str, name: str) -> str:
    """The environment variable of one setting."""
    return f"{PREFIX}{section}__{name}".upper()


def from_text(section: Any, name: str, value: str) -> Any:
    """A setting from the environment or a command line: lists have commas, shares also =, what has more to it is JSON;
    pydantic reads the rest. Raises SettingsError."""
    if value.lstrip().startswith(("[", "{")):
        return _from_json(name, value)
    default = getattr(section, "model_fields", {}).get(name)
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if default is not None and isinstance(default.default, dict):
        return {key.strip(): share for key, _, share in (part.partition("=") for part in parts)}
    return parts if default is not None and isinstance(default.default, tuple) else value


def _from_json(name: str, value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{name}: it begins like JSON and is none: {error}") from None


def _sources(home: Path, env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What each source says, the one that wins first."""
    found = {
        ENVIRONMENT: _from_environment(env),
        "config.toml": _from_file(home, env),
        "last start": _from_last_start(home),
    }
    profile = next((said["infra"]["profile"] for said in found.values() if "profile" in said.get("infra", {})), None)
    if profile == "full" and (home / SERVICES_FILE).is_file():
        found["make services"] = tomllib.loads((home / SERVICES_FILE).read_text())
    return found


def _from_last_start(home: Path) -> dict[str, Any]:
    path = home / PROFILE_FILE
    return {"infra": {"profile": path.read_text()}} if path.is_file() else {}


def _from_file(home: Path, env: dict[str, str]) -> dict[str, Any]:
    path = Path(env[CONFIG_VARIABLE]) if CONFIG_VARIABLE in env else home / "config.toml"
    if not path.exists():
        if CONFIG_VARIABLE in env:
            raise SettingsError(f"{CONFIG_VARIABLE} names {path}, which does not exist")
        return {}
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from None


def _from_environment(env: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in env.items():
        section, separator, name = key.removeprefix(PREFIX).lower().partition("__")
        if key.startswith(PREFIX) and separator:
            field = Settings.model_fields.get(section)
            found.setdefault(section, {})[name] = from_text(field.annotation if field else None, name, value)
    return found


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    sections = lower.keys() | upper.keys()
    return {name: {**lower.get(name, {}), **upper.get(name, {})} for name in sections}


def _place(url: str) -> tuple[str | None, int, str]:
    """Host, port and database: two addresses of one database differ in nothing else."""
    parts = urlsplit(url)
    return parts.hostname, parts.port or POSTGRES_PORT, parts.path


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        reason = "there is no such setting" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"{name}: {reason} (see `thumbwheel settings`)")
    return "\n".join(lines)
