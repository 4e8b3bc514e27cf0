"""What is said of a training in the end."""

import pytest

from trainer.history import Means, late_means


def test_means_are_weighted_and_each_over_what_has_it() -> None:
    means = Means()
    means.add({"loss": 1.0, "kl": 5.0}, 3)
    means.add({"loss": 5.0}, 1)
    assert means.means() == {"loss": 2.0, "kl": 5.0}


def test_the_last_quarter_of_the_steps_speaks_for_the_training() -> None:
    history = [{"loss": float(step)} for step in range(8)]
    assert late_means(history) == {"loss": 6.5}
    assert late_means(history[:1]) == {"loss": 0.0}


def test_a_figure_that_a_step_lacks_is_the_mean_of_the_others() -> None:
    history = [{"loss": 0.0}] * 6 + [{"loss": 1.0, "rewards/rejected": -2.0}, {"loss": 3.0}]
    assert late_means(history) == {"loss": pytest.approx(2.0), "rewards/rejected": -2.0}
