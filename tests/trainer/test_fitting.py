"""What can't be trained on is counted by its reason; nothing is cut."""

from collections import Counter

import pytest

from tests.support.tiny_model import make_tiny_model
from trainer.batches import encode
from trainer.data import Demonstration, Preference, Prompt
from trainer.fitting import fit, used
from trainer.model import Base, load_base

ASKED = Prompt([{"role": "user", "content": "What does cos do?"}])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(make_tiny_model(tmp_path_factory.mktemp("model")))


def make_demonstration(text: str, weight: float = 1.0) -> Demonstration:
    return Demonstration(ASKED, {"role": "assistant", "content": text}, weight)


def length(base: Base, text: str) -> int:
    return len(encode(base, ASKED, text))


def test_what_is_too_long_or_weighs_nothing_is_left_out_and_counted(base: Base) -> None:
    rows = [make_demonstration("a list"), make_demonstration("a list " * 50), make_demonstration("a list", weight=0)]
    found = fit(base, rows, lambda row: [row.completion], length(base, "a list"))
    assert found.rows == rows[:1]
    assert found.left_out == {"too_long": 1, "weightless": 1}
    assert found.tokens == length(base, "a list")


def test_the_longer_answer_of_a_pair_decides_and_both_are_tokens(base: Base) -> None:
    chosen, rejected = ({"role": "assistant", "content": text} for text in ("a list", "a list of lists"))
    longest = length(base, "a list of lists")
    rows = [Preference(ASKED, chosen, rejected)]
    found = fit(base, rows, lambda row: [row.chosen, row.rejected], longest)
    assert found.tokens == length(base, "a list") + longest
    assert fit(base, rows, lambda row: [row.chosen, row.rejected], longest - 1).rows == []


def test_parts_add_up_and_tokens_count_in_every_pass(base: Base) -> None:
    one = fit(base, [make_demonstration("a list")], lambda row: [row.completion], 1000)
    other = fit(base, [make_demonstration("", weight=0)], lambda row: [row.completion], 1000)
    found = used(3, one, other)
    assert (found.rows, found.tokens, found.left_out) == (1, 3 * one.tokens, Counter(weightless=1))
