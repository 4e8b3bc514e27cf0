"""The interface of policy methods: what is missing is said in the method's name, and settings name real methods."""

from pathlib import Path
from typing import get_args

import pytest

from infra.settings import TrainerSettings
from tests.support.policy import make_context
from tests.support.training import make_base
from trainer.errors import StageFailed
from trainer.methods import grpo
from trainer.methods.policy import METHODS, policy_method


def test_every_method_that_can_be_set_can_be_run() -> None:
    allowed = get_args(TrainerSettings.model_fields["method"].annotation)
    assert set(allowed) == {"auto", *METHODS}
    assert policy_method("grpo") is grpo.train


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ({"sampler": None}, "grpo needs a sampler"),
        ({"reward": None}, "grpo needs a reward model"),
        ({"prompts": ()}, "grpo needs prompts"),
    ],
)
def test_what_a_method_lacks_is_named(tmp_path: Path, missing: dict[str, object], complaint: str) -> None:
    context = make_context(make_base(tmp_path, adapters=("policy",)), tmp_path, **missing)
    with pytest.raises(StageFailed, match=complaint):
        grpo.train(context)
