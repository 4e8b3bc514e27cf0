"""What names a base model without loading it: its revision, its chat template, its silent sampling defaults."""

import hashlib
import json
from pathlib import Path
from typing import Any

WEIGHTS = ("*.safetensors",)
IDENTITY = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
CHUNK = 1 << 20


class NotAModel(ValueError):
    """The directory does not hold a Hugging Face causal LM with a chat template."""


def check_model(directory: Path) -> Path:
    """Returns the directory; raises NotAModel saying what is missing."""
    missing = [name for name in ("config.json", "tokenizer_config.json") if not (directory / name).is_file()]
    if missing:
        raise NotAModel(f"{directory} is no model directory: {', '.join(missing)} missing")
    if not any(directory.glob("*.safetensors")):
        raise NotAModel(f"{directory} holds no .safetensors weights")
    if not chat_template(directory):
        raise NotAModel(f"{directory} has no chat template (chat_template.jinja or tokenizer_config.json)")
    return directory


def base_revision(directory: Path) -> str:
    """First 12 hex digits of a SHA-256 over the model's configuration, tokenizer, template and weights."""
    digest = hashlib.sha256()
    for path in sorted(_identity_files(directory), key=lambda found: found.name):
        digest.update(path.name.encode() + b"\0" + file_sha256(path).encode())
    return digest.hexdigest()[:12]


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def chat_template(directory: Path) -> str:
    """The Jinja text, or an empty string."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    template = read_json(directory / "tokenizer_config.json").get("chat_template", "")
    return template if isinstance(template, str) else json.dumps(template, sort_keys=True)


def template_hash(directory: Path) -> str:
    return hashlib.sha256(chat_template(directory).encode()).hexdigest()[:12]


def generation_defaults(directory: Path) -> dict[str, Any]:
    """The sampling parameters that the engine takes from `generation_config.json` where a request is silent."""
    known = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")
    found = read_json(directory / "generation_config.json")
    return {name: found[name] for name in known if name in found}


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty where there is no file."""
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _identity_files(directory: Path) -> list[Path]:
    named = [directory / name for name in IDENTITY if (directory / name).is_file()]
    return named + [path for pattern in WEIGHTS for path in directory.glob(pattern)]
