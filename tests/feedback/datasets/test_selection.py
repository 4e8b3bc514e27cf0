"""What becomes rows is decided over all judgements together, whatever order they come in."""

import numpy as np
import pyarrow as pa
import pytest

from feedback.datasets.facts import event_id, judgement_facts
from feedback.datasets.selection import Chosen, Texts, choose, content_N, drop_leaks, trained_on
from feedback.datasets.split import PROMPT_SALT, RATER_SALT, fraction
from feedback.judgements.judgement import Judgement
from infra.contracts.events import Feedback
from infra.settings import FeedbackSettings
from tests.support.events import event_id as named
from tests.support.events import make_comparison, make_feedback, make_inference, make_ranking, moment
from tests.support.feedback import make_answered, make_judgement, make_judgements, make_settings, make_vote

TEXTS = {"good": "A good answer.", "fine": "A fine answer.", "bad": "A bad answer."}
SHARES = {"test_share": 0.2, "gate_share": 0.2, "report_share": 0.1}


def judged(*cast: tuple[Feedback, str], **envelope: object) -> list[Judgement]:
    """Votes by name on responses that are named like their texts: good-1 and good-2 have the same one."""
    names = {item.response_id for body, _ in cast for item in body.items} | {b.response_id for b, _ in cast}
    answered = [make_answered(make_inference(name, texts=[TEXTS[name.split("-")[0]]])) for name in names if name]
    votes = [make_vote(body, name, occurred_at=moment(at), **envelope) for at, (body, name) in enumerate(cast)]
    return make_judgements(votes, answered)


def chosen_of(judgements: list[Judgement], settings: FeedbackSettings) -> tuple[pa.Table, Chosen]:
    facts = judgement_facts(judgements)
    chosen = choose(facts, settings)
    return facts, drop_leaks(facts, chosen, Texts.of([trained_on(facts, chosen)]))


def dropped(judgements: list[Judgement], **settings: object) -> dict[str, set[str]]:
    """Event ids by the reason that took them; the same ones in the opposite order."""
    found: list[dict[str, set[str]]] = []
    for ordered in (judgements, judgements[::-1]):
        facts, chosen = chosen_of(ordered, make_settings(**settings))
        reasons: dict[str, set[str]] = {}
        for value, fate in zip(facts["event_id"].to_pylist(), chosen.fate_N, strict=True):
            if fate:
                reasons.setdefault(chosen_name(int(fate)), set()).add(event_id(value))
        assert sum(chosen.dropped.values()) == sum(len(ids) for ids in reasons.values())
        found.append(reasons)
    assert found[0] == found[1]
    return found[0]


def chosen_name(fate: int) -> str:
    from feedback.datasets.selection import Fate

    return Fate(fate).name.lower()


def ids(*names: str) -> set[str]:
    return {named(name).hex for name in names}


def rater_on(side: str) -> str:
    """A rater whose votes are for training, or held out."""
    return next(
        unit
        for n in range(1000)
        if (fraction(RATER_SALT, unit := f"rater-{n}") < SHARES["test_share"]) is (side == "test")
    )


def prompt_in(low: float, high: float) -> str:
    """A question whose canonical prompt is in this part of the split."""
    return next(
        text
        for n in range(2000)
        if low <= fraction(PROMPT_SALT, make_judgement(prompt=(text := f"Question {n}?")).prompt_id) < high
    )


ORDINARY = (0.3, 1.0)


def test_saying_the_same_of_the_same_texts_again_counts_once() -> None:
    judgements = judged((make_comparison("good-1", "bad-1"), "first"), (make_comparison("good-2", "bad-2"), "again"))
    assert dropped(judgements) == {"duplicate": ids("again")}


def test_the_same_choice_shown_the_other_way_round_is_a_duplicate() -> None:
    judgements = judged(
        (make_comparison("good-1", "bad-1", "a"), "first"), (make_comparison("bad-2", "good-2", "b"), "again")
    )
    assert dropped(judgements) == {"duplicate": ids("again")}


def test_two_raters_who_agree_are_no_duplicates() -> None:
    one, other = (judged((make_comparison("good-1", "bad-1"), name), rater=name) for name in ("rater-1", "rater-2"))
    assert dropped([*one, *other]) == {}


def test_a_thumb_and_a_comparison_are_no_duplicates() -> None:
    assert dropped(judged((make_comparison("good-1", "bad-1"), "one"), (make_feedback("good-1"), "two"))) == {}


def test_who_says_both_has_said_nothing() -> None:
    judgements = judged(
        (make_comparison("good-1", "bad-1", "a"), "this"),
        (make_comparison("good-2", "bad-2", "b"), "that"),
        (make_comparison("good-3", "fine-3", "a"), "else"),
    )
    assert dropped(judgements) == {"self_contradiction": ids("this", "that")}


def test_a_thumb_up_and_a_thumb_down_on_the_same_text_contradict_each_other() -> None:
    judgements = judged((make_feedback("good-1"), "up"), (make_feedback("good-2", value=False), "down"))
    assert dropped(judgements) == {"self_contradiction": ids("up", "down")}


