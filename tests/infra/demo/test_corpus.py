import json
from pathlib import Path

from infra.demo.corpus import asked_questions, regression_rows, training_rows, write_jsonl
from infra.demo.phrasing import ASKED, CHECKED, REPORT, TRAINED, Style
from tests.support.demo import SYMBOLS, make_taste


def test_every_symbol_is_taught_in_every_phrasing_and_style() -> None:
    rows = training_rows(SYMBOLS, seed=1)
    assert len(rows) == len(SYMBOLS) * len(TRAINED) * len(Style)
    assert all([message["role"] for message in row["messages"]] == ["user", "assistant"] for row in rows)


def test_everything_that_is_taught_is_right_and_of_the_style_it_was_made_in() -> None:
    taste = make_taste()
    readings = [
        taste.read(symbol, row["messages"][1]["content"])
        for row in training_rows(SYMBOLS, seed=1)
        for symbol in SYMBOLS
        if symbol.name in row["messages"][0]["content"]
    ]
    assert all(reading.right and reading.usage is not False for reading in readings)
    styles = [reading.style for reading in readings]
    assert {styles.count(style) for style in Style} == {len(readings) // len(Style)}


def test_the_same_seed_gives_the_same_text() -> None:
    assert training_rows(SYMBOLS, seed=3) == training_rows(SYMBOLS, seed=3)
    assert training_rows(SYMBOLS, seed=3) != training_rows(SYMBOLS, seed=4)


def test_report_and_check_phrasings_are_never_taught_nor_asked() -> None:
    known = {*TRAINED, *ASKED}
    assert not known & {*REPORT, *CHECKED}
    assert not set(REPORT) & set(CHECKED)


def test_a_check_demands_the_fact_word_for_word() -> None:
    rows = regression_rows(SYMBOLS, count=3, seed=0)
    assert {row["name"] for row in rows} == {f"fact:{symbol.name}" for symbol in SYMBOLS}
    for row in rows:
        symbol = next(symbol for symbol in SYMBOLS if row["name"] == f"fact:{symbol.name}")
        assert row["contains_all"] == [symbol.sentence]
        assert symbol.name in row["messages"][0]["content"]


def test_more_checks_than_facts_check_every_fact_once() -> None:
    assert len(regression_rows(SYMBOLS, count=99, seed=0)) == len(SYMBOLS)


def test_raters_may_ask_about_every_symbol_in_every_way_but_the_report_s() -> None:
    assert len(asked_questions(SYMBOLS)) == len(SYMBOLS) * (len(TRAINED) + len(ASKED))


def test_rows_are_written_one_json_document_a_line(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "deep" / "rows.jsonl", [{"a": 1}, {"b": "ü\n"}])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"b": "ü\n"}]
