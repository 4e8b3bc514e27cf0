"""The rule behind `trainer.method = auto`: a row of its table each, and what it counts as fresh."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.contracts.manifests import Interval
from trainer.choice import Holdings, freshness, propose

GOOD = Interval(value=0.75, lo=0.66, hi=0.84, n=30)
COIN = Interval(value=0.55, lo=0.48, hi=0.62, n=30)


def make_holdings(**overrides: Any) -> Holdings:
    """Many fresh pairs, a good reward model, hardly any thumbs."""
    fields = {"pairs": 5_000, "up": 20, "down": 10, "prompts": 900, "fresh": 0.8, "accuracy": GOOD}
    return Holdings(**{**fields, **overrides})


@pytest.mark.parametrize(
    ("overrides", "method", "reason"),
    [
        ({}, "grpo", "5000 pairs, 80% fresh, and the reward model is right on 75%"),
        ({"pairs": 300}, "dpo", "300 pairs, 80% fresh: too few to lean on a reward model"),
        ({"pairs": 300, "fresh": 0.2}, "grpo", "300 pairs of which 20% are the champion's own: stale ones teach best"),
        ({"fresh": None}, "grpo", "5000 pairs of unknown writers"),
        ({"accuracy": COIN}, "dpo", "5000 pairs, and a reward model no better than a coin"),
        ({"accuracy": COIN, "fresh": 0.1}, "dpo", "no better than a coin"),
        ({"accuracy": None}, "dpo", "no reward model that was measured on held-out raters"),
        ({"prompts": 0}, "dpo", "no prompts to sample from"),
        ({"pairs": 0, "up": 80, "down": 40, "accuracy": None}, "kto", "120 lone thumbs (80 up) say more than 0 pairs"),
        ({"pairs": 500, "up": 900, "down": 200}, "kto", "1100 lone thumbs"),
    ],
)
def test_what_the_data_speaks_for(overrides: dict[str, Any], method: str, reason: str) -> None:
    found = propose(make_holdings(**overrides))
    assert found.method == method
    assert reason in found.reason


def test_a_pair_is_worth_two_thumbs() -> None:
    assert propose(make_holdings(pairs=50, up=60, down=40)).method != "kto"
    assert propose(make_holdings(pairs=50, up=60, down=41)).method == "kto"


@pytest.mark.parametrize(("up", "down"), [(1_000, 0), (0, 1_000), (991, 9)])
def test_thumbs_of_nearly_one_kind_are_not_what_to_learn_from(up: int, down: int) -> None:
    assert propose(make_holdings(pairs=50, up=up, down=down)).method != "kto"


@given(
    st.builds(
        Holdings,
        pairs=st.integers(0, 10_000),
        up=st.integers(0, 10_000),
        down=st.integers(0, 10_000),
        prompts=st.integers(0, 100),
        fresh=st.none() | st.floats(0, 1),
        accuracy=st.none() | st.floats(0, 1).map(lambda at: Interval(value=at, lo=at - 0.1, hi=at + 0.1, n=9)),
    )
)
@settings(deadline=None)
def test_whatever_it_holds_nothing_is_leaned_on_that_is_not_there(held: Holdings) -> None:
    found = propose(held)
    if found.method == "kto":
        assert min(held.up, held.down) > 0
    elif found.method == "grpo":
        assert held.prompts > 0
        assert held.accuracy is not None
        assert held.accuracy.lo > 0.5
    else:
        assert found.method == "dpo"


def made_by(*writers: str | None, weight: float = 1.0) -> dict[str, Any]:
    return {"versions": dict(zip(("chosen", "rejected"), writers, strict=True)), "weight": weight}


def test_a_pair_is_fresh_where_both_answers_are_the_champion_s() -> None:
    rows = [made_by("v2", "v2"), made_by("v2", "v1"), made_by("v1", "v1"), made_by("v2", "v2")]
    assert freshness(rows, "v2") == 0.5


def test_freshness_goes_by_weight() -> None:
    assert freshness([made_by("v2", "v2", weight=3.0), made_by("v1", "v1")], "v2") == 0.75


def test_a_person_s_own_text_is_nobody_s_and_rows_of_unknown_writers_say_nothing() -> None:
    assert freshness([made_by(None, "v2"), made_by(None, None), {"weight": 1.0}], "v2") == 1.0
    assert freshness([{"weight": 1.0}], "v2") is None
    assert freshness([], "v2") is None
