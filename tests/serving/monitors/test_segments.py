"""What all gain on average excuses no segment that loses; how many segments there are costs nobody's certainty."""

import pytest

from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Step
from infra.registry.tallies import Tally, TallyArm
from serving.monitors import vote_rate
from serving.monitors.limits import PARTS
from serving.monitors.look import look
from serving.monitors.segments import NAME, alpha_of, check
from tests.support.raters import BEGAN, LIMITS, alternating, make_subject, make_tally, voters

CHAMPION, CHALLENGER = TallyArm.CHAMPION, TallyArm.CHALLENGER
GOOD, MIXED, BAD = (1, 1, 1, 1, 0), (1, 0), (0, 0, 0, 0, 1)
SEGMENTS = ("garden", "nature", "road", "home")


def everyone(raters: int, challenger: dict[str, tuple[int, ...]]) -> list[Tally]:
    """So many of each arm and segment, mixed; the champion is as good as bad to all."""
    return alternating(
        *(voters(CHAMPION, raters, MIXED, segment=segment) for segment in challenger),
        *(voters(CHALLENGER, raters, liked, segment=segment) for segment, liked in challenger.items()),
    )


def test_one_segment_that_is_hurt_stops_what_three_others_gain_by() -> None:
    subject = make_subject(everyone(150, {segment: BAD if segment == "nature" else GOOD for segment in SEGMENTS}))
    assert vote_rate.check(subject).verdict is not Verdict.FAIL
    found = check(subject)
    assert found.verdict is Verdict.FAIL
    assert found.interval is not None
    assert found.interval.value == pytest.approx(0.3, abs=0.06)
    assert found.interval.n == 299, "the first rater is compared with nobody"


def test_the_segment_is_told_by_its_name() -> None:
    tallies = everyone(250, {segment: BAD if segment == "road" else GOOD for segment in SEGMENTS})
    assert look([Step(share=0.5)], 0, tallies, LIMITS, BEGAN).reason.startswith("segments: fall in segment 'road': ")


def test_segments_that_lose_nothing_pass_once_that_is_certain() -> None:
    step = Step(share=0.5, segment_margin=0.2)
    assert check(make_subject(everyone(60, dict.fromkeys(SEGMENTS, MIXED)), step)).verdict is Verdict.INCONCLUSIVE
    assert check(make_subject(everyone(800, dict.fromkeys(SEGMENTS, MIXED)), step)).verdict is Verdict.PASS


def test_what_is_certain_of_all_waits_until_it_is_certain_of_each_segment() -> None:
    tallies = everyone(100, {segment: BAD if segment == "road" else GOOD for segment in SEGMENTS})
    without, wanted = Step(share=0.5, margin=0.1), Step(share=0.5, margin=0.1, segment_margin=0.3)
    assert look([without], 0, tallies, LIMITS, BEGAN).verdict is Verdict.PASS
    waiting = look([wanted], 0, tallies, LIMITS, BEGAN)
    assert waiting.verdict is Verdict.INCONCLUSIVE
    assert waiting.reason.startswith("segments: fall in segment 'road': ")


def test_a_fall_within_the_limit_stops_nothing_however_certain() -> None:
    slightly = (1,) * 24 + (0,) * 26
    assert check(make_subject(everyone(5_000, {"garden": slightly, "nature": MIXED}))).verdict is not Verdict.FAIL


def test_a_segment_of_a_few_raters_concludes_nothing() -> None:
    few = alternating(voters(CHAMPION, 9, (1,), segment="rare"), voters(CHALLENGER, 9, (0,), segment="rare"))
    found = check(make_subject([*few, *everyone(800, {"garden": MIXED})], Step(share=0.5, segment_margin=0.2)))
    assert found.verdict is Verdict.PASS
    assert found.reason.startswith("fall in segment number 1: ")


def test_who_names_no_segment_is_one_too() -> None:
    assert check(make_subject(everyone(150, {"": BAD}))).verdict is Verdict.FAIL


def test_however_many_segments_come_their_chances_of_a_false_abort_are_within_the_monitors() -> None:
    subject = make_subject([make_tally()])
    spent = [alpha_of(subject, code) for code in range(10_000)]
    assert sum(spent) <= LIMITS.alpha * PARTS[NAME]
    assert sum(spent[:4]) > 0.7 * LIMITS.alpha * PARTS[NAME]
