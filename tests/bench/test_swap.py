"""The swap benchmark finds what it is there to find: answers that failed, were cut short, or mix versions."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import swap
from tests.bench.swap_load import Load, read
from tests.bench.swap_versions import QUESTIONS, TOKENS, make_versions
from tests.support.event_streams import NoAnswer
from tests.support.tiny_model import make_tiny_model
from trainer.model import load_base

QUESTION = QUESTIONS[0]
OWN = {"v1": {QUESTION: (1, 2, 3)}, "v2": {QUESTION: (4, 5, 6)}}
SWAPS = 8


def make_load() -> Load:
    return Load("http://gateway", "key", OWN)


def event(model: str, *token_ids: int) -> dict[str, Any]:
    return {"model": model, "choices": [{"token_ids": list(token_ids)}]}


@pytest.mark.parametrize(
    ("models", "token_ids"),
    [
        ({"v1"}, (4, 5, 6)),  # another version's whole answer under this one's name
        ({"v1"}, (1, 2, 6)),  # begun by one, ended by the other
        ({"v1", "v2"}, (1, 2, 3)),
        ({"v1"}, (1, 2)),
        ({"v3"}, (1, 2, 3)),
    ],
)
def test_an_answer_that_is_not_wholly_its_versions_own_is_mixed(models: set[str], token_ids: tuple[int, ...]) -> None:
    load = make_load()
    load.judge(QUESTION, models, token_ids)
    assert (load.mixed, load.served.total(), load.requests) == (1, 0, 1)


def test_whose_words_a_mixed_answer_has_is_told() -> None:
    load = make_load()
    load.judge(QUESTION, {"v1"}, (4, 5, 6))
    assert "which is what ['v2'] says" in load.faults[0]


def test_a_whole_answer_is_counted_for_its_version() -> None:
    load = make_load()
    load.judge(QUESTION, *read([event("v1"), event("v1", 1, 2), event("v1", 3)]))
    assert (load.served, load.mixed) == ({"v1": 1}, 0)


def test_an_error_in_the_stream_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="broke off"):
        read([event("v1", 1), {"error": {"message": "the engine broke off"}}])


@pytest.mark.training
def test_no_two_versions_share_an_answer(tmp_path: Path) -> None:
    base = load_base(make_tiny_model(tmp_path / "model"))
    made = list(make_versions(base, tmp_path / "made", 4))
    assert len({version.version for version in made}) == 4
    for question in QUESTIONS:
        assert len({version.answers[question] for version in made}) == 4
        assert {len(version.answers[question]) for version in made} == {TOKENS}


def test_what_a_process_grew_by_leaves_out_the_first_tenth_of_the_swaps() -> None:
    swaps = list(range(10, 1010, 10))
    settled = [900.0 if swap < 100 else 1000.0 for swap in swaps]
    assert swap.grown(swaps, settled) == 0
    assert swap.grown(swaps, [float(swap) for swap in swaps]) == pytest.approx(820)


@pytest.mark.e2e
@pytest.mark.engine
@pytest.mark.timeout(900)
def test_swaps_under_load_fail_no_request_and_mix_no_answer(tmp_path: Path) -> None:
    out = tmp_path / "swap.json"
    assert swap.main(["--swaps", str(SWAPS), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert (found["swaps"], found["failed"], found["mixed"], found["faults"]) == (SWAPS, 0, 0, [])
    assert found["requests"] > SWAPS
    assert found["versions_answered"] > SWAPS // 2, "the swaps happened under the streams"
    assert len(found["rss_mb"]) == SWAPS
