"""One look asks everybody; anything may say stop, and votes alone say go on."""

import json
from datetime import timedelta

import pytest

from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import STEPS, Look, Step, StepKind
from infra.registry.tallies import Tally, TallyArm
from infra.settings import ServingSettings
from serving.monitors.limits import PARTS, Limits
from serving.monitors.look import look
from serving.monitors.planning import smallest_drop
from tests.support.raters import BEGAN, LIMITS, make_arms, make_tally

AT = BEGAN + timedelta(days=1)
STEP = Step(share=0.5, min_votes=100, margin=0.2)
LIKED: dict[str, object] = {"votes": 1, "ups": 1}


def seen(tallies: list[Tally], *steps: Step, step: int = 0) -> Look:
    return look(steps or (STEP,), step, tallies, LIMITS, AT)


def test_a_look_has_a_finding_of_every_monitor_that_shares_alpha() -> None:
    assert [finding.name for finding in seen([]).findings] == list(PARTS)


def test_limits_are_the_settings_of_their_names() -> None:
    settings = ServingSettings(rollout_alpha=0.01, rollout_length_ratio=3, rollout_min_raters=40)
    limits = Limits.of(settings)
    assert (limits.alpha_of("vote_rate"), limits.length_ratio, limits.min_raters) == (0.005, 3, 40)


def test_nothing_seen_is_inconclusive_and_still_says_what_could_be() -> None:
    empty = seen([], *STEPS, step=2)
    assert empty.verdict is Verdict.PASS, "this step rules out no margin"
    assert seen([], *STEPS, step=4).verdict is Verdict.INCONCLUSIVE
    assert empty.smallest_drop == smallest_drop(STEPS, LIMITS)
    assert (empty.votes, empty.answers, empty.at) == (0, 0, AT)


def test_liked_as_much_as_the_champion_passes() -> None:
    found = seen(make_arms(900, champion=LIKED, challenger=LIKED))
    assert found.verdict is Verdict.PASS
    assert found.reason.startswith("vote_rate: ")


def test_one_bad_guard_stops_what_the_votes_would_let_pass() -> None:
    found = seen(make_arms(900, champion=LIKED, challenger={**LIKED, "failed": 8}))
    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith("errors: ")
    assert [finding.name for finding in found.findings if finding.verdict is Verdict.FAIL] == ["errors"]


def test_what_was_certain_in_an_earlier_step_still_stops_a_later_one() -> None:
    bad = make_arms(400, champion=LIKED, challenger={"votes": 1, "ups": 0})
    assert seen([*bad, make_tally(step=1)], STEP, Step(share=0.5), step=1).verdict is Verdict.FAIL


def test_votes_and_answers_are_the_challengers_in_this_step_choices_included() -> None:
    challenger, pair = TallyArm.CHALLENGER, TallyArm.PAIR
    tallies = [
        make_tally(challenger, votes=3, answers=7),
        make_tally(challenger, votes=2, answers=5, step=1),
        make_tally(pair, choices=4, wins=2, step=1),
        make_tally(votes=9, step=1),
    ]
    found = seen(tallies, STEP, STEP, step=1)
    assert (found.votes, found.answers) == (6, 5)


def test_mirrored_answers_are_the_challengers_too() -> None:
    shadow = Step(kind=StepKind.SHADOW, share=0.1)
    found = seen([make_tally(TallyArm.SHADOW, answers=4), make_tally()], shadow)
    assert (found.answers, found.verdict) == (4, Verdict.PASS)


@pytest.mark.parametrize("raters", [0, 2, 60])
def test_a_look_can_be_told_as_json_and_read_again(raters: int) -> None:
    found = seen(make_arms(raters, champion={"share": 1e-9}, challenger={"share": 1e-9, "tokens": 10**9}))
    assert Look.model_validate_json(json.dumps(found.model_dump(mode="json"), allow_nan=False)) == found
