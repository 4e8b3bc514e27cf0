"""What `trainer.size` sets: good values by the size of the base, for whatever isn't set by name.

A rate found for a whole model goes ten times up for a LoRA, whatever its rank, with alpha held at 32 (Schulman et al.
2025, "LoRA Without Regret"). So DPO's 1e-6 (Rafailov et al. 2023, arXiv 2305.18290, appendix B) and GRPO's (Shao et al.
2024, arXiv 2402.03300, section 4.2) are 1e-5 here, and a reward model's 1e-5, at 70 B 5e-6 (Touvron et al. 2023, arXiv
2307.09288, section 3.2.2), are 1e-4 and 5e-5. DPO's 5e-7 at 8 B and 2e-7 at 70 B, and RL's fall to a third between
them, are those of Lambert et al. 2024, arXiv 2411.15124. SFT is of LoRAs there already: 2e-4 up to 13 B, 1e-4 above
(Dettmers et al. 2023, arXiv 2305.14314, appendix B). The rank stays at 16, the most that engines take by default
(`serving.max_lora_rank`). A cycle's RL at 7 B is half of the 200 to 400 steps after which Touvron et al. stopped, since
more cycles follow.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

Size = Literal["tiny", "small", "medium", "large"]

MEANT_FOR: Mapping[Size, str] = {
    "tiny": "below 0.1 B: a demo's base",
    "small": "0.1 to 5 B",
    "medium": "5 to 15 B",
    "large": "above 15 B",
}
MOST_PARAMETERS: dict[Size, float] = {"tiny": 0.1e9, "small": 5e9, "medium": 15e9, "large": float("inf")}
BY_SIZE: Mapping[Size, Mapping[str, Any]] = {
    "tiny": {  # measured on 4 M parameters: below these rates nothing moves, and DPO at 1e-3 forgets what it knew
        "lora_rank": 8,
        "lora_alpha": 16,
        "sft_learning_rate": 2e-3,
        "reward_learning_rate": 1.5e-3,
        "reward_batch": 8,
        "policy_learning_rate": 2e-3,
        "policy_steps": 12,
        "policy_minibatch": 128,
        "policy_max_new_tokens": 64,
        "preference_learning_rate": 1e-4,
        "preference_batch": 8,
    },
    "small": {},  # each field's own default
    "medium": {
        "reward_batch": 32,
        "policy_steps": 100,
        "policy_prompts": 32,
        "preference_learning_rate": 5e-6,
        "preference_batch": 32,
    },
    "large": {
        "sft_learning_rate": 1e-4,
        "reward_learning_rate": 5e-5,
        "reward_batch": 64,
        "policy_learning_rate": 3e-6,
        "policy_steps": 100,
        "policy_prompts": 64,
        "preference_learning_rate": 2e-6,
        "preference_batch": 64,
    },
}
SIZES: tuple[Size, ...] = get_args(Size)
