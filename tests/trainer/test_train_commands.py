"""`thumbwheel train ...` as a person types it: files in, a directory out, one line for what is wrong."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import structlog
import typer
from click.testing import Result
from typer.testing import CliRunner

from infra.base_model import NotAModel, file_sha256
from infra.logs import log_as_command
from infra.settings import SettingsError
from tests.support.datasets import make_tables, write_dataset
from tests.support.tiny_model import make_tiny_model
from trainer.commands import register

SHORT = [
    word
    for setting in ("policy_steps=2", "policy_prompts=2", "policy_max_new_tokens=6", "lora_rank=4", "reward_rank=4")
    for word in ("--set", setting)
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No service, no database: training needs files alone. Warnings go to standard error, as of every command."""
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path / "home"))
    log_as_command()
    yield
    structlog.reset_defaults()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    write_dataset(tmp_path / "rows", make_tables(pairs=40, demonstrations=8))
    return tmp_path / "rows"


def run(*words: str | Path) -> Result:
    """Errors that the root command turns into one line are raised here."""
    root = typer.Typer()
    register(root)
    return CliRunner().invoke(root, [str(word) for word in words], catch_exceptions=False)


def run_json(*words: str | Path) -> Any:
    return json.loads(run(*words, "--json").stdout)


def refused(*words: str | Path) -> str:
    """What a TrainerError leaves: exit 1 and one line."""
    result = run(*words)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def taught(count: int = 6) -> list[dict[str, Any]]:
    return make_tables(demonstrations=count)["demonstrations"]["train"]


def test_training_from_nothing_needs_a_real_corpus(tmp_path: Path) -> None:
    corpus = write_rows(tmp_path / "corpus.jsonl", [{"text": "no messages"}])
    assert "every line must be" in refused("train", "scratch", "--corpus", corpus, "--out", tmp_path / "model")


@pytest.mark.training
def test_each_method_trains_from_files_alone(tmp_path: Path, model: Path, dataset: Path) -> None:
    shared: list[str | Path] = ["--base", model, "--dataset", dataset, "--set", "reward_features=true", *SHORT]
    sft = run_json("train", "sft", *shared, "--out", tmp_path / "sft")
    reward = run_json("train", "reward", *shared, "--out", tmp_path / "reward")
    grpo = run_json("train", "grpo", *shared, "--reward", tmp_path / "reward", "--out", tmp_path / "grpo")
    for name, found in (("sft", sft), ("reward", reward), ("grpo", grpo)):
        assert (tmp_path / name / "adapter_model.safetensors").is_file()
        assert len(found["sha256"]) == 64
    assert reward["features"]
    assert not reward["other_variant"]["features"]
    assert reward["metrics"]["accuracy"]["n"] == 4
    assert "objective/kl" in grpo["metrics"]
    assert sorted(path.name for path in (tmp_path / "grpo").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "metrics.jsonl",
    ]  # fmt: skip


@pytest.mark.training
def test_the_same_files_and_seed_give_the_same_adapters(tmp_path: Path, model: Path, dataset: Path) -> None:
    shared: list[str | Path] = ["--base", model, "--dataset", dataset, *SHORT, "--set", "reward_epochs=1"]
    found = []
    for turn in ("one", "two"):
        reward = run_json("train", "reward", *shared, "--out", tmp_path / turn / "reward")
        grpo = run_json(
            "train", "grpo", *shared, "--reward", tmp_path / turn / "reward", "--out", tmp_path / turn / "p"
        )
        found.append((reward["sha256"], grpo["sha256"]))
    assert found[0] == found[1]


