"""A base model as others publish theirs: Qwen2 with its own tokenizer class, ChatML, bfloat16 weights, several end
tokens and sampling defaults of its own. Nothing of the trainer room has made it; only its weights are random and few.
"""

from pathlib import Path

import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer
from transformers.tokenization_utils_tokenizers import TokenizersBackend

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
TEXTS = (
    "Die Würde des Menschen ist unantastbar.",
    "Sie zu achten und zu schützen ist Verpflichtung aller staatlichen Gewalt.",
    "What does function seven do? It returns the cosine of its argument, measured in radians.",
    "你好，世界",
)


def make_foreign_model(directory: Path, *, seed: int = 0) -> Path:
    """Writes the model into `directory` and returns it: two layers, two heads of 64 that share one key-value head."""
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(directory)
    model = _model(tokenizer, seed)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
        repetition_penalty=1.05,
        eos_token_id=tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]),
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(directory)
    return directory


def _tokenizer() -> TokenizersBackend:
    plain = Qwen2Tokenizer(eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=["<|im_start|>"])
    trained = plain.train_new_from_iterator(TEXTS * 4, vocab_size=480, show_progress=False)
    trained.chat_template = TEMPLATE
    return trained


def _model(tokenizer: TokenizersBackend, seed: int) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 32,  # padded beyond the tokenizer, as published ones are
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        initializer_range=0.3,  # so that some next tokens are likely, as a trained model's are
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config).to(torch.bfloat16)
