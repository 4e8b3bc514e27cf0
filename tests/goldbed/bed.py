"""What every run of one seed starts from: a base, an SFT start, judged answers, a reward model and a held-out one."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from infra.settings import TrainerSettings
from tests.goldbed.gold import Rater, recruit
from tests.goldbed.world import demonstrations, learned_things, prompt, write_corpus
from trainer import scratch
from trainer.batches import Encoded
from trainer.data import Preference, Prompt, Unpaired
from trainer.methods import reward as reward_method
from trainer.methods import sft
from trainer.methods.policy import PolicyContext
from trainer.model import Base, attach_fresh, load_base
from trainer.rewarding import RewardModel
from trainer.transformers_sampler import TransformersSampler

START = "sft"  # the adapter that every method starts from and is held to
LONGEST = 24  # tokens of an answer


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked of whom."""

    corpus: int = 8000
    base_steps: int = 400
    demonstrations: int = 480
    pairs: int = 2400
    raters: int = 8
    held_out_raters: int = 4  # of these, whose votes train the held-out reward model alone


FULL = Size()


@dataclass(frozen=True, slots=True)
class Judged:
    pairs: list[Preference]
    thumbs: list[Unpaired]


@dataclass(frozen=True, slots=True)
class Bed:
    base: Base
    judged: Judged  # by those who are not held out
    reward: RewardModel
    held_out: RewardModel
    prompts: list[Prompt]
    sft_seconds: float

    def start_scores(self, model: RewardModel, samples: int = 16) -> dict[tuple[int, ...], float]:
        """By prompt: what the start's own answers score on average."""
        drawn = TransformersSampler(self.base).sample(
            self.prompts, adapter=START, n=samples, temperature=1.0, top_p=1.0, max_tokens=LONGEST, seed=1
        )
        rows = [Encoded(answer.prompt_ids, answer.token_ids) for group in drawn for answer in group]
        means = model.score_encoded(rows).view(-1, samples).mean(-1).tolist()
        return {tuple(group[0].prompt_ids): mean for group, mean in zip(drawn, means, strict=True)}


def settings_for(**overrides: Any) -> TrainerSettings:
    """Rates that suit half a million parameters; no product defaults."""
    tiny = {
        "lora_rank": 8, "lora_alpha": 16, "sft_learning_rate": 2e-3, "sft_epochs": 1, "reward_rank": 8,
        "reward_learning_rate": 1e-3, "reward_epochs": 4, "policy_prompts": 16, "policy_samples": 4,
        "policy_guard_samples": 16, "policy_minibatch": 64, "policy_max_new_tokens": LONGEST, "max_length": 64,
    }  # fmt: skip
    return TrainerSettings.model_validate({**tiny, **overrides})


def make_base(directory: Path, size: Size) -> Base:
    """The same for every seed; made once a directory."""
    if not (directory / "base").is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        corpus = write_corpus(directory / "corpus.jsonl", size=size.corpus, seed=0)
        scratch.build(corpus, directory / "base", steps=size.base_steps, width=128, layers=2, vocab=600)
    return load_base(directory / "base")


def make_bed(directory: Path, seed: int, size: Size = FULL) -> Bed:
    base, settings = make_base(directory, size), settings_for()
    attach_fresh(base, START, settings, seed)
    began = time.monotonic()
    sft.train(base, demonstrations(size.demonstrations, seed), adapter=START, settings=settings, seed=seed)
    seconds = time.monotonic() - began
    raters = recruit(size.raters, seed)
    mine, others = raters[size.held_out_raters :], raters[: size.held_out_raters]
    drawn = draw_pairs(base, size.pairs, seed)
    share = len(drawn) * len(mine) // len(raters)
    judged, elsewhere = judge(drawn[:share], mine, seed), judge(drawn[share:], others, seed + 1)
    return Bed(
        base=base,
        judged=judged,
        reward=_reward(base, judged, "reward", seed),
        held_out=_reward(base, elsewhere, "held_out", seed + 1),
        prompts=[prompt(thing) for thing in learned_things()],
        sft_seconds=seconds,
    )


def policy_context(bed: Bed, directory: Path, adapter: str, seed: int, **wanted: Any) -> PolicyContext:
    """What is no field of the context is a setting."""
    names = PolicyContext.__dataclass_fields__.keys()
    fields = {
        "base": bed.base, "adapter": adapter, "anchor": START, "seed": seed,
        "settings": settings_for(**{name: value for name, value in wanted.items() if name not in names}),
        "directory": directory / f"samples-{adapter}-{seed}", "samples_name": f"{adapter}-{seed}",
        "sampler": TransformersSampler(bed.base), "reward": bed.reward, "prompts": bed.prompts,
        "pairs": bed.judged.pairs, "unpaired": bed.judged.thumbs,
    }  # fmt: skip
    return PolicyContext(**{**fields, **{name: value for name, value in wanted.items() if name in names}})


def draw_pairs(base: Base, count: int, seed: int) -> list[tuple[str, str, str]]:
    """Thing and two answers of the SFT start."""
    things = random.Random(f"asked:{seed}").choices(learned_things(), k=count)
    drawn = TransformersSampler(base).sample(
        [prompt(thing) for thing in things],
        adapter=START, n=2, temperature=1.0, top_p=1.0, max_tokens=LONGEST, seed=seed,
    )  # fmt: skip
    return [(thing, first.text, second.text) for thing, (first, second) in zip(things, drawn, strict=True)]


def judge(drawn: Sequence[tuple[str, str, str]], raters: Sequence[Rater], seed: int) -> Judged:
    """Each pair by one rater, who also gives a thumb to each of its answers: up where it is better than usual."""
    rng = random.Random(f"votes:{seed}")
    pairs, thumbs = [], []
    levels = {rater.name: fmean(rater.score(thing, text) for thing, *texts in drawn for text in texts)
              for rater in raters}  # fmt: skip
    for index, (thing, first, second) in enumerate(drawn):
        rater, asked = raters[index % len(raters)], prompt(thing)
        if first.strip() == second.strip() or not first.strip() or not second.strip():
            continue
        won, lost = (first, second) if rater.prefers(thing, first, second, rng) else (second, first)
        pairs.append(Preference(asked, _said(won), _said(lost), rater=rater.name))
        for text in (first, second):
            liked = rater.likes(thing, text, levels[rater.name], rng)
            thumbs.append(Unpaired(asked, _said(text), liked, rater=rater.name))
    return Judged(pairs, thumbs)


def _reward(base: Base, judged: Judged, name: str, seed: int) -> RewardModel:
    model = reward_method.train(base, judged.pairs, [], name=name, settings=settings_for(), seed=seed, features=False)
    assert isinstance(model, RewardModel)  # one member
    return model


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
