"""One process of several that train together, as `accelerate launch -m tests.support.together` starts them."""

import argparse
import json
from pathlib import Path
from typing import Any

from tests.support.policy import OF_METHODS, RuleReward, shorter_is_better
from tests.support.training import disturb, make_message, make_prompt, make_settings, make_short_pairs
from trainer.checkpoints import Checkpoints
from trainer.data import Demonstration, Unpaired
from trainer.hardware import open_base
from trainer.history import Trained
from trainer.methods import sft
from trainer.methods.policy import PolicyContext, policy_method
from trainer.model import Base, attach_adapter, save_adapter
from trainer.transformers_sampler import TransformersSampler

WORDS = ("x", "cosine", "math", "the")
ROWS = [Demonstration(make_prompt(word), make_message(f"a list of {word}" * (1 + at))) for at, word in enumerate(WORDS)]
THUMBS = [
    Unpaired(make_prompt(), message, label=label)
    for pair in make_short_pairs(16)
    for message, label in ((pair.chosen, True), (pair.rejected, False))
]
OPTIONS = {
    "policy_steps": 5, "policy_epochs": 2, "policy_minibatch": 8, "preference_batch": 8, "preference_epochs": 2,
    "ppo_kl_target": 0.5, "sft_epochs": 6, "device": "cpu",
}  # fmt: skip


class OnlySamples(Checkpoints):
    """Those of every step, for another run to learn from."""

    def keep(self, *_state: object, **_how: object) -> None:
        return


def train(method: str, base: Base, directory: Path, **overrides: Any) -> Trained:
    """Of the adapter `policy`, by a rule's reward, from a few rows of each kind; settings by their names."""
    names = {name: overrides.pop(name) for name in list(overrides) if name.startswith(OF_METHODS)}
    settings = make_settings(**{**OPTIONS, **names})
    if method == "sft":
        kept = {name: overrides[name] for name in ("progress", "checkpoints") if name in overrides}
        return sft.train(base, ROWS * 8, adapter="policy", settings=settings, seed=0, **kept)
    fields = {
        "sampler": TransformersSampler(base), "reward": RuleReward(shorter_is_better), "pairs": make_short_pairs(24),
        "prompts": [row.prompt for row in ROWS] * 2, "unpaired": THUMBS, "demonstrations": ROWS, **overrides,
    }  # fmt: skip
    context = PolicyContext(base, "policy", None, settings, 0, directory, "train-1-1", **fields)
    return policy_method(method)(context)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("method")
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shard", action="store_true")
    options = parser.parse_args()
    base = open_base(options.base, make_settings(device="cpu", shard_base=options.shard))
    attach_adapter(base, "policy", rank=4, alpha=8, seed=0)
    disturb(base, "policy")
    kept = OnlySamples(options.out / "checkpoints", world=base.world)
    found = train(options.method, base, options.out, checkpoints=kept)
    if base.world.leads:
        sha256 = save_adapter(base, "policy", options.out / "adapter")
        (options.out / "found.json").write_text(
            json.dumps({"history": found.history, "sha256": sha256, "processes": base.world.size})
        )
    base.world.leave()


if __name__ == "__main__":
    main()