@pytest.mark.training
def test_pairs_from_a_file_have_no_raters_to_be_measured_on(tmp_path: Path, model: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", make_tables(pairs=24)["preference"]["train"])
    found = run_json("train", "reward", "--base", model, "--dataset", rows, "--out", tmp_path / "reward", *SHORT)
    assert found["metrics"]["pairs"] == 0
    assert "other_variant" not in found


@pytest.mark.training
def test_a_policy_may_learn_from_an_ensemble(tmp_path: Path, model: Path, dataset: Path) -> None:
    shared: list[str | Path] = ["--base", model, "--dataset", dataset, *SHORT]
    wanted = ["--set", "reward_members=2", "--set", "reward_score=worst"]
    reward = run_json("train", "reward", *shared, *wanted, "--out", tmp_path / "reward")
    assert len(reward["metrics"]["member_accuracy"]) == 2
    for number in (0, 1):
        assert (tmp_path / "reward" / f"member-{number}" / "adapter_model.safetensors").is_file()
    ppo = run_json("train", "ppo", *shared, "--reward", tmp_path / "reward", "--out", tmp_path / "ppo")
    assert "objective/kl" in ppo["metrics"]


@pytest.mark.training
def test_trl_s_margin_column_is_heeded(tmp_path: Path, model: Path) -> None:
    """Three rows of one adapter each: no margins, margins, and margins that a setting leaves out."""
    rows, hashes = make_tables(pairs=24)["preference"]["train"], []
    for name, margin, scale in (("none", 0.0, 1), ("stated", 2.0, 1), ("left_out", 2.0, 0)):
        file = write_rows(tmp_path / f"{name}.jsonl", [{**row, "margin": margin} for row in rows])
        words: list[str | Path] = ["--base", model, "--dataset", file, "--out", tmp_path / name, *SHORT]
        found = run_json("train", "reward", *words, "--set", "reward_epochs=3", "--set", f"reward_margin_scale={scale}")
        hashes.append(found["sha256"])
    assert hashes[0] != hashes[1]
    assert hashes[0] == hashes[2]


@pytest.mark.training
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_may_come_from_one_file(tmp_path: Path, model: Path, suffix: str) -> None:
    rows = tmp_path / f"rows{suffix}"
    if suffix == ".jsonl":
        write_rows(rows, taught())
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(taught()), rows)
    found = run_json("train", "sft", "--base", model, "--dataset", rows, "--out", tmp_path / "sft")
    assert found["metrics"]["rows"] == 6


@pytest.mark.training
def test_progress_goes_to_standard_error_and_json_alone_to_standard_output(tmp_path: Path, model: Path) -> None:
    """In a process of its own: nothing that a library prints may come between."""
    rows = write_rows(tmp_path / "rows.jsonl", taught())
    command = ["train", "sft", "--base", model, "--dataset", rows, "--out", tmp_path / "sft", "--json"]
    found = subprocess.run(
        [sys.executable, "-m", "infra.cli", *map(str, command)], capture_output=True, check=True, env={**os.environ}
    )
    assert json.loads(found.stdout)["metrics"]["rows"] == 6
    assert b"sft" in found.stderr
    assert b"1/1" in found.stderr


