import pytest

from infra.demo.evaluation import report_questions
from infra.demo.phrasing import ASKED, TRAINED, question
from tests.support.demo import QUESTIONS, SYMBOLS, FakeGateway, assistant_of, make_examination

TERSE = {text: [symbol.sentence] * 2 for text, symbol in QUESTIONS.items()}
HEDGED = {text: [f"Perhaps this: {symbol.sentence}"] * 2 for text, symbol in QUESTIONS.items()}
WRONG = {text: ["Something else."] * 2 for text in QUESTIONS}


def ignore(done: int, total: int) -> None:
    """No screen in tests."""


def test_the_better_side_wins_and_the_sides_add_up_to_one() -> None:
    examination = make_examination()
    assert examination.win_rate(TERSE, HEDGED).value == 1
    assert examination.win_rate(HEDGED, TERSE).value == 0
    assert examination.win_rate(TERSE, TERSE).value == 0.5


def test_a_single_greedy_answer_meets_each_sampled_one() -> None:
    greedy = {text: [symbol.sentence] for text, symbol in QUESTIONS.items()}
    mixed = {text: [TERSE[text][0], HEDGED[text][0]] for text in QUESTIONS}
    estimate = make_examination().win_rate(greedy, mixed)
    assert (estimate.value, estimate.answers) == (0.75, 2 * len(QUESTIONS))


def test_the_share_of_right_answers_and_its_paired_difference() -> None:
    examination = make_examination()
    half = {text: [TERSE[text][0], "Something else."] for text in QUESTIONS}
    assert examination.correct_rate(half).value == 0.5
    assert examination.correct_difference(half, TERSE).value == -0.5
    assert examination.correct_difference(TERSE, WRONG).value == 1


def test_a_question_that_one_side_did_not_answer_is_left_out_of_the_comparison() -> None:
    text = next(iter(QUESTIONS))
    assert make_examination().win_rate({**TERSE, text: []}, HEDGED).answers == 2 * (len(QUESTIONS) - 1)


def test_nothing_to_compare_is_an_error_and_no_half() -> None:
    with pytest.raises(ValueError, match="no answers"):
        make_examination().win_rate({}, TERSE)


def test_styles_and_length_are_of_all_answers() -> None:
    examination = make_examination()
    assert examination.styles(HEDGED)["hedging"] == 1
    assert examination.mean_length(WRONG) == 2


async def test_sampling_asks_every_question_of_the_named_version_at_the_stated_temperature() -> None:
    gateway = FakeGateway()
    async with assistant_of(gateway) as assistant:
        answers = await make_examination(assistant).sit("assistant-1", progress=ignore)
    assert list(answers) == list(QUESTIONS)
    assert all(len(given) == 2 for given in answers.values())
    for body in gateway.sent["/chat/completions"]:
        assert (body["model"], body["temperature"], body["top_p"], body["n"]) == ("assistant-1", 0.7, 1.0, 2)
        assert body["metadata"]["consent_train"] == "false"


async def test_greedy_decoding_asks_for_one_answer_at_temperature_zero() -> None:
    gateway = FakeGateway()
    async with assistant_of(gateway) as assistant:
        answers = await make_examination(assistant).sit("base", greedy=True, progress=ignore)
    assert all(len(given) == 1 for given in answers.values())
    assert {body["temperature"] for body in gateway.sent["/chat/completions"]} == {0.0}


async def test_questions_that_fail_have_no_answers() -> None:
    async with assistant_of(FakeGateway(status=500)) as assistant:
        answers = await make_examination(assistant).sit("base", progress=ignore)
    assert set(map(len, answers.values())) == {0}


def test_report_questions_are_in_words_that_nobody_was_taught_or_asks_with() -> None:
    known = {question(phrasing, symbol) for phrasing in (*TRAINED, *ASKED) for symbol in SYMBOLS}
    assert not known & set(report_questions(SYMBOLS, 12, seed=0))


def test_every_subject_is_reported_on_before_any_comes_twice() -> None:
    assert {symbol.name for symbol in report_questions(SYMBOLS, 3, seed=5).values()} == {s.name for s in SYMBOLS}
    assert len(report_questions(SYMBOLS, 5, seed=5)) == 5
