"""A cycle's own settings are checked when it is asked for."""

import pytest

from infra.settings import SettingsError, TrainerSettings
from trainer.overrides import effective, parse_assignments, validated


def test_overrides_win_over_the_trainers_settings() -> None:
    found = effective(TrainerSettings(policy_steps=50, seed=3), {"policy_steps": 2})
    assert (found.policy_steps, found.seed) == (2, 3)


def test_text_becomes_what_the_setting_is() -> None:
    given = parse_assignments(["policy_steps=12", "trainer.policy_beta=0.03", "reward_features=true"])
    assert validated(TrainerSettings(), given) == {"policy_steps": 12, "policy_beta": 0.03, "reward_features": True}


def test_a_list_is_written_with_commas() -> None:
    given = parse_assignments(["lora_target_modules=o_proj, down_proj"])
    assert validated(TrainerSettings(), given) == {"lora_target_modules": ["o_proj", "down_proj"]}


def test_an_unknown_override_is_named() -> None:
    with pytest.raises(SettingsError, match=r"trainer\.policy_stepz: there is no such setting"):
        validated(TrainerSettings(), {"policy_stepz": 3})


def test_every_bad_override_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        validated(TrainerSettings(), {"policy_steps": 0, "init": "nothing"})
    assert "trainer.policy_steps" in str(caught.value)
    assert "trainer.init" in str(caught.value)


def test_the_workers_own_settings_are_not_a_cycles() -> None:
    with pytest.raises(SettingsError, match="sweep_s: belongs to the worker"):
        validated(TrainerSettings(), {"sweep_s": 1})


def test_an_assignment_needs_an_equals_sign() -> None:
    with pytest.raises(SettingsError, match="name=value"):
        parse_assignments(["policy_steps"])
