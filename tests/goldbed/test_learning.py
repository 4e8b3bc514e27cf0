"""One quick method end to end: votes of simulated people raise a reward that none of them states."""

from pathlib import Path

import pytest

from tests.goldbed.bed import START, Size, make_bed
from tests.goldbed.learning import train
from tests.goldbed.measuring import gain, measure

SMALL = Size(corpus=4000, base_steps=160, demonstrations=240, pairs=700)


@pytest.mark.training
@pytest.mark.timeout(900)  # half a minute alone, and the machine may be busy
def test_dpo_raises_gold_on_things_that_nobody_voted_on(tmp_path: Path) -> None:
    bed = make_bed(tmp_path, 0, SMALL)
    start = measure(bed.base, START)
    train(bed, tmp_path, 0, "dpo", preference_learning_rate=1e-3, preference_epochs=3)
    learned = measure(bed.base, "dpo")
    assert gain(learned, start).lo > 0
    assert learned.kl > 0.01
    assert start.kl == pytest.approx(0.0, abs=1e-5)
