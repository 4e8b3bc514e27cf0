"""A stage's seconds and tokens are its own, and all of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_model import make_tiny_model
from trainer.costs import Meter
from trainer.model import load_base


@dataclass
class Clock:
    """Time that passes when told to."""

    at: float = 100.0

    def __call__(self) -> float:
        return self.at


def make_stage(meter: Meter, clock: Clock, *, load_s: float, work_s: float) -> dict[str, Any]:
    with meter.loading():
        clock.at += load_s
    clock.at += work_s
    return {"sha256": "00"}


def test_seconds_of_loading_are_told_from_those_of_work() -> None:
    clock = Clock()
    meter = Meter(clock)
    found = meter.of(2.5, lambda: make_stage(meter, clock, load_s=3.0, work_s=4.0))
    assert found == {
        "sha256": "00",
        "cost": {"seconds": {"start": 2.5, "load": 3.0, "work": 4.0}, "tokens": {"learning": 0, "reading": 0}},
    }


def test_a_stage_pays_for_nothing_of_the_one_before() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.of(0.0, lambda: make_stage(meter, clock, load_s=30.0, work_s=40.0))
    found = meter.of(0.0, lambda: make_stage(meter, clock, load_s=1.0, work_s=2.0))
    assert found["cost"]["seconds"] == {"start": 0.0, "load": 1.0, "work": 2.0}


def test_loading_that_fails_has_taken_its_time_all_the_same() -> None:
    clock = Clock()
    meter = Meter(clock)

    def load() -> dict[str, Any]:
        with meter.loading():
            clock.at += 5
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        meter.of(0.0, load)
    assert meter.load_s == 5


def test_tokens_are_counted_by_whether_they_can_be_learnt_from(tmp_path: Path) -> None:
    base, meter = load_base(make_tiny_model(tmp_path / "model")), Meter()
    meter.watch(base.decoder)
    base.decoder(input_ids=torch.ones(2, 5, dtype=torch.long))
    with torch.no_grad():
        base.decoder(input_ids=torch.ones(3, 4, dtype=torch.long))
        base.model(input_ids=torch.ones(1, 7, dtype=torch.long))
        base.decoder(inputs_embeds=torch.zeros(1, 2, base.hidden_size))
    assert (meter.learning_tokens, meter.reading_tokens) == (10, 21)
