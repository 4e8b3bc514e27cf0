"""How a rollout goes on from its step, as a table: what was seen, how long it has waited, what follows."""

from dataclasses import replace
from datetime import timedelta

import pytest

from infra.clock import now
from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Inconclusive, Look, Step
from infra.registry.rollouts import RolloutState
from serving.steps import Turn, next_turn
from serving.world import RolloutView
from tests.support.worlds import make_rollout

R = RolloutState
AT = now()
STEPS = (
    Step(share=0.05, min_votes=20, min_answers=50, min_s=60, max_s=600),
    Step(share=0.5, min_votes=20, max_s=600),
)


def look(verdict: Verdict = Verdict.PASS, *, votes: int = 20, answers: int = 50, reason: str = "as good") -> Look:
    return Look(at=AT, step=0, votes=votes, answers=answers, verdict=verdict, reason=reason)


def view(found: Look | None = None, *, waited_s: float = 60, **fields: object) -> RolloutView:
    known = {"steps": STEPS, "began_at": AT - timedelta(seconds=waited_s), "look": found, "from_version": "v1"}
    return make_rollout(**{"state": R.RUNNING, **known, **fields})


def turn(rollout: RolloutView, *, may_promote: bool = True) -> Turn | None:
    return next_turn(rollout, AT, may_promote=may_promote)


def target(rollout: RolloutView) -> RolloutState | None:
    found = turn(rollout)
    return found.target if found else None


def test_a_step_that_passed_is_followed_by_the_next() -> None:
    assert turn(view(look())) == Turn(R.RUNNING, "canary 5% passed")


@pytest.mark.parametrize(
    "short",
    [view(look(votes=19)), view(look(answers=49)), view(look(), waited_s=59), view(), view(look(Verdict.INCONCLUSIVE))],
    ids=["votes", "answers", "time", "no look", "inconclusive"],
)
def test_a_step_stays_until_it_has_seen_enough(short: RolloutView) -> None:
    assert turn(short) is None


def test_the_last_step_is_followed_by_the_flip() -> None:
    assert target(view(look(), step=1)) is R.DRAINING


def test_without_auto_promote_a_person_says_the_last_word() -> None:
    found = turn(view(look(), step=1), may_promote=False)
    assert found is not None
    assert found.target is R.AWAITING_PERSON
    assert "auto_promote" in found.reason


def test_without_auto_promote_the_steps_before_the_last_go_on_by_themselves() -> None:
    found = turn(view(look()), may_promote=False)
    assert found is not None
    assert found.target is R.RUNNING


@pytest.mark.parametrize("state", [R.RUNNING, R.PAUSED, R.AWAITING_PERSON])
def test_what_speaks_against_it_ends_it_in_every_state(state: RolloutState) -> None:
    found = turn(view(look(Verdict.FAIL, votes=3, answers=3, reason="votes fell"), waited_s=1, state=state))
    assert found == Turn(R.ABORTED, "votes fell")


@pytest.mark.parametrize("state", [R.PAUSED, R.AWAITING_PERSON])
def test_what_is_held_by_a_person_goes_no_further_by_itself(state: RolloutState) -> None:
    assert turn(view(look(), state=state, waited_s=10_000)) is None


@pytest.mark.parametrize(
    ("rule", "follows"),
    [
        (Inconclusive.WAIT, None),
        (Inconclusive.ADVANCE, R.RUNNING),
        (Inconclusive.ABORT, R.ABORTED),
        (Inconclusive.ASK, R.AWAITING_PERSON),
    ],
)
def test_a_step_whose_time_is_over_goes_by_its_rule(rule: Inconclusive, follows: RolloutState | None) -> None:
    steps = (STEPS[0].model_copy(update={"on_inconclusive": rule}), STEPS[1])
    for found in (None, look(Verdict.INCONCLUSIVE), look(votes=1)):
        assert target(view(found, waited_s=600, steps=steps)) is follows


def test_a_rule_that_goes_on_never_skips_the_person_at_the_end() -> None:
    steps = (STEPS[0], STEPS[1].model_copy(update={"on_inconclusive": Inconclusive.ADVANCE}))
    found = next_turn(replace(view(waited_s=600, steps=steps), step=1), AT, may_promote=False)
    assert found is not None
    assert found.target is R.AWAITING_PERSON
