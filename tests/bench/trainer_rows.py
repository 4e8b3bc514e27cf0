"""Builds what both sides of the trainer benchmark start from: a random Llama, a policy that counts, and rows.

Run as a process of its own with the root directory and a case's key. Words are made of syllables and each conversation
of random words; only lengths and sharing matter to speed, and nothing is fetched from anywhere.
"""

import itertools
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.bench.trainer_work import ALPHA, LONGEST, PAIRED, RANK, SAMPLING, SIZES, Place, Size, Work
from trainer.data import Prompt, encode_answer, encode_prompt
from trainer.model import Base, adapter_parameters, attach_adapter, load_base, save_adapter
from trainer.vocabulary import save_tokenizer, train_tokenizer

SYLLABLES = [a + b for a, b in itertools.product("bdfgklmnprstvz", "aeiou")]
DISTURBANCE = 0.02  # of random normal numbers: some nats an answer
CONVERSATION = 900  # most tokens of a whole one, before `scale`

Row = dict[str, Any]


def words(count: int, seed: int = 0) -> list[str]:
    """Distinct, of two to four syllables."""
    rng, found = random.Random(seed), dict[str, None]()
    while len(found) < count:
        found["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4)))] = None
    return list(found)


def build_model(directory: Path, size: Size) -> None:
    """Nearly every word becomes one token. A vocabulary that the words don't fill is left empty at its end."""
    vocabulary = words(size.vocab)
    tokenizer = train_tokenizer([" " + word for word in vocabulary for _ in range(2)], size=size.vocab)
    heads = size.width // 64
    config = LlamaConfig(
        vocab_size=size.vocab, hidden_size=size.width, intermediate_size=size.width * 5 // 2,
        num_hidden_layers=size.layers, num_attention_heads=heads, num_key_value_heads=heads, head_dim=64,
        max_position_embeddings=LONGEST, tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    save_tokenizer(tokenizer, directory)
    LlamaForCausalLM(config).save_pretrained(directory)


def build_adapter(base: Base, directory: Path) -> None:
    """A LoRA whose B is not zero: what it and the reference say of an answer differs from the first step on."""
    attach_adapter(base, "policy", rank=RANK, alpha=ALPHA, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter_parameters(base, "policy"):
        parameter.data.add_(DISTURBANCE * torch.randn(parameter.shape, generator=generator))
    save_adapter(base, "policy", directory)


def reward_weights(width: int) -> torch.Tensor:
    """[1, width], the head of PPO's reward model: what it has learned does not matter, only that it says something."""
    return torch.randn(1, width, generator=torch.Generator().manual_seed(2)) * (1 / math.sqrt(width))


class Writer:
    """Random conversations with the lengths of one mix."""

    def __init__(self, work: Work, vocabulary: Sequence[str]) -> None:
        self._work, self._vocabulary = work, vocabulary
        self._rng = random.Random(work.key)

    def prompt(self) -> list[dict[str, str]]:
        if self._work.mix == "uniform":
            return [self._message("user", self._rng.randint(12, 24))]
        messages = [self._message("user", self._long(40))]
        while self._rng.random() < 0.5 and len(messages) < 9:  # two turns on average, as in the source below
            messages += [self._message("assistant", self._long(120)), self._message("user", self._long(40))]
        return self._fitting(messages)

    def answer(self) -> str:
        count = self._rng.randint(20, 40) if self._work.mix == "uniform" else self._long(120)
        return self._text(count)

    def reward(self) -> float:
        return self._rng.gauss(0, 1)

    def _long(self, median: int) -> int:
        """Log-normal with the means of LMSYS-Chat-1M: 70 tokens a prompt, 215 an answer (arXiv 2309.11998, table 1)."""
        tokens = median * math.exp(self._rng.gauss(0, 1.07))
        return max(4, round(self._work.scale * min(tokens, CONVERSATION // 3)))

    def _fitting(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """Without its oldest turns, as far as answers must have room too."""
        room = self._work.scale * CONVERSATION * 2 / 3
        while sum(len(message["content"].split()) for message in messages) > room:
            messages = messages[2:]
        return messages

    def _message(self, role: str, count: int) -> dict[str, str]:
        return {"role": role, "content": self._text(count)}

    def _text(self, count: int) -> str:
        return " " + " ".join(self._rng.choices(self._vocabulary, k=count))


def make_rows(work: Work, writer: Writer) -> list[Row]:
    """As many as the steps take. Half of KTO's are liked."""
    count = work.steps * work.batch
    if work.method in PAIRED:
        return [
            {"prompt": writer.prompt(), "chosen": writer.answer(), "rejected": writer.answer()} for _ in range(count)
        ]
    if work.method in SAMPLING:
        return [
            {
                "prompt": writer.prompt(),
                "answers": [writer.answer() for _ in range(work.samples)],
                "rewards": [writer.reward() for _ in range(work.samples)],
            }
            for _ in range(count)
        ]
    return [{"prompt": writer.prompt(), "completion": writer.answer(), "label": at % 2 == 0} for at in range(count)]


def answers(row: Row) -> list[str]:
    """All that a row has."""
    return list(row.get("answers") or [row[name] for name in ("chosen", "rejected", "completion") if name in row])


def encode(tokenizer: PreTrainedTokenizerFast, row: Row) -> Row:
    """Adds its tokens; `length` is the longest of its sequences, `tokens` all that are not padding."""
    prompt = Prompt(row["prompt"])
    asked = encode_prompt(tokenizer, prompt)
    answered = [encode_answer(tokenizer, prompt, answer) for answer in answers(row)]
    lengths = [len(asked) + len(ids) for ids in answered]
    return {**row, "prompt_ids": asked, "answer_ids": answered, "length": max(lengths), "tokens": sum(lengths)}


def in_steps(work: Work, rows: list[Row]) -> list[Row]:
    """Rows of like length share a step, and steps come in random order: the best that grouping by length can do.

    KTO's stay as they come, since its reference point is estimated within a step; so do prompts with their samples.
    """
    if work.method in SAMPLING or work.method == "kto":
        return rows
    ranked = sorted(rows, key=lambda row: int(row["length"]))
    steps = [ranked[at : at + work.batch] for at in range(0, len(ranked), work.batch)]
    random.Random(work.key).shuffle(steps)
    return [row for step in steps for row in step]


def build(place: Place) -> None:
    """Model and policy are made once for all cases of a size."""
    work = place.work
    torch.set_num_threads(work.threads)
    if not place.model.exists():
        build_model(place.model, SIZES[work.size])
        build_adapter(load_base(place.model), place.adapter)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(place.model)
    made = make_rows(work, Writer(work, words(SIZES[work.size].vocab)))
    place.write_rows(in_steps(work, [encode(tokenizer, row) for row in made]))


if __name__ == "__main__":
    build(Place(Path(sys.argv[1]), sys.argv[2]))
