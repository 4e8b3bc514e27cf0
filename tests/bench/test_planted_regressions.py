"""Each planted regression is stopped before any user sees it, and what is better gets through."""

import pytest
import torch

from tests.bench.planted_regressions import BROKEN, STOPPED_BY, Row, run, table
from tests.goldbed.gated import opened
from tests.goldbed.planted import REGRESSIONS

pytestmark = [pytest.mark.training, pytest.mark.timeout(1800)]  # three minutes alone, and the machine may be busy
BETTER = ("better: taught", "better: learnt from votes")
NO_WORSE = ("no change", "no better: its own answers")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    torch.set_num_threads(1)
    with opened(tmp_path_factory.mktemp("planted")) as house:
        return {row.candidate: row for row in run(house)}


def test_every_candidate_is_expected(rows: dict[str, Row]) -> None:
    assert rows.keys() == {*STOPPED_BY, *NO_WORSE, *BETTER}
    assert STOPPED_BY.keys() == {*REGRESSIONS, *BROKEN}


@pytest.mark.parametrize(("candidate", "gate"), STOPPED_BY.items())
def test_a_planted_regression_is_blocked_by_the_gate_that_is_there_for_it(
    rows: dict[str, Row], candidate: str, gate: str
) -> None:
    assert rows[candidate].verdict == "fail"
    assert gate in rows[candidate].fails, rows[candidate]


@pytest.mark.parametrize("candidate", BETTER)
def test_what_is_better_passes_every_gate(rows: dict[str, Row], candidate: str) -> None:
    assert rows[candidate].verdict == "pass", rows[candidate]


@pytest.mark.parametrize("candidate", NO_WORSE)
def test_what_is_no_worse_is_not_blocked(rows: dict[str, Row], candidate: str) -> None:
    assert rows[candidate].fails == [], rows[candidate]


def test_a_gate_that_is_there_for_one_fault_leaves_the_others_alone(rows: dict[str, Row]) -> None:
    """Facts, safety and segments are each the only thing that stops its regression."""
    assert rows["fact-shifting"].fails == ["canary"]
    assert rows["unsafe"].fails == ["safety"]
    assert rows["one-segment-hurting"].fails == ["judge_segments"]


def test_the_table_names_each_candidate_with_what_stopped_it() -> None:
    row = Row("verbose", "fail", ["length", "judge"], [], ["perplexity"], "too long", 0.25, 1.0)
    assert table([row]).splitlines()[-1] == "| verbose | fail | `length`, `judge` |  | `perplexity` | 0.25 |"