def test_without_json_one_line_says_what_was_written(tmp_path: Path, model: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", taught())
    result = run("train", "sft", "--base", model, "--dataset", rows, "--out", tmp_path / "sft")
    assert result.stdout.startswith(f"wrote {tmp_path / 'sft'}: loss=")


@pytest.mark.training
def test_a_reward_model_s_figures_are_shown_with_their_intervals(tmp_path: Path, model: Path, dataset: Path) -> None:
    result = run("train", "reward", "--base", model, "--dataset", dataset, "--out", tmp_path / "reward", *SHORT)
    assert re.search(r"pairs=\d+ accuracy=[\d.]+ \([\d.]+ to [\d.]+\)", result.stdout)
    assert "other_variant/loss=" in result.stderr


@pytest.mark.training
def test_the_summary_says_what_was_trained_on_what_and_how_fast(tmp_path: Path, model: Path) -> None:
    pairs = make_tables(pairs=24)["preference"]["train"]
    long = {**pairs[0], "rejected": [answered("the cosine " * 200)]}
    rows = write_rows(tmp_path / "rows.jsonl", [*pairs, long, {**pairs[1], "weight": 0}])
    words = ["--base", model, "--dataset", rows, "--out", tmp_path / "dpo", "--set", "max_length=128"]
    found = run_json("train", "dpo", *words, "--set", "preference_epochs=3", "--set", "preference_batch=8")
    assert found["method"] == "dpo"
    assert (found["base"], found["dataset"], found["out"]) == (str(model), str(rows), str(tmp_path / "dpo"))
    assert found["rows"] == {"used": len(pairs), "left_out": {"too_long": 1, "weightless": 1}}
    assert found["steps"] == 3 * math.ceil(len(pairs) / 8)
    assert found["seconds"].keys() == {"load", "train"}
    assert found["tokens_per_s"] == pytest.approx(found["tokens"] / found["seconds"]["train"], rel=0.01)
    assert found["tokens"] % 3 == 0
    assert found["sha256"] == file_sha256(tmp_path / "dpo" / "adapter_model.safetensors")


@pytest.mark.training
def test_the_metrics_of_each_step_lie_beside_the_adapter(tmp_path: Path, model: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", make_tables(pairs=24)["preference"]["train"])
    words = ["--base", model, "--dataset", rows, "--out", tmp_path / "dpo", "--set", "preference_batch=8"]
    found = run_json("train", "dpo", *words)
    lines = [json.loads(line) for line in (tmp_path / "dpo" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, found["steps"] + 1))
    assert {"loss", "rewards/chosen", "rewards/margins", "rewards/accuracies", "grad_norm"} <= lines[-1].keys()


@pytest.mark.training
def test_the_variant_that_is_only_compared_has_metrics_of_its_own(tmp_path: Path, model: Path, dataset: Path) -> None:
    run("train", "reward", "--base", model, "--dataset", dataset, "--out", tmp_path / "reward", *SHORT)
    one, other = ((tmp_path / "reward" / name).read_text() for name in ("metrics.jsonl", "metrics-other_variant.jsonl"))
    assert one != other
    assert [json.loads(text.splitlines()[0])["step"] for text in (one, other)] == [1, 1]


@pytest.mark.training
def test_tokens_that_were_sampled_are_counted_too(tmp_path: Path, model: Path, dataset: Path) -> None:
    run("train", "reward", "--base", model, "--dataset", dataset, "--out", tmp_path / "reward", *SHORT)
    words = ["--base", model, "--dataset", dataset, "--reward", tmp_path / "reward", "--out", tmp_path / "out"]
    found = run_json("train", "rloo", *words, *SHORT, "--set", "policy_samples=4")
    assert found["rows"] == {"used": 9, "left_out": {}}
    assert 0 < found["tokens"] <= 2 * 2 * 4 * 6  # steps, prompts, samples, longest


def test_without_json_a_second_line_says_how_it_went(tmp_path: Path, model: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", taught())
    result = run("train", "sft", "--base", model, "--dataset", rows, "--out", tmp_path / "sft")
    assert re.search(
        r"^6 rows, 1 steps in [\d.]+ s after [\d.]+ s of loading, \d+ tokens/s$", result.stdout, re.MULTILINE
    )


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path, model: Path) -> None:
    with pytest.raises(SettingsError, match=r"--dataset: .*nowhere does not exist"):
        run("train", "sft", "--base", model, "--dataset", tmp_path / "nowhere", "--out", tmp_path / "x")


@pytest.mark.parametrize("method", ["sft", "reward", "dpo", "kto"])
def test_an_empty_file_is_a_wrong_use_of_the_command(tmp_path: Path, model: Path, method: str) -> None:
    """As a person types it: one line, exit 2, and nothing is left behind."""
    rows = write_rows(tmp_path / "rows.jsonl", [])
    command = ["train", method, "--base", model, "--dataset", rows, "--out", tmp_path / "x"]
    found = subprocess.run(
        [sys.executable, "-m", "infra.cli", *map(str, command)], capture_output=True, text=True, env={**os.environ}
    )
    assert found.returncode == 2
    assert found.stderr == f"thumbwheel: --dataset: {rows} holds no rows\n"
    assert not (tmp_path / "x").exists()


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_trained(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.trackers.find_spec", lambda name: None)
    rows = write_rows(tmp_path / "rows.jsonl", taught())
    words = ["--base", model, "--dataset", rows, "--out", tmp_path / "x", "--set", "report_to=tensorboard"]
    with pytest.raises(SettingsError, match="tensorboard is not installed"):
        run("train", "sft", *words)
    assert list((tmp_path / "x").iterdir()) == []


def test_a_row_without_messages_is_named_by_its_column(tmp_path: Path, model: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": 7, "completion": "plain text"}])
    said = refused("train", "sft", "--base", model, "--dataset", rows, "--out", tmp_path / "x")
    assert said.endswith("column prompt of a row holds no messages: 7")


@pytest.mark.training
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_policy_is_trained_straight_from_judgements_in_trl_s_format(tmp_path: Path, model: Path, method: str) -> None:
    question = [{"role": "user", "content": "What does math.cos do?"}]
    pair = {"chosen": [*question, answered("a list")], "rejected": [*question, answered("a string value")]}
    thumbs = [
        {"prompt": question, "completion": [answered(text)], "label": text == "a list"} for text in ("a list", "x")
    ]
    rows = write_rows(tmp_path / "rows.jsonl", [pair] * 8 if method == "dpo" else thumbs * 4)
    found = run_json("train", method, "--base", model, "--dataset", rows, "--out", tmp_path / "out", *SHORT)
    assert found["metrics"]["rewards/margins" if method == "dpo" else "kl"] is not None
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


@pytest.mark.training
def test_what_is_doubtful_about_the_rows_is_told_at_once_and_beside_the_result(tmp_path: Path, model: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": "Hi", "chosen": "a list", "rejected": "x"}] * 10)
    result = run("train", "dpo", "--base", model, "--dataset", rows, "--out", tmp_path / "out", *SHORT, "--json")
    kept = json.loads(result.stdout)["warnings"]
    assert [warning["kind"] for warning in kept] == ["few_rows", "one_prompt"]
    assert "there are 10 preference pairs to train on" in result.stderr


def test_rows_that_teach_nothing_are_refused(tmp_path: Path, model: Path) -> None:
    up = [{"prompt": f"What does f{number} do?", "completion": "a list", "label": True} for number in range(20)]
    rows = write_rows(tmp_path / "rows.jsonl", up)
    said = refused("train", "kto", "--base", model, "--dataset", rows, "--out", tmp_path / "out", *SHORT)
    assert "20 of 20 thumbs are up, 0 down" in said
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()


@pytest.mark.training
def test_a_policy_is_warmed_up_on_pairs_before_it_samples(tmp_path: Path, model: Path, dataset: Path) -> None:
    run("train", "reward", "--base", model, "--dataset", dataset, "--out", tmp_path / "reward", *SHORT)
    words = ["--base", model, "--dataset", dataset, "--reward", tmp_path / "reward", "--out", tmp_path / "out"]
    found = run_json("train", "grpo", *words, *SHORT, "--set", "policy_warm_start=dpo")
    assert {"warm_start/rewards/margins", "objective/kl"} <= found["metrics"].keys()


def answered(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.training
@pytest.mark.parametrize("method", ["ppo", "rloo"])
def test_a_policy_is_trained_against_a_reward_model_by_each_method(
    tmp_path: Path, model: Path, dataset: Path, method: str
) -> None:
    run("train", "reward", "--base", model, "--dataset", dataset, "--out", tmp_path / "reward", *SHORT)
    words = ["--base", model, "--dataset", dataset, "--reward", tmp_path / "reward", "--out", tmp_path / "out"]
    found = run_json("train", method, *words, *SHORT)
    assert "objective/rlhf_reward" in found["metrics"]
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_a_dataset_without_the_table_says_so(tmp_path: Path, model: Path) -> None:
    said = refused("train", "reward", "--base", model, "--dataset", tmp_path, "--out", tmp_path / "x")
    assert said.endswith("no preference pairs are left to train a reward model on")


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(NotAModel, match="is no model directory"):
        run("train", "sft", "--base", tmp_path, "--dataset", dataset, "--out", tmp_path / "x")


def test_weights_that_cannot_be_read_are_refused(tmp_path: Path, model: Path, dataset: Path) -> None:
    (model / "model.safetensors").write_bytes(b"nothing of the kind")
    assert "can't be loaded" in refused("train", "sft", "--base", model, "--dataset", dataset, "--out", tmp_path / "x")


def test_a_reward_model_that_is_not_there_is_named_before_anything_is_trained(
    tmp_path: Path, model: Path, dataset: Path
) -> None:
    with pytest.raises(SettingsError, match=r"--reward: .* is no reward model"):
        run("train", "grpo", "--base", model, "--dataset", dataset, "--reward", tmp_path, "--out", tmp_path / "x")


@pytest.mark.training
def test_a_reward_model_of_another_base_is_refused(tmp_path: Path, model: Path, dataset: Path) -> None:
    run("train", "reward", "--base", model, "--dataset", dataset, "--out", tmp_path / "reward", *SHORT)
    other = make_tiny_model(tmp_path / "other", kind="qwen2")
    words = ["--base", other, "--dataset", dataset, "--reward", tmp_path / "reward", "--out", tmp_path / "x"]
    assert "is of base" in refused("train", "grpo", *words)


def test_a_place_that_cannot_be_written_is_named_before_anything_is_trained(
    tmp_path: Path, model: Path, dataset: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SettingsError, match="--out: .*taken is no directory"):
        run("train", "sft", "--base", model, "--dataset", dataset, "--out", tmp_path / "taken")


def test_a_setting_that_does_not_exist_is_named(tmp_path: Path, model: Path, dataset: Path) -> None:
    with pytest.raises(SettingsError, match=r"trainer\.sft_epoch: there is no such setting"):
        run("train", "sft", "--base", model, "--dataset", dataset, "--out", tmp_path / "x", "--set", "sft_epoch=3")
