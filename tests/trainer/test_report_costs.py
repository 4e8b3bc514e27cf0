"""Every second of a cycle is on the bill once, and fixed is what one step would cost as well."""

import pytest

from tests.support.reports import make_cost, make_results
from trainer.report_costs import bill

SECONDS = {
    "queued": 1.0, "snapshotting": 4.0, "sft": 10.0, "reward": 10.0, "policy": 50.0, "evaluating": 10.0,
    "publishing": 5.0, "gating": 10.0,
}  # fmt: skip


def test_the_wall_time_is_the_sum_of_all_states() -> None:
    found = bill(SECONDS, make_results(), "cpu")
    assert found["wall_s"] == sum(SECONDS.values()) == 100
    assert found["missing"] == []


def test_fixed_are_starting_loading_snapshot_publishing_and_validating() -> None:
    results = make_results(publishing=make_cost(start=0.5, load=0.5, work=4.0))
    found = bill(SECONDS, results, "cpu")
    assert found["fixed_s"] == {"start": 5.5, "load": 8.5, "snapshot": 4.0, "publish": 4.0, "validate": 10.0}
    assert found["fixed_share"] == 0.32


def test_a_stage_shows_what_it_spent_and_what_it_computed() -> None:
    assert bill(SECONDS, make_results(), "cpu")["stages"]["policy"] == {
        "seconds": 50.0, "start": 1.0, "load": 2.0, "learning_tokens": 1000, "reading_tokens": 2000,
    }  # fmt: skip


def test_hours_are_those_that_the_trainer_held_the_device_for() -> None:
    found = bill({**SECONDS, "policy": 3565.0}, make_results(), "cuda")
    assert (found["device"], found["device_hours"]) == ("cuda", 1.0)


def test_a_stage_that_is_not_over_has_what_its_result_tells() -> None:
    seconds = {name: value for name, value in SECONDS.items() if name not in ("evaluating", "publishing", "gating")}
    found = bill(seconds, make_results(evaluating=make_cost(1.0, 2.0, 5.0)), "cpu")
    assert found["stages"]["evaluating"]["seconds"] == 8.0
    assert found["missing"] == ["publishing", "gating"]


@pytest.mark.parametrize("seconds", [{}, {"queued": 0.0}])
def test_where_nothing_took_any_time_there_is_no_share(seconds: dict[str, float]) -> None:
    assert bill(seconds, {}, "cpu")["fixed_share"] is None


def test_a_result_without_a_cost_is_no_stage_of_ours() -> None:
    assert bill({}, {"sft": {"skipped": "too few"}}, "cpu")["stages"] == {}
