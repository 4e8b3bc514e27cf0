"""Versions that can be told apart by any answer: what each says to every prompt, and to no other version's liking."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from infra.contracts.manifests import AdapterManifest
from tests.support.versions import make_version
from trainer.data import Prompt, encode_prompt
from trainer.model import Base, load_adapter, remove_adapter, using

TOKENS = 32
CLEAR = 5e-4  # nats between a greedy token and the next best: engine and trainer agree to 1e-5 in float32
FREQUENCY_PENALTY = 2.0  # as a request's: random weights would say one token for ever
QUESTIONS = ("Tell me a.", "Tell me e.", "Tell me o.")  # equally long in tokens

Answers = dict[str, tuple[int, ...]]  # question -> token ids


@dataclass(frozen=True, slots=True)
class Made:
    """A version in its working directory, not published yet, and what it answers greedily by the trainer's model."""

    manifest: AdapterManifest
    directory: Path
    answers: Answers

    @property
    def version(self) -> str:
        return self.manifest.version


def make_versions(base: Base, directory: Path, wanted: int) -> Iterator[Made]:
    """Of random adapters those whose every token is clearly the best one, and whose answers nobody else gives."""
    seen: set[tuple[str, tuple[int, ...]]] = set()
    made = 0
    for seed in count():
        if made == wanted:
            return
        place = directory / str(seed)
        manifest = make_version(base, place, seed=seed)
        answers = own_answers(base, place)
        if answers is None or not seen.isdisjoint(answers.items()):
            continue
        seen.update(answers.items())
        made += 1
        yield Made(manifest, place, answers)


def own_answers(base: Base, directory: Path) -> Answers | None:
    """None where some token was a close call."""
    load_adapter(base, "own", directory)
    try:
        return plain_answers(base, "own")
    finally:
        remove_adapter(base, "own")


@torch.no_grad()
def plain_answers(base: Base, adapter: str | None = None) -> Answers | None:
    """With what is loaded under that name, or with nothing; None as above. All questions are asked at once: their
    prompts are equally long."""
    prompts = [encode_prompt(base.tokenizer, Prompt([{"role": "user", "content": q}])) for q in QUESTIONS]
    ids_BT, said_BV = torch.tensor(prompts), torch.zeros(len(prompts), base.model.config.vocab_size)
    with using(base, adapter):
        for _ in range(TOKENS):
            best_B2, ids_B2 = (base.model(ids_BT).logits[:, -1] - FREQUENCY_PENALTY * said_BV).topk(2)
            if bool((best_B2[:, 0] - best_B2[:, 1] < CLEAR).any()):
                return None
            ids_BT = torch.cat([ids_BT, ids_B2[:, :1]], dim=1)
            said_BV.scatter_add_(1, ids_B2[:, :1], torch.ones(len(prompts), 1))
    answers = ids_BT[:, len(prompts[0]) :].tolist()
    return {question: tuple(ids) for question, ids in zip(QUESTIONS, answers, strict=True)}
