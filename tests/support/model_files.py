"""A model directory as it looks from outside, for what never loads it."""

import json
from pathlib import Path


def make_model_files(directory: Path, *, without: str = "", size: int = 10) -> Path:
    """What a model directory looks like from outside."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": "{}",
        "tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"}),
        "model.safetensors": "x" * size,
    }
    for name, text in files.items():
        if name != without:
            (directory / name).write_text(text)
    return directory
