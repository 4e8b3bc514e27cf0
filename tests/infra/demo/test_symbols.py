import pytest

from infra.demo.symbols import MOST_SIGNATURE, MOST_WORDS, Symbol, contains, first_sentence, key_words, stdlib_symbols


@pytest.fixture(scope="module")
def symbols() -> list[Symbol]:
    return stdlib_symbols(300)


def test_the_standard_library_holds_three_hundred_facts_that_fit(symbols: list[Symbol]) -> None:
    assert len(symbols) == 300
    assert all(len(symbol.sentence.split()) <= MOST_WORDS for symbol in symbols)
    assert all(len(symbol.signature) <= MOST_SIGNATURE for symbol in symbols)


def test_the_facts_are_the_same_on_every_call(symbols: list[Symbol]) -> None:
    assert stdlib_symbols(300) == symbols


def test_no_fact_contains_another(symbols: list[Symbol]) -> None:
    facts = [key_words(symbol.sentence) for symbol in symbols]
    assert not [
        one for at, one in enumerate(facts) for two in facts[at + 1 :] if contains(one, two) or contains(two, one)
    ]


def test_names_come_once(symbols: list[Symbol]) -> None:
    assert len({symbol.name for symbol in symbols}) == len(symbols)


def test_a_smaller_count_takes_as_many_as_it_asks_for() -> None:
    assert len(stdlib_symbols(7)) == 7


def test_methods_are_called_without_their_self(symbols: list[Symbol]) -> None:
    assert not [symbol for symbol in symbols if "self" in symbol.signature]


def test_signatures_come_from_the_function_itself() -> None:
    known = {symbol.name: symbol for symbol in stdlib_symbols(10_000)}
    assert known["math.cosh"].call == "math.cosh(x, /)"
    assert known["str.capitalize"].call == "str.capitalize()"


@pytest.mark.parametrize(
    ("doc", "sentence"),
    [
        ("Return x.\n\nMore about x.", "Return x."),
        ("Return the\n  sum of all. And more.", "Return the sum of all."),
        ("No full stop", "No full stop."),
        ("", "."),
    ],
)
def test_the_first_sentence_of_a_docstring_ends_at_its_full_stop(doc: str, sentence: str) -> None:
    assert first_sentence(doc) == sentence


def test_key_words_leave_out_articles_and_case() -> None:
    assert key_words("Return the Cosine of x.") == key_words("return a cosine x")


def test_containing_is_by_whole_words() -> None:
    assert contains(("return", "cosine", "x"), ("cosine", "x"))
    assert not contains(("return", "cosines"), ("cosine",))
