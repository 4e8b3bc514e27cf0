"""Settings under which a whole cycle of a tiny model takes a few seconds, sampling by itself."""

import json
from pathlib import Path
from typing import Any

from tests.support.tiny_model import Kind, make_tiny_model

TINY: dict[str, Any] = {
    "sampler": "transformers",
    "min_pairs": 10,
    "min_thumbs": 10,
    "lora_rank": 4,
    "reward_rank": 4,
    "reward_learning_rate": 1e-3,
    "reward_features": True,
    "policy_learning_rate": 1e-3,
    "policy_steps": 2,
    "policy_prompts": 4,
    "policy_samples": 4,
    "policy_max_new_tokens": 12,
    "max_length": 128,
    "evaluate_prompts": 5,
    "judge_share": 0.4,
}


def tiny_environment(directory: Path, *, kind: Kind = "llama", **settings: Any) -> dict[str, str]:
    """THUMBWHEEL_ variables; the model is the same wherever it lies. One of its two exact checks always fails."""
    model = make_tiny_model(directory / "model", kind=kind)
    wanted = {**TINY, "regression_file": write_checks(directory / "checks.jsonl"), **settings}
    environ = {f"THUMBWHEEL_TRAINER__{name}".upper(): str(value) for name, value in wanted.items()}
    return {**environ, "THUMBWHEEL_SERVING__MODEL": str(model)}


def write_checks(path: Path) -> Path:
    case = {"name": "cos", "messages": [{"role": "user", "content": "What does cos do?"}], "contains_all": ["cosine"]}
    path.write_text(json.dumps(case) + "\n" + json.dumps({**case, "name": "anything", "contains_all": []}))
    return path
