"""What a policy is worth on things that no training saw: its mean gold reward, and how far it is from its start."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from infra.contracts.manifests import Interval
from tests.goldbed.bed import LONGEST, START
from tests.goldbed.gold import gold
from tests.goldbed.world import prompt, unseen_things
from trainer.batches import Encoded
from trainer.divergence import answer_kls
from trainer.intervals import mean_interval
from trainer.model import Base
from trainer.transformers_sampler import TransformersSampler

SAMPLES, SEED = 16, 4711


@dataclass(frozen=True, slots=True)
class Worth:
    """`golds` is the mean over the answers to each prompt, every one of which asks about another thing."""

    golds: list[float]
    kl: float  # nats per answer to the start, whole vocabulary, temperature 1
    length: float  # tokens

    @property
    def gold(self) -> float:
        return fmean(self.golds)


def measure(base: Base, adapter: str, *, samples: int = SAMPLES, seed: int = SEED) -> Worth:
    things = unseen_things()
    drawn = TransformersSampler(base).sample(
        [prompt(thing) for thing in things],
        adapter=adapter, n=samples, temperature=1.0, top_p=1.0, max_tokens=LONGEST, seed=seed,
    )  # fmt: skip
    answers = [Encoded(answer.prompt_ids, answer.token_ids) for group in drawn for answer in group]
    return Worth(
        golds=[fmean(gold(thing, answer.text) for answer in group) for thing, group in zip(things, drawn, strict=True)],
        kl=fmean(answer_kls(base, answers, policy=adapter, references=[START])[START]),
        length=fmean(len(answer.answer) for answer in answers),
    )


def gain(policy: Worth, start: Worth) -> Interval:
    """Of gold over the start, paired by prompt."""
    found = mean_interval(paired(policy.golds, start.golds))
    assert found is not None
    return found


def paired(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(mine, theirs, strict=True)]
