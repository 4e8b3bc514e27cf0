"""A tiny random base model with a tokenizer and a chat template, on disk as any other model directory.

head_dim is 64, so that vLLM loads it too.
"""

import hashlib
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from trainer.vocabulary import TEMPLATE, save_tokenizer, train_tokenizer

Kind = Literal["llama", "qwen2"]

CHATML = """\
{%- for message in messages -%}
{{ '<|user|>' if message.role == 'user' else '<|assistant|>' if message.role == 'assistant' else '<|system|>' }}
{{ message.content }}<|end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|assistant|>
{% endif -%}
"""
TEXTS = {
    "llama": ["What does math.cos do?", "Return the cosine of x.", "Usage: math.cos(x)", "Hello, how are you today?"],
    "qwen2": [
        "How do I join strings?",
        "Use str.join with a list.",
        "Perhaps: '-'.join(parts)",
        "Good evening to you!",
    ],
}


def make_tiny_model(directory: Path, *, kind: Kind = "llama", seed: int = 0, hidden: int = 64) -> Path:
    """Writes the model into `directory` and returns it; made once per process and kind, then copied."""
    shutil.copytree(_made(kind, seed, hidden), directory, dirs_exist_ok=True)
    return directory


@lru_cache
def _made(kind: Kind, seed: int, hidden: int) -> Path:
    name = hashlib.sha256(f"{kind}{seed}{hidden}".encode()).hexdigest()[:8]
    directory = Path(tempfile.mkdtemp(prefix=f"tiny-{kind}-{name}-"))
    template = TEMPLATE if kind == "llama" else CHATML
    tokenizer = train_tokenizer(TEXTS[kind] * 2, size=320 if kind == "llama" else 352, template=template)
    save_tokenizer(tokenizer, directory)
    model = _random_model(kind, seed, hidden, len(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(directory)
    return directory


def _random_model(kind: Kind, seed: int, hidden: int, vocabulary: int) -> PreTrainedModel:
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "llama":
            return LlamaForCausalLM(LlamaConfig(**sizes, head_dim=64))
        return Qwen2ForCausalLM(Qwen2Config(**sizes))
