"""One dial instead of many flags: what it sets, and what wins over it."""

from pathlib import Path

import pytest

from infra.demo.plan import TUNED
from infra.settings import SettingsError, TrainerSettings, describe_settings, load_settings
from infra.sizes import BY_SIZE, MEANT_FOR, SIZES, Size
from trainer.overrides import effective, validated

SIZE, STEPS = "THUMBWHEEL_TRAINER__SIZE", "THUMBWHEEL_TRAINER__POLICY_STEPS"


@pytest.mark.parametrize("size", SIZES)
def test_the_dial_sets_what_is_not_set_by_name(size: Size) -> None:
    found = TrainerSettings(size=size).model_dump()
    assert {name: found[name] for name in BY_SIZE[size]} == BY_SIZE[size]


@pytest.mark.parametrize("size", SIZES)
def test_each_size_names_settings_that_exist_and_takes_values_that_they_take(size: Size) -> None:
    assert TrainerSettings.model_validate({"size": size, **BY_SIZE[size]}) == TrainerSettings(size=size)
    assert MEANT_FOR[size]


def test_what_is_set_by_name_wins_over_the_dial() -> None:
    found = TrainerSettings(size="large", policy_steps=7)
    assert (found.policy_steps, found.policy_prompts) == (7, 64)


def test_a_value_that_happens_to_be_the_default_is_set_by_name_all_the_same() -> None:
    default = TrainerSettings().policy_prompts
    assert TrainerSettings(size="large", policy_prompts=default).policy_prompts == default


def test_the_default_size_is_what_the_fields_say_themselves() -> None:
    fields = TrainerSettings.model_fields
    assert {name: fields[name].default for name in BY_SIZE["tiny"]} == {
        name: getattr(TrainerSettings(), name) for name in BY_SIZE["tiny"]
    }


def test_a_cycle_s_own_size_sets_what_nobody_set_by_name() -> None:
    found = effective(TrainerSettings(policy_prompts=3), {"size": "large"})
    assert (found.policy_prompts, found.policy_steps) == (3, BY_SIZE["large"]["policy_steps"])


def test_a_cycle_s_own_setting_wins_over_the_worker_s_size() -> None:
    found = effective(TrainerSettings(size="large"), {"policy_steps": 5})
    assert (found.policy_steps, found.policy_prompts) == (5, BY_SIZE["large"]["policy_prompts"])


def test_the_registry_keeps_what_was_asked_and_not_what_the_dial_made_of_it() -> None:
    assert validated(TrainerSettings(), {"size": "medium"}) == {"size": "medium"}


def test_file_and_environment_win_over_the_dial_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[trainer]\npolicy_prompts = 5\n")
    found = load_settings(tmp_path, {SIZE: "large", STEPS: "9"}).trainer
    assert (found.policy_prompts, found.policy_steps, found.preference_batch) == (5, 9, 64)


def test_settings_are_shown_as_they_hold_and_with_the_dial_as_their_source(tmp_path: Path) -> None:
    environ = {SIZE: "large", STEPS: "9"}
    found = {line.name: line for line in describe_settings(load_settings(tmp_path, environ), environ)}
    prompts, steps = found["trainer.policy_prompts"], found["trainer.policy_steps"]
    assert (prompts.value, prompts.source, prompts.default) == (64, "size=large", 16)
    assert (steps.value, steps.source) == (9, STEPS)
    assert found["trainer.policy_beta"].source == "default"


def test_an_unknown_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"trainer.size: .*'tiny', 'small', 'medium' or 'large'"):
        load_settings(tmp_path, {SIZE: "huge"})


def test_larger_bases_never_learn_faster() -> None:
    rates = [name for name in TrainerSettings.model_fields if name.endswith("learning_rate")]
    sized = [TrainerSettings(size=size) for size in SIZES]
    for name in rates:
        values = [getattr(one, name) for one in sized]
        assert values == sorted(values, reverse=True)


def test_the_demo_s_base_is_a_tiny_one() -> None:
    found = TrainerSettings.model_validate(TUNED)
    unset = BY_SIZE["tiny"].keys() - TUNED.keys()
    assert {name: getattr(found, name) for name in unset} == {name: BY_SIZE["tiny"][name] for name in unset} != {}
