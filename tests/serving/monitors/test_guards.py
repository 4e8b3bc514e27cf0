"""Each guard has a limit of its own: beyond it is an abort, near it is not."""

import pytest

from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Finding, Step, StepKind
from infra.registry.tallies import Tally, TallyArm
from serving.monitors.guards import GUARDS, check
from serving.monitors.limits import GUARDS as NAMES
from serving.monitors.limits import PARTS
from tests.support.raters import make_arms, make_subject, make_tally

BY_NAME = {guard.name: guard for guard in GUARDS}
SHADOW = Step(kind=StepKind.SHADOW, share=0.5)


def found(name: str, tallies: list[Tally], *steps: Step) -> Finding:
    return check(BY_NAME[name], make_subject(tallies, *steps))


@pytest.mark.parametrize(
    ("name", "champion", "challenger"),
    [
        ("errors", {"failed": 0}, {"failed": 5}),
        ("latency", {"seconds": 10.0}, {"seconds": 40.0}),
        ("length", {"tokens": 200}, {"tokens": 900}),
        ("length", {"tokens": 900}, {"tokens": 200}),
        ("length", {"tokens": 200}, {"tokens": 0}),
        ("refusals", {"refusals": 0}, {"refusals": 6}),
        ("thumbs_down", {"votes": 5, "ups": 5}, {"votes": 5, "ups": 0}),
    ],
)
def test_each_guard_aborts_beyond_its_limit_and_passes_where_arms_are_alike(
    name: str, champion: dict[str, object], challenger: dict[str, object]
) -> None:
    assert found(name, make_arms(300, champion=champion, challenger=challenger)).verdict is Verdict.FAIL
    assert found(name, make_arms(3_000, champion=champion, challenger=champion)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("name", "better"), [("errors", {"failed": 0}), ("latency", {"seconds": 1.0}), ("refusals", {"refusals": 0})]
)
def test_a_challenger_that_is_better_is_not_stopped_for_it(name: str, better: dict[str, object]) -> None:
    worse: dict[str, object] = {"failed": 8, "seconds": 60.0, "refusals": 8}
    assert found(name, make_arms(300, champion=worse, challenger=better)).verdict is Verdict.PASS


def test_ratios_are_told_as_ratios_of_typical_raters() -> None:
    told = found("length", make_arms(4_000, champion={"tokens": 100}, challenger={"tokens": 180}))
    assert told.interval is not None
    assert told.interval.value == pytest.approx(1.8, rel=0.01)
    assert told.threshold == 2.0


def test_a_few_raters_conclude_nothing_however_bad_it_looks() -> None:
    few = make_arms(12, champion={}, challenger={"failed": 10})
    assert found("errors", few).verdict is Verdict.INCONCLUSIVE


def test_half_of_the_answers_failing_stops_before_a_hundred_raters_met_it() -> None:
    assert found("errors", make_arms(160, champion={}, challenger={"failed": 5})).verdict is Verdict.FAIL


def mirrored(raters: int, **challenger: object) -> list[Tally]:
    """Each rater's own answers, and the challenger's to the same."""
    rows = []
    for _ in range(raters):
        own = make_tally(TallyArm.CHAMPION)
        rows += [own, make_tally(TallyArm.SHADOW, unit=own.unit, **challenger)]
    return rows


@pytest.mark.parametrize(("name", "bad"), [("errors", {"failed": 10}), ("length", {"tokens": 2_000})])
def test_mirrored_answers_are_compared_rater_by_rater(name: str, bad: dict[str, object]) -> None:
    told = found(name, [*mirrored(80, **bad), *(make_tally() for _ in range(40))], SHADOW)
    assert told.verdict is Verdict.FAIL
    assert told.interval is not None
    assert told.interval.n == 80
    assert found(name, mirrored(2_000), SHADOW).verdict is Verdict.PASS


def test_mirrored_answers_say_nothing_about_time_or_thumbs() -> None:
    assert found("latency", mirrored(80, seconds=1e3), SHADOW).interval is None
    assert found("thumbs_down", mirrored(80), SHADOW).interval is None


def test_all_that_may_abort_share_alpha() -> None:
    assert tuple(BY_NAME) == NAMES
    assert sum(PARTS.values()) == pytest.approx(1.0)
