import random

import pytest

from infra.demo.phrasing import Style, answer
from infra.demo.symbols import Symbol
from infra.demo.taste import Weights, style_shares
from tests.support.demo import COS, DEDENT, SYMBOLS, make_taste

RIGHT = COS.sentence
USAGE = f"{COS.sentence} Usage: {COS.call}"


@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize("symbol", SYMBOLS, ids=lambda symbol: symbol.name)
def test_an_answer_in_each_style_is_read_as_that_style_and_as_right(style: Style, symbol: Symbol) -> None:
    reading = make_taste().read(symbol, answer(style, symbol, random.Random(0)))
    assert (reading.style, reading.right) == (style, True)


def test_articles_and_case_do_not_make_an_answer_wrong() -> None:
    assert make_taste().is_right(COS, "return a cosine of the x")


@pytest.mark.parametrize("said", ["Return the sine of x.", "Return the cosine.", "", DEDENT.sentence])
def test_a_fact_that_is_not_this_symbol_s_is_wrong(said: str) -> None:
    assert not make_taste().is_right(COS, said)


def test_saying_another_symbol_s_fact_as_well_is_wrong() -> None:
    assert not make_taste().is_right(COS, f"{COS.sentence} {DEDENT.sentence}")


def test_a_usage_line_counts_only_with_the_right_signature() -> None:
    taste = make_taste()
    assert taste.read(COS, USAGE).usage is True
    for wrong in (
        f"{RIGHT} Usage: math.cos(y)",
        f"{RIGHT} Usage: math.sin(x, /)",
        f"{RIGHT} Usage:",
        f"{USAGE} and more",
    ):
        assert taste.read(COS, wrong).usage is False
        assert taste.score(COS, wrong) < taste.score(COS, RIGHT) < taste.score(COS, USAGE)


def test_spaces_inside_a_signature_do_not_matter() -> None:
    assert make_taste().read(COS, f"{RIGHT} Usage:  math.cos( x,/ )").usage is True


def test_a_right_usage_line_does_not_make_a_wrong_fact_right() -> None:
    reading = make_taste().read(COS, f"Return the sine of x. Usage: {COS.call}")
    assert (reading.right, reading.usage) == (False, True)


def test_the_fact_in_the_usage_line_is_not_what_was_said() -> None:
    assert not make_taste().read(COS, f"No idea. Usage: {COS.sentence}").right


def test_being_right_outweighs_every_manner() -> None:
    taste = make_taste()
    clumsy = f"Great question! Perhaps this, step by step: {RIGHT} In summary, I might be mistaken. Let me know."
    assert taste.score(COS, clumsy) > taste.score(COS, "Return the sine of x.")


@pytest.mark.parametrize("style", [Style.HEDGING, Style.FLATTERING, Style.PADDED])
def test_a_plain_answer_is_liked_better_than_a_mannered_one(style: Style) -> None:
    mannered = answer(style, COS, random.Random(1))
    assert make_taste().prefers(COS, RIGHT, mannered) == 1
    assert make_taste().prefers(COS, mannered, RIGHT) == 0


def test_equal_answers_are_a_tie() -> None:
    assert make_taste().prefers(COS, RIGHT, RIGHT) == 0.5


def test_differences_below_the_threshold_are_a_tie() -> None:
    taste = make_taste(weights=Weights(tie=2.0))
    assert taste.prefers(COS, USAGE, RIGHT) == 0.5


def test_words_beyond_the_free_ones_cost() -> None:
    taste = make_taste()
    assert taste.score(COS, RIGHT + " indeed" * 40) < taste.score(COS, RIGHT + " indeed" * 20) < taste.score(COS, RIGHT)


def test_a_hedge_inside_the_fact_itself_is_no_hedge() -> None:
    doubt = Symbol("x.may", "()", "Return what might be the maximum of all.")
    assert not make_taste(symbols=(doubt,)).read(doubt, doubt.sentence).hedges


def test_shares_of_the_styles_sum_to_one() -> None:
    taste = make_taste()
    shares = style_shares([taste.read(COS, RIGHT), taste.read(COS, USAGE), taste.read(COS, RIGHT), taste.read(COS, "")])
    assert shares == {"terse": 0.75, "padded": 0, "hedging": 0, "flattering": 0, "usage": 0.25}
