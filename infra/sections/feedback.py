"""The feedback room's settings."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.sections.base import Section


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
