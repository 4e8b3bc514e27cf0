from io import StringIO

import pytest
from rich.console import Console

from infra.demo.agenda import agenda, left_s
from infra.demo.plan import plan_for
from infra.demo.screen import Screen
from tests.support.demo import make_plan


def test_every_cycle_has_its_three_stages_between_start_and_rollback() -> None:
    names = [stage.name for stage in agenda(make_plan(), cycles=2)]
    assert names == [
        "base", "start", "report_base", "votes_1", "cycle_1", "report_1", "votes_2", "cycle_2", "report_2", "rollback",
    ]  # fmt: skip


def test_at_first_all_that_is_expected_is_left() -> None:
    stages = agenda(make_plan(), cycles=1)
    assert left_s(stages, {}, "base", 0) == sum(stage.expected_s for stage in stages)


def test_a_machine_of_half_the_speed_is_expected_to_stay_so() -> None:
    stages = agenda(make_plan(), cycles=1)
    rest = sum(stage.expected_s for stage in stages[1:])
    assert left_s(stages, {"base": 2 * stages[0].expected_s}, "", 0) == pytest.approx(2 * rest)


def test_a_stage_that_takes_longer_than_expected_does_not_eat_the_others_time() -> None:
    stages = agenda(make_plan(), cycles=1)
    assert left_s(stages, {}, "base", 10_000) == sum(stage.expected_s for stage in stages[1:])


def test_when_all_is_done_nothing_is_left() -> None:
    stages = agenda(make_plan(), cycles=1)
    assert left_s(stages, {stage.name: 1.0 for stage in stages}, "", 0) == 0


def test_the_screen_ticks_each_stage_off_with_its_time_and_what_is_left() -> None:
    out = StringIO()
    screen = Screen(agenda(make_plan(), cycles=1), Console(file=out, width=120))
    with screen.stage("base"):
        screen.show(1, 10, "loss 3.2")
    screen.say("a remark")
    assert "base" in screen.spent
    assert "✓ build a base model" in out.getvalue()
    assert "left" in out.getvalue()
    assert "a remark" in out.getvalue()


def test_a_stage_that_fails_is_not_ticked_off() -> None:
    screen = Screen(agenda(make_plan(), cycles=1), Console(file=StringIO()))
    with pytest.raises(RuntimeError), screen.stage("start"):
        raise RuntimeError
    assert screen.spent == {}


def test_the_smoke_plan_is_smaller_in_everything_that_costs() -> None:
    full, smoke = plan_for("full"), plan_for("smoke")
    for name in (
        "symbols",
        "base_steps",
        "checks",
        "raters",
        "pairs_first",
        "pairs_later",
        "report_questions",
        "report_answers",
    ):
        assert getattr(smoke, name) < getattr(full, name)
    assert smoke.trainer["policy_steps"] < full.trainer["policy_steps"]


def test_a_full_report_has_two_thousand_answers_for_each_pair_of_versions() -> None:
    plan = plan_for("full")
    assert 2 * plan.report_questions * plan.report_answers >= 2000
