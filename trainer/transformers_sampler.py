"""Samples from the model in memory: where no engine is up, and where the same seed must give the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import DynamicCache

from trainer.data import Prompt, encode_prompt
from trainer.model import Base, load_adapter, remove_adapter, using
from trainer.sampling import Sampled

ROWS = 256  # at once; bounds the cache


@dataclass(frozen=True, slots=True)
class _Decoding:
    temperature: float
    top_p: float
    max_tokens: int


@dataclass(slots=True)
class _Draft:
    """An answer being written."""

    prompt_ids: list[int]
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: bool = False


class TransformersSampler:
    """Each prompt is read once and its cache repeated for its samples; finished rows leave the batch."""

    apart: bool = False

    def __init__(self, base: Base) -> None:
        self._base = base

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        adapter: str | None,
        n: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
    ) -> list[list[Sampled]]:
        encoded = [encode_prompt(self._base.tokenizer, prompt) for prompt in prompts]
        groups = [[_Draft(ids) for _ in range(n)] for ids in encoded]
        generator = torch.Generator(self._base.device).manual_seed(seed)
        decoding = _Decoding(temperature, top_p, max_tokens)
        with using(self._base, adapter), torch.inference_mode():
            for drafts in _batches(groups):
                self._write(drafts, n, decoding, generator)
        return [[self._finished(draft) for draft in group] for group in groups]

    def publish(self, name: str, directory: Path) -> None:
        load_adapter(self._base, name, directory)

    def retire(self, name: str) -> None:
        remove_adapter(self._base, name)

    def _write(self, drafts: list[_Draft], n: int, decoding: _Decoding, generator: torch.Generator) -> None:
        cache, mask_BL, logits_BV = self._read_prompts(drafts[::n], n)
        for _ in range(decoding.max_tokens):
            tokens_B, logps_B = _draw(logits_BV, decoding, generator)
            kept = self._extend(drafts, tokens_B.tolist(), logps_B.tolist())
            if not kept:
                return
            if len(kept) < len(drafts):
                rows = torch.tensor(kept, device=mask_BL.device)
                drafts = [drafts[row] for row in kept]
                cache.batch_select_indices(rows)
                mask_BL, tokens_B = mask_BL[rows], tokens_B[rows]
            mask_BL = torch.nn.functional.pad(mask_BL, (0, 1), value=1)
            logits_BV = self._forward(tokens_B[:, None], mask_BL, cache)

    def _read_prompts(self, drafts: Sequence[_Draft], n: int) -> tuple[DynamicCache, Tensor, Tensor]:
        """Padded on the left, so that every row goes on at the same place."""
        longest = max(len(draft.prompt_ids) for draft in drafts)
        ids_PL = torch.zeros(len(drafts), longest, dtype=torch.long)
        mask_PL = torch.zeros_like(ids_PL)
        for row, draft in enumerate(drafts):
            ids_PL[row, longest - len(draft.prompt_ids) :] = torch.tensor(draft.prompt_ids)
            mask_PL[row, longest - len(draft.prompt_ids) :] = 1
        mask_PL = mask_PL.to(self._base.device)
        cache = DynamicCache(config=self._base.model.config)
        logits_PV = self._forward(ids_PL.to(self._base.device), mask_PL, cache)
        cache.batch_repeat_interleave(n)
        return cache, mask_PL.repeat_interleave(n, 0), logits_PV.repeat_interleave(n, 0)

    def _forward(self, ids_BL: Tensor, mask_BL: Tensor, cache: DynamicCache) -> Tensor:
        """Next-token logits."""
        positions_BL = (mask_BL.cumsum(-1) - 1).clamp(min=0)[:, -ids_BL.shape[1] :]
        output = self._base.model(
            input_ids=ids_BL,
            attention_mask=mask_BL,
            position_ids=positions_BL,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _extend(self, drafts: Sequence[_Draft], tokens: Sequence[int], logprobs: Sequence[float]) -> list[int]:
        """Indices of the drafts that go on."""
        for draft, token, logprob in zip(drafts, tokens, logprobs, strict=True):
            draft.token_ids.append(token)
            draft.logprobs.append(logprob)
            draft.ended = token in self._base.end_ids
        return [index for index, draft in enumerate(drafts) if not draft.ended]

    def _finished(self, draft: _Draft) -> Sampled:
        text = self._base.tokenizer.decode(draft.token_ids, skip_special_tokens=True)
        reason = "stop" if draft.ended else "length"
        return Sampled(draft.prompt_ids, draft.token_ids, draft.logprobs, reason, str(text))


def _batches(groups: Sequence[list[_Draft]]) -> list[list[_Draft]]:
    """Whole groups, of like prompt length, at most ROWS drafts together (but at least one group)."""
    batches: list[list[_Draft]] = []
    for group in sorted(groups, key=lambda group: len(group[0].prompt_ids)):
        if not batches or len(batches[-1]) + len(group) > ROWS:
            batches.append([])
        batches[-1].extend(group)
    return batches


def _draw(logits_BV: Tensor, decoding: _Decoding, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens and their log-probabilities under what they were drawn from; temperature 0 is greedy."""
    if decoding.temperature == 0:
        logps_BV = logits_BV.log_softmax(-1)
        tokens_B = logits_BV.argmax(-1)
    else:
        logps_BV = _nucleus(logits_BV / decoding.temperature, decoding.top_p).log_softmax(-1)
        tokens_B = torch.multinomial(logps_BV.exp(), 1, generator=generator)[:, 0]
    return tokens_B, logps_BV.gather(-1, tokens_B[:, None])[:, 0]


def _nucleus(logits_BV: Tensor, top_p: float) -> Tensor:
    """Keeps the smallest set of tokens whose probability reaches `top_p`: Holtzman et al. 2020, arXiv 1904.09751."""
    if top_p >= 1:
        return logits_BV
    sorted_BV, order_BV = logits_BV.sort(-1, descending=True)
    before_BV = sorted_BV.softmax(-1).cumsum(-1) - sorted_BV.softmax(-1)
    dropped_BV = torch.zeros_like(logits_BV, dtype=torch.bool).scatter(-1, order_BV, before_BV >= top_p)
    return logits_BV.masked_fill(dropped_BV, float("-inf"))
