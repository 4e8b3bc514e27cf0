"""A model directory as it looks from outside, for what never loads it."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save


def make_model_files(directory: Path, *, without: str = "", size: int = 10) -> Path:
    """What a model directory looks like from outside."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": b"{}",
        "tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"}).encode(),
        "model.safetensors": save({"weight": np.zeros(size, dtype=np.uint8)}),
    }
    for name, content in files.items():
        if name != without:
            (directory / name).write_bytes(content)
    return directory
