"""The trainer benchmark measures both sides alike: same rows, same loss, and only what it says it measures."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bench import trainer
from tests.bench.trainer_bare import batches
from tests.bench.trainer_meter import Meter, Spent
from tests.bench.trainer_rows import Writer, in_steps, make_rows, words
from tests.bench.trainer_work import METHODS, SAMPLING, SIZES, Place, Work, make_work

FIGURES = {"ratio", "tokens_per_s", "peer_tokens_per_s", "peak_mb", "peer_peak_mb", "loss", "peer_loss"}


def make(method: str = "sft", mix: str = "uniform", **overrides: Any) -> Work:
    named = {"device": "cpu", "threads": 1, "steps": 2, **overrides}
    return make_work(method, "tiny", mix, **named)


def write(work: Work) -> list[dict[str, Any]]:
    return make_rows(work, Writer(work, words(50)))


def run(method: str, mix: str, directory: Path) -> dict[str, Any]:
    out = directory / "trainer.json"
    trainer.main([
        "--methods", method, "--sizes", "tiny", "--mixes", mix, "--steps", "2", "--rounds", "1", "--out", str(out),
    ])  # fmt: skip
    return dict(json.loads(out.read_text()))


@pytest.mark.training
@pytest.mark.parametrize(("method", "mix"), [("dpo", "long"), ("rloo", "uniform"), ("ppo", "uniform")])
def test_both_sides_find_the_same_loss_on_the_same_rows(method: str, mix: str, tmp_path: Path) -> None:
    found = run(method, mix, tmp_path)
    (key,) = found["methods"]
    assert key == f"{method}-tiny" + ("-long" if mix == "long" else "")
    case = found["methods"][key]
    assert case.keys() >= FIGURES
    assert all(case[name] > 0 for name in FIGURES if "loss" not in name)
    assert case["loss"] == pytest.approx(case["peer_loss"], rel=0.01)
    assert found["threads"] == 1 and found["torch"] == torch.__version__.split("+")[0]


def test_a_run_that_fails_says_in_its_own_words_why(tmp_path: Path) -> None:
    place = Place(tmp_path, make().key)
    place.write(make())
    with pytest.raises(trainer.SideFailed, match="is no model directory"):
        trainer.start("trainer_ours", place, 1)


def test_the_ratio_is_of_medians_over_the_rounds() -> None:
    def side(*seconds: float) -> list[dict[str, Any]]:
        return [{"seconds": s, "cpu_s": 1.0, "peak_mb": 9.0, "grown_mb": 1.0, "loss": 2.0} for s in seconds]

    found = trainer.summary(100, {"ours": side(1, 2, 30), "peer": side(4, 4, 1)})
    assert found["ratio"] == 2.0
    assert (found["tokens_per_s"], found["peer_tokens_per_s"]) == (50, 25)
    assert found["loss_difference"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_there_are_as_many_rows_as_the_steps_take(method: str) -> None:
    work = make(method)
    rows = write(work)
    assert len(rows) == work.steps * work.batch
    if method in SAMPLING:
        assert {len(row["answers"]) for row in rows} == {len(rows[0]["rewards"])} == {work.samples}


def test_half_of_the_lone_thumbs_are_liked() -> None:
    assert Counter(row["label"] for row in write(make("kto"))) == {True: 16, False: 16}


def test_rows_of_like_length_share_a_step() -> None:
    rows = [{"length": length} for length in (9, 1, 8, 2, 7, 3, 6, 4)]
    steps = in_steps(replace(make("dpo"), batch=4), rows)
    halves = [sorted(row["length"] for row in steps[at : at + 4]) for at in (0, 4)]
    assert sorted(halves) == [[1, 2, 3, 4], [6, 7, 8, 9]]


def test_lone_thumbs_and_prompts_stay_as_they_come() -> None:
    rows = [{"length": length} for length in (9, 1, 8, 2)]
    assert in_steps(make("kto"), rows) == in_steps(make("grpo"), rows) == rows


def test_the_long_mix_has_a_tail_and_the_uniform_one_has_not() -> None:
    def spread(mix: str) -> float:
        lengths = sorted(len(row["completion"].split()) for row in write(make("sft", mix, steps=40)))
        return lengths[len(lengths) * 95 // 100] / lengths[len(lengths) // 2]

    assert spread("uniform") < 2 < spread("long")


def test_the_same_case_has_the_same_rows_every_time() -> None:
    assert write(make("dpo", "long")) == write(make("dpo", "long"))
    assert write(make("dpo", "long")) != write(make("reward", "long"))


def test_words_are_distinct_and_do_not_depend_on_how_many_are_wanted() -> None:
    assert len(set(words(3000))) == 3000
    assert words(3000)[:100] == words(100)


def test_the_sizes_are_what_their_names_say() -> None:
    def parameters(name: str) -> float:
        size = SIZES[name]
        layer = 4 * size.width**2 + 3 * size.width * (size.width * 5 // 2)
        return (size.layers * layer + size.vocab * size.width) / 1e6

    assert 3 < parameters("4m") < 5
    assert 90 < parameters("100m") < 120


def test_time_aside_does_not_count_however_deep_it_is() -> None:
    meter = Meter("cpu")
    now = iter(range(100))
    meter._now = lambda: Spent(next(now), 0.0)  # type: ignore[method-assign]  # moves by one each time it is read
    with meter.on(), meter.aside(), meter.aside():
        pass
    assert meter.read(0.0)["seconds"] == 5 - 3


def test_memory_is_the_peak_since_the_model_was_loaded() -> None:
    meter = Meter("cpu")
    before = torch.ones(60_000_000)
    del before
    meter.begin()
    assert meter.read(0.0)["grown_mb"] < 40
    block = torch.ones(25_000_000)  # 100 MB
    del block
    assert 80 < meter.read(0.0)["grown_mb"] < 140


def test_the_bare_loop_takes_each_row_once_within_its_tokens() -> None:
    rows = [([1] * (5 * at % 17 + 1), [2] * (at % 7 + 1)) for at in range(40)]
    cut = list(batches(rows, 64))
    assert sorted(index for picked in cut for index in picked) == list(range(40))
    assert all(len(picked) * max(len(rows[i][0]) + len(rows[i][1]) for i in picked) <= 64 for picked in cut)


def test_an_unknown_method_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        trainer.parse(["--methods", "sft,orpo"])
    assert "orpo is none of sft" in capsys.readouterr().err
