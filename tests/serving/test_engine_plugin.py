from importlib.metadata import entry_points

import pytest

from serving.engine_plugin import register, with_empty_slot


def make_layer(layer: str, max_loras: int, config: str = "") -> tuple[str, int, str]:
    return layer, max_loras, config


def test_every_layer_gets_one_slot_more_however_it_is_asked_for() -> None:
    make = with_empty_slot(make_layer)
    assert make("linear", 4, "config") == ("linear", 5, "config")
    assert make("linear", max_loras=4) == ("linear", 5, "")


def test_a_maker_that_counts_no_slots_is_a_mistake_at_once() -> None:
    with pytest.raises(KeyError, match="max_loras"):
        with_empty_slot(lambda layer: layer)("linear")


def test_vllm_finds_the_plug_in() -> None:
    (found,) = (point for point in entry_points(group="vllm.general_plugins") if point.name == "thumbwheel")
    assert found.load() is register
