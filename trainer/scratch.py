"""A base model of a few million parameters from a JSONL corpus of conversations, in a minute or two on two cores.

It is how the demo and the tests get a model at all: a Llama that both transformers and vLLM load.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.errors import TrainerError
from trainer.muon import Muon
from trainer.optimizing import cosine, set_rates, shuffled_batches
from trainer.progress import Progress, silent
from trainer.vocabulary import END, save_tokenizer, train_tokenizer

HEAD_DIM = 64  # the smallest that the engine's attention takes
BATCH = 64
MATRIX_RATE, OTHER_RATE = 0.02, 4e-3
LONGEST = 1024
STEPS = 170


class BadCorpus(TrainerError):
    """The corpus is not one JSON object with `messages` a line."""


@dataclass(frozen=True, slots=True)
class Text:
    """A conversation's token ids; `answered` marks the assistant's, each with its end token."""

    ids: list[int]
    answered: list[bool]


def build(
    corpus: Path,
    out: Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    width: int = 256,
    layers: int = 4,
    vocab: int = 4096,
    on_progress: Progress = silent,
) -> dict[str, float]:
    """Writes the model directory `out`, whole or not at all; returns final loss, seconds, tokens and parameters.

    Raises BadCorpus. The same corpus, arguments and number of threads give the same weights.
    """
    transformers.logging.disable_progress_bar()
    conversations = read_corpus(corpus)
    tokenizer = train_tokenizer(_contents(conversations), size=vocab)
    texts = encode_conversations(tokenizer, conversations)
    model = _new_model(len(tokenizer), width, layers, seed)
    metrics = train(model, texts, steps=steps, seed=seed, on_progress=on_progress)
    _save(model, tokenizer, out)
    return {**metrics, "parameters": float(model.num_parameters())}


def read_corpus(path: Path) -> list[list[dict[str, Any]]]:
    """Each line's messages."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    try:
        found = [json.loads(line)["messages"] for line in lines]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise BadCorpus(f'{path}: every line must be {{"messages": [...]}} ({error!r})') from None
    if not found:
        raise BadCorpus(f"{path} holds no conversations")
    return found


def encode_conversations(tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Any]) -> list[Text]:
    """All at once: the template is rendered per conversation, the tokenizer runs on the whole list."""
    rendered = [str(tokenizer.apply_chat_template(messages, tokenize=False)) for messages in conversations]
    begin, end = (int(str(tokenizer.convert_tokens_to_ids(token))) for token in ("<|assistant|>", END))
    encoded = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return [Text(ids[:LONGEST], _answered(ids[:LONGEST], begin, end)) for ids in encoded]


def train(
    model: nn.Module, texts: Sequence[Text], *, steps: int, seed: int, on_progress: Progress = silent
) -> dict[str, float]:
    """Loss on the answers alone. Muon for the matrices, AdamW for embeddings and norms, one cosine for both."""
    began, tokens, recent = time.monotonic(), 0, 0.0
    matrices, others = _split_parameters(model)
    optimizers = [
        Muon(matrices, lr=MATRIX_RATE),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), fused=True),
    ]
    model.train()
    batches = _endless_batches(texts, seed)
    for step in range(steps):
        picked = [texts[index] for index in next(batches)]
        loss = answer_loss(model, picked)
        loss.backward()
        nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in optimizers:
            set_rates(optimizer, cosine(step, steps, floor=0.05))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += sum(len(text.ids) for text in picked)
        last = float(loss.detach())
        recent = last if step == 0 else 0.9 * recent + 0.1 * last
        on_progress(step + 1, steps, {"loss": recent})
    model.eval()
    return {"loss": recent, "seconds": time.monotonic() - began, "tokens": float(tokens)}


def answer_loss(model: Any, texts: Sequence[Text]) -> Tensor:
    """Mean cross-entropy of the answers' tokens. The head, a third of the work, runs only where it counts."""
    longest = max(len(text.ids) for text in texts)
    ids_BL = torch.zeros(len(texts), longest, dtype=torch.long)
    answered_BL = torch.zeros(len(texts), longest, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids_BL[row, : len(text.ids)] = torch.tensor(text.ids)
        answered_BL[row, : len(text.ids)] = torch.tensor(text.answered)
    hidden_BLH = model.model(input_ids=ids_BL, use_cache=False).last_hidden_state
    wanted_BL = answered_BL[:, 1:]
    logits_NV = model.lm_head(hidden_BLH[:, :-1][wanted_BL])
    return functional.cross_entropy(logits_NV, ids_BL[:, 1:][wanted_BL])


def _answered(ids: Sequence[int], begin: int, end: int) -> list[bool]:
    """From behind each `begin` up to and with the next `end`."""
    inside, found = False, []
    for token in ids:
        found.append(inside)
        inside = token == begin or (inside and token != end)
    return found


def _endless_batches(texts: Sequence[Text], seed: int) -> Iterator[list[int]]:
    """Full batches only, unless there are not enough texts for one."""
    lengths = [len(text.ids) for text in texts]
    size = min(BATCH, len(texts))
    epoch = 0
    while True:
        batches = shuffled_batches(lengths, size, seed=seed * 1_000_003 + epoch, window=32)
        yield from (batch for batch in batches if len(batch) == size)
        epoch += 1


def _split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The layers' weight matrices, and all else."""
    named = list(model.named_parameters())
    is_matrix = {name: parameter.ndim == 2 and ".layers." in name for name, parameter in named}
    return [p for name, p in named if is_matrix[name]], [p for name, p in named if not is_matrix[name]]


def _new_model(vocabulary: int, width: int, layers: int, seed: int) -> LlamaForCausalLM:
    heads = width // HEAD_DIM
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 5 // 2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    aside = out.with_name(f"{out.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    save_tokenizer(tokenizer, aside)
    model.save_pretrained(aside)
    shutil.rmtree(out, ignore_errors=True)
    aside.rename(out)


def _contents(conversations: Sequence[Any]) -> Iterator[str]:
    for messages in conversations:
        yield from (message["content"] for message in messages if isinstance(message.get("content"), str))
