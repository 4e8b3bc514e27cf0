"""Degenerate data in real cycles: refused before anything is trained, or told beside the result."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from infra.ports import Ports
from infra.registry.cycles import CycleState
from infra.sizes import MOST_PARAMETERS
from tests.support.cycles import cycle_row
from tests.support.datasets import Tables, make_snapshotted_cycle, make_tables
from tests.support.tiny_cycles import make_tiny_ports, manifest_of, result_of, train
from trainer.errors import StageFailed
from trainer.workdir import work_dir

pytestmark = pytest.mark.training
Spoil = Callable[[Tables], Tables]


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_tiny_ports(tmp_path)
    yield made
    made.close()


def spoiled(**overrides: Any) -> Spoil:
    """Every training pair with these columns instead of its own."""

    def spoil(tables: Tables) -> Tables:
        for row in tables["preference"]["train"]:
            row.update(deepcopy(overrides))
        return tables

    return spoil


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def all_ties(tables: Tables) -> Tables:
    rows = tables["preference"].pop("train")
    tied = [{"prompt": row["prompt"], "completion_a": row["chosen"], "completion_b": row["rejected"]} for row in rows]
    return {**tables, "ties": {"train": tied}}


def contradicted(tables: Tables) -> Tables:
    rows = tables["preference"]["train"]
    tables["preference"]["train"] = [
        *rows,
        *({**row, "chosen": row["rejected"], "rejected": row["chosen"], "rater": "other"} for row in rows),
    ]
    return tables


def thumbs(*, up: int, down: int, **overrides: Any) -> Spoil:
    """Lone thumbs in the place of all pairs."""

    def spoil(tables: Tables) -> Tables:
        rows = [
            {
                "prompt": [{"role": "user", "content": f"What does f{number} do?"}],
                "completion": answer("a list"),
                "label": number < up,
                "rater": f"rater-{number % 8}",
                **overrides,
            }
            for number in range(up + down)
        ]
        return {"unpaired": {"train": rows}, "prompts": tables["prompts"]}

    return spoil


def one_prompt(tables: Tables) -> Tables:
    tables["prompts"]["train"] = tables["prompts"]["train"][:1]
    return tables


def huge_demonstrations(tables: Tables) -> Tables:
    rows = [{"prompt": row["prompt"], "completion": answer("cosine " * 300)} for row in tables["prompts"]["train"]]
    return {**tables, "demonstrations": {"train": rows * 4}}


@pytest.mark.parametrize(
    ("spoil", "method", "message"),
    [
        (spoiled(rater="mia"), "grpo", "40 pairs are by 1 raters"),
        (spoiled(rater="mia"), "dpo", "40 pairs are by 1 raters"),
        (all_ties, "grpo", "all 40 comparisons are ties"),
        (all_ties, "dpo", "all 40 comparisons are ties"),
        (contradicted, "grpo", "cancel 100% of all pairs, as coins would"),
        (spoiled(chosen=answer("same"), rejected=answer("same")), "dpo", "40 of 40 pairs have the same text on both"),
        (spoiled(prompt=[{"role": "user", "content": "Hi"}]), "grpo", "40 rows ask 1 different prompts"),
        (one_prompt, "grpo", "1 rows ask 1 different prompts"),
        (spoiled(chosen=answer("")), "grpo", "40 of 40 pairs have an empty answer"),
        (
            spoiled(chosen=answer("cosine " * 300), rejected=answer("x " * 300)),
            "dpo",
            "80 of 80 rows .* longer than",
        ),
        (huge_demonstrations, "grpo", "of .* rows looked at are longer than trainer.max_length"),
        (thumbs(up=40, down=0), "kto", "40 of 40 thumbs are up, 0 down: nothing says what to avoid"),
        (thumbs(up=0, down=40), "kto", "0 of 40 thumbs are up, 40 down: nothing says what to do"),
        (thumbs(up=20, down=20, rater="mia"), "kto", "40 thumbs are by 1 raters"),
        (thumbs(up=5, down=4), "kto", r"has 9 lone thumbs to train on, trainer.min_thumbs asks for 10 \(left out"),
    ],
)
def test_degenerate_data_ends_a_cycle_before_anything_is_trained(
    ports: Ports, spoil: Spoil, method: str, message: str
) -> None:
    tables = spoil(make_tables())
    cycle_id = make_snapshotted_cycle(ports, tables, method=method, sft_min_rows=20)
    with pytest.raises(StageFailed, match=message):
        train(ports, cycle_id)
    assert cycle_row(ports, cycle_id).state == CycleState.SFT
    assert work_dir(ports.home, cycle_id).result(CycleState.SFT) is None


def test_ten_pairs_end_a_cycle(tmp_path: Path) -> None:
    ports = make_tiny_ports(tmp_path, min_pairs=50)
    cycle_id = make_snapshotted_cycle(ports, make_tables(pairs=15))
    with pytest.raises(StageFailed, match=r"has 11 preference pairs to train on, trainer.min_pairs asks for 50"):
        train(ports, cycle_id)
    ports.close()


def test_an_operator_may_train_on_it_all_the_same_and_the_doubts_stay(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, spoiled(rater="mia")(make_tables()), method="dpo", data_checks="warn")
    assert train(ports, cycle_id) is CycleState.GATING
    kept = result_of(ports, cycle_id, CycleState.SFT)["warnings"]
    assert [warning["kind"] for warning in kept] == ["one_rater"]
    assert [warning.model_dump() for warning in manifest_of(ports, cycle_id).warnings] == kept
    assert ports.artifacts.read_json(f"reports/{cycle_id}/report.json")["warnings"] == kept
    assert b"40 pairs are by 1 raters" in ports.artifacts.read(f"reports/{cycle_id}/report.html")


def test_where_all_pairs_are_the_judge_s_a_method_that_needs_a_reward_model_says_so(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, spoiled(rater="mia")(make_tables()), data_checks="warn")
    with pytest.raises(StageFailed, match=r"grpo needs a reward model.*all 40 preference pairs are by raters of the"):
        train(ports, cycle_id)


def test_what_is_odd_but_can_be_learnt_from_is_told_beside_the_result(ports: Ports) -> None:
    tables = make_tables()
    for number, row in enumerate(tables["preference"]["train"]):
        row["rater"] = f"rater-{number % 3:02d}"
    tables["preference"]["train"][0]["rejected"] = answer("")
    cycle_id = make_snapshotted_cycle(ports, tables, method="dpo")
    assert train(ports, cycle_id) is CycleState.GATING
    kept = result_of(ports, cycle_id, CycleState.SFT)["warnings"]
    assert [warning["kind"] for warning in kept] == ["few_raters", "empty_answers"]


def test_a_reward_model_that_may_be_a_coin_is_told_where_the_policy_leans_on_it(ports: Ports) -> None:
    """Held-out raters like what the others dislike: no model of the others can please them."""
    tables = make_tables()
    for row in tables["preference"]["test"]:
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    cycle_id = make_snapshotted_cycle(ports, tables, reward_epochs=3)
    assert train(ports, cycle_id) is CycleState.GATING
    kept = result_of(ports, cycle_id, CycleState.POLICY)["warnings"]
    assert [warning["kind"] for warning in kept] == ["no_better_than_a_coin"]


def test_prompts_that_are_left_out_and_a_base_too_large_for_its_size_are_told(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MOST_PARAMETERS, "small", 1_000)
    tables = make_tables()
    tables["prompts"]["train"].append({"prompt": [{"role": "user", "content": "cosine " * 120}], "prompt_id": "long"})
    cycle_id = make_snapshotted_cycle(ports, tables, reward_epochs=3)
    assert train(ports, cycle_id) is CycleState.GATING
    found = [result_of(ports, cycle_id, state)["warnings"] for state in (CycleState.SFT, CycleState.POLICY)]
    assert [[warning["kind"] for warning in kept] for kept in found] == [["size_too_small"], ["too_long"]]
    assert [warning.kind for warning in manifest_of(ports, cycle_id).warnings] == ["size_too_small", "too_long"]


def test_ordinary_data_leaves_no_warnings(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, make_tables(pairs=90), method="dpo")
    train(ports, cycle_id)
    assert result_of(ports, cycle_id, CycleState.SFT)["warnings"] == []
    assert result_of(ports, cycle_id, CycleState.POLICY)["warnings"] == []