def test_a_ranking_may_contradict_a_comparison() -> None:
    judgements = judged(
        (make_ranking(["good-1"], ["fine-1"], ["bad-1"]), "ranking"), (make_comparison("bad-2", "good-2"), "choice")
    )
    assert dropped(judgements) == {"self_contradiction": ids("ranking", "choice")}


def test_a_tie_contradicts_nothing() -> None:
    judgements = judged(
        (make_comparison("good-1", "bad-1", "tie"), "tie"), (make_comparison("good-2", "bad-2", "a"), "choice")
    )
    assert dropped(judgements) == {}


def test_two_people_may_disagree() -> None:
    one = judged((make_comparison("good-1", "bad-1", "a"), "one"), rater="rater-1")
    other = judged((make_comparison("good-2", "bad-2", "b"), "other"), rater="rater-2")
    assert dropped([*one, *other]) == {}


def test_a_check_question_never_trains() -> None:
    planted = {"inference": {"check": "better"}}
    assert dropped([make_judgement(name="check", **planted)]) == {"check_question": ids("check")}


def test_judgements_go_where_their_rater_is() -> None:
    mine = [
        make_judgement(
            name=side, rater=rater_on(side), prompt=f"{side} {prompt_in(*ORDINARY)}", texts=(side, f"not {side}")
        )
        for side in ("train", "test")
    ]
    _, chosen = chosen_of(mine, make_settings(test_share=0.2))
    assert chosen.train_N.tolist() == [True, False]


def test_a_held_out_judgement_on_a_prompt_that_is_trained_on_is_dropped() -> None:
    both = [make_judgement(name=side, rater=rater_on(side), texts=(side, f"not {side}")) for side in ("train", "test")]
    assert dropped(both, test_share=0.2) == {"leaks_from_train": ids("test")}


def test_a_held_out_judgement_of_an_answer_that_is_trained_on_is_dropped() -> None:
    train = make_judgement(name="train", rater=rater_on("train"), prompt="One?", texts=("same", "other"))
    test = make_judgement(name="test", rater=rater_on("test"), prompt="Two?", texts=("third", "same"))
    assert dropped([train, test], test_share=0.2) == {"leaks_from_train": ids("test")}


def test_a_correction_leaks_by_its_own_text_too() -> None:
    fix = make_feedback("r1", kind="correction", name="correction", value="The right one.")
    train = make_judgement(fix, name="train", rater=rater_on("train"), prompt="One?", texts=("wrong",))
    test = make_judgement(name="test", rater=rater_on("test"), prompt="Two?", texts=("The right one.", "else"))
    assert dropped([train, test], test_share=0.2) == {"leaks_from_train": ids("test")}


def test_what_is_not_trained_on_does_not_leak() -> None:
    """The judgement that would have trained contradicts another of the same rater."""
    train = judged(
        (make_comparison("good-1", "bad-1", "a"), "this"), (make_comparison("good-2", "bad-2", "b"), "that"),
        rater=rater_on("train"),
    )  # fmt: skip
    test = judged((make_comparison("good-3", "bad-3"), "test"), rater=rater_on("test"))
    assert dropped([*train, *test], test_share=0.2) == {"self_contradiction": ids("this", "that")}


def test_no_policy_learns_from_a_gate_prompt_but_held_out_raters_may_judge_on_it() -> None:
    gate = prompt_in(SHARES["report_share"], SHARES["report_share"] + SHARES["gate_share"])
    both = [
        make_judgement(name=side, rater=rater_on(side), prompt=gate, texts=(side, f"not {side}"))
        for side in ("train", "test")
    ]
    assert dropped(both, **SHARES) == {"held_out_prompt": ids("train")}


def test_nothing_but_reports_ever_sees_a_report_prompt() -> None:
    report = prompt_in(0.0, SHARES["report_share"])
    both = [
        make_judgement(name=side, rater=rater_on(side), prompt=report, texts=(side, f"not {side}"))
        for side in ("train", "test")
    ]
    assert dropped(both, **SHARES) == {"held_out_prompt": ids("train", "test")}


def test_thumbs_that_make_a_pair_know_of_each_other() -> None:
    """The content of one changes with the other, and with nothing else."""
    up, down = judged((make_feedback("good-1"), "up"), (make_feedback("bad-1", value=False), "down"))
    (other,) = judged((make_feedback("fine-1"), "other"), rater="rater-2")
    contents = {}
    for names, some in {"alone": [up], "paired": [up, down], "beside": [up, other]}.items():
        contents[names] = int(content_N(*chosen_of(some, make_settings()))[0])
    assert contents["alone"] == contents["beside"]
    assert contents["paired"] != contents["alone"]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_contents_are_the_same_in_any_order(count: int) -> None:
    some = [make_judgement(make_feedback("r1"), name=f"vote {at}", texts=(f"text {at}",)) for at in range(count)]
    forward, backward = (content_N(*chosen_of(each, make_settings())) for each in (some, some[::-1]))
    assert np.array_equal(forward, backward[::-1])
