"""What a training by itself is told about its rows: its own taste is its own business, nonsense is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.policy import make_context
from tests.support.training import make_base, make_message, make_pair, make_prompt, make_settings
from trainer.data import Demonstration, Preference, Tie, Unpaired
from trainer.doubts import LOOKED_AT, about_demonstrations, about_pairs, about_prompts, doubts_alone, doubts_of
from trainer.errors import StageFailed
from trainer.model import Base

LONG = "cosine " * 200


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"), adapters=("policy",))


def make_pairs(count: int, **overrides: Any) -> list[Preference]:
    fields = {"rater": "mia", **overrides}
    return [make_pair(f"good {n}", prompt=make_prompt(f"f{n}?"), **fields) for n in range(count)]


def kinds(base: Base, directory: Path, method: str, **rows: Sequence[Any]) -> list[str]:
    context = make_context(base, directory, settings=make_settings(method=method), **rows)
    return [warning["kind"] for warning in doubts_of(context)]


def test_few_pairs_of_one_rater_are_told_and_not_refused(base: Base, tmp_path: Path) -> None:
    assert kinds(base, tmp_path, "dpo", pairs=make_pairs(12)) == ["few_rows", "one_rater"]


def test_enough_pairs_of_nobody_in_particular_raise_no_doubts(base: Base, tmp_path: Path) -> None:
    assert kinds(base, tmp_path, "dpo", pairs=make_pairs(50, rater="")) == []


def test_pairs_that_cancel_each_other_are_refused(base: Base, tmp_path: Path) -> None:
    pairs = make_pairs(50, rater="")
    swapped = [Preference(pair.prompt, pair.rejected, pair.chosen) for pair in pairs]
    with pytest.raises(StageFailed, match="cancel 100% of all pairs"):
        kinds(base, tmp_path, "dpo", pairs=[*pairs, *swapped])


def test_each_method_is_asked_about_the_rows_that_it_learns_from(base: Base, tmp_path: Path) -> None:
    """One prompt for samples, thumbs of one kind for KTO; what others learn from says nothing."""
    up = [Unpaired(make_prompt(f"f{n}?"), make_message("a list"), label=True) for n in range(20)]
    assert kinds(base, tmp_path, "grpo", prompts=[make_prompt()], unpaired=up) == ["one_prompt"]
    with pytest.raises(StageFailed, match="20 of 20 thumbs are up"):
        kinds(base, tmp_path, "kto", prompts=[make_prompt()], unpaired=up)


def test_a_warm_up_is_asked_about_its_pairs_too(base: Base, tmp_path: Path) -> None:
    settings = make_settings(method="rloo", policy_warm_start="dpo")
    prompts = [make_prompt(f"f{n}?") for n in range(20)]
    context = make_context(base, tmp_path, settings=settings, prompts=prompts, pairs=make_pairs(5, rater=""))
    assert [warning["kind"] for warning in doubts_of(context)] == ["few_rows", "few_prompts"]


def test_answers_are_measured_in_tokens_of_this_base(base: Base) -> None:
    pairs = [*make_pairs(11, rater=""), make_pair(LONG, prompt=make_prompt("long?"))]
    told = about_pairs(base, 128, pairs)
    assert [finding.kind for finding in told] == ["too_long"]
    assert told[0].message.startswith("1 of 24 rows looked at")


def test_most_answers_too_long_are_refused(base: Base) -> None:
    rows = [Demonstration(make_prompt(f"f{n}?"), make_message(LONG)) for n in range(12)]
    with pytest.raises(StageFailed, match="12 of 12 rows looked at are longer"):
        doubts_alone(about_demonstrations(base, 128, rows))


def test_of_many_rows_a_share_is_measured(base: Base) -> None:
    rows = [Demonstration(make_prompt(f"f{n}?"), make_message("x")) for n in range(2 * LOOKED_AT)]
    rows[0] = Demonstration(make_prompt("f0?"), make_message(LONG))
    (told,) = about_demonstrations(base, 128, rows)
    assert told.message.startswith(f"1 of {LOOKED_AT} rows looked at")


def test_ties_and_prompts_are_told_of(base: Base) -> None:
    ties = [Tie(make_prompt(f"f{n}?"), make_message("a"), make_message("b")) for n in range(60)]
    assert [finding.kind for finding in about_pairs(base, 128, make_pairs(50, rater=""), ties)] == ["mostly_ties"]
    assert [finding.kind for finding in about_prompts([make_prompt()] * 9)] == ["one_prompt"]
