"""How a cycle's policy is trained: from what, held to what, on which rows, by which method."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.clock import now
from infra.contracts.manifests import Verdict
from infra.ports import Ports
from infra.registry import adapters
from infra.registry.cycles import CycleState
from infra.settings import ServingSettings, TrainerSettings
from serving.gates import GATES
from serving.gates.subject import Subject
from tests.support.cycles import cycle_row
from tests.support.datasets import Rows, Tables, make_snapshotted_cycle, make_tables
from tests.support.tiny_cycles import end, evidence_of, make_tiny_ports, manifest_of, published, result_of, serve, train
from trainer.errors import StageFailed
from trainer.workdir import work_dir

pytestmark = pytest.mark.training


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_tiny_ports(tmp_path)
    yield made
    made.close()


def make_thumbs(count: int = 40, **overrides: Any) -> Rows:
    return [
        {
            "prompt": [{"role": "user", "content": f"What does f{number} do?"}],
            "completion": [{"role": "assistant", "content": "a list" if number % 2 else "cosine of x when called"}],
            "label": bool(number % 2),
            "rater": f"rater-{number % 8}",
            **overrides,
        }
        for number in range(count)
    ]


def thumbs_only(**overrides: Any) -> Tables:
    return {"unpaired": {"train": make_thumbs(**overrides)}, "prompts": make_tables()["prompts"]}


def cast(tables: Tables, at: datetime, **overrides: Any) -> Tables:
    """Every judgement at this moment."""
    for table in ("preference", "unpaired"):
        for row in tables.get(table, {}).get("train", []):
            row.update({"occurred_at": at, **overrides})
    return tables


def together(one: Tables, two: Tables) -> Tables:
    """Judgements of both."""
    return {
        **one,
        "preference": {**one["preference"], "train": one["preference"]["train"] + two["preference"]["train"]},
    }


def history_of(ports: Ports, cycle_id: str) -> list[dict[str, float]]:
    path = work_dir(ports.home, cycle_id).at(CycleState.POLICY) / "history.json"
    found: list[dict[str, float]] = json.loads(path.read_text())
    return found


def make_champion(ports: Ports, tables: Tables | None = None, **settings: Any) -> str:
    """The version of a cycle that serves now."""
    cycle_id = make_snapshotted_cycle(ports, tables or cast(make_tables(), now() - timedelta(days=2)), **settings)
    train(ports, cycle_id)
    version = published(ports, cycle_id).version
    end(ports, cycle_id)
    serve(ports, version)
    return version


def test_lone_thumbs_alone_make_a_cycle_of_kto(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, thumbs_only(), method="kto")
    assert train(ports, cycle_id) is CycleState.GATING
    manifest, reward = manifest_of(ports, cycle_id), result_of(ports, cycle_id, CycleState.REWARD)
    assert reward["skipped"] == "0 preference pairs, trainer.min_pairs asks for 10"
    assert (manifest.method, manifest.reward_model, cycle_row(ports, cycle_id).reward_model) == ("kto", None, None)
    assert ports.artifacts.read_json(f"reports/{cycle_id}/report.json")["about"]["reward_model"] is None


def test_gates_that_need_a_judge_are_undecided_without_one_and_never_fail_for_it(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, thumbs_only(), method="kto")
    train(ports, cycle_id)
    evidence = evidence_of(ports, cycle_id)
    assert evidence.judge_win_rate is None
    assert evidence.kl_anchor is not None
    gates = {one.name: one for one in (gate(Subject(evidence, "base", ServingSettings())) for gate in GATES)}
    assert gates["judge"].verdict is gates["reward_accuracy"].verdict is Verdict.INCONCLUSIVE
    assert gates["judge"].reason.startswith("not measured")


def test_dpo_without_a_reward_model_goes_through_the_cycle(ports: Ports) -> None:
    """All pairs are the judge's raters': nothing is left to teach a reward model, and DPO needs none."""
    tables = make_tables()
    for row in tables["preference"]["train"]:
        row["rater"] = "mia"
    cycle_id = make_snapshotted_cycle(ports, tables, method="dpo", data_checks="warn")
    assert train(ports, cycle_id) is CycleState.GATING
    assert manifest_of(ports, cycle_id).reward_model is None


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_from_the_champion_only_what_is_new_to_it_is_learnt_and_it_is_the_reference(ports: Ports, method: str) -> None:
    """A step over the old rows too would be a longer history; what it is held to is where it starts."""
    champion = make_champion(ports)
    later = now() + timedelta(minutes=1)
    old, new = cast(make_tables(), now() - timedelta(days=2)), cast(make_tables(pairs=24, seed=1), later)
    thumbs = [*make_thumbs(occurred_at=now() - timedelta(days=2)), *make_thumbs(16, occurred_at=later)]
    tables = {**together(old, new), "unpaired": {"train": thumbs}}
    cycle_id = make_snapshotted_cycle(ports, tables, method=method, init="champion", preference_batch=4)
    assert train(ports, cycle_id) is CycleState.GATING
    assert manifest_of(ports, cycle_id).parent == champion
    history = history_of(ports, cycle_id)
    assert len(history) == 4  # 16 new rows, four a step
    assert abs(history[0]["rewards/chosen"]) < 1e-4


def test_the_same_cycle_from_the_anchor_takes_all_rows(ports: Ports) -> None:
    make_champion(ports)
    old, new = cast(make_tables(), now() - timedelta(days=2)), cast(make_tables(pairs=24, seed=1), now())
    cycle_id = make_snapshotted_cycle(ports, together(old, new), method="dpo", preference_batch=4)
    train(ports, cycle_id)
    assert manifest_of(ports, cycle_id).parent is None
    assert len(history_of(ports, cycle_id)) == 14


@pytest.mark.parametrize(("method", "what"), [("dpo", "preference pairs"), ("kto", "lone thumbs")])
def test_without_anything_new_a_cycle_from_the_champion_says_so(ports: Ports, method: str, what: str) -> None:
    champion = make_champion(ports)
    old = now() - timedelta(days=2)
    tables = {**cast(make_tables(), old), "unpaired": {"train": make_thumbs(occurred_at=old)}}
    cycle_id = make_snapshotted_cycle(ports, tables, method=method, init="champion")
    with pytest.raises(
        StageFailed, match=rf"has 0 {what} to train on that {champion} hasn't learnt from .*init=anchor"
    ):
        train(ports, cycle_id)
    assert cycle_row(ports, cycle_id).state == CycleState.SFT


def test_samples_are_drawn_from_the_champion_on_all_prompts_though_nothing_is_new(ports: Ports) -> None:
    champion = make_champion(ports)
    cycle_id = make_snapshotted_cycle(ports, cast(make_tables(), now() - timedelta(days=2)), init="champion")
    assert train(ports, cycle_id) is CycleState.GATING
    assert manifest_of(ports, cycle_id).parent == champion


def test_a_champion_that_nobody_knows_the_data_of_is_no_start(ports: Ports) -> None:
    champion = make_champion(ports)
    with ports.database.transaction() as session:
        row = adapters.get(session, champion)
        row.manifest = {**row.manifest, "dataset_ids": []}
    cycle_id = make_snapshotted_cycle(ports, make_tables(), method="dpo", init="champion")
    with pytest.raises(StageFailed, match=f"what {champion} was trained on isn't known any more"):
        train(ports, cycle_id)


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_a_policy_may_learn_from_the_pairs_first_and_then_from_samples(ports: Ports, method: str) -> None:
    cycle_id = make_snapshotted_cycle(ports, method=method, policy_warm_start="dpo", preference_batch=20)
    assert train(ports, cycle_id) is CycleState.GATING
    first, second, *sampled = history_of(ports, cycle_id)
    assert {"warm_start/loss", "warm_start/rewards/margins"} <= first.keys() & second.keys()
    assert ["objective/kl" in step for step in sampled] == [True, True]
    metrics = manifest_of(ports, cycle_id).metrics
    assert {"warm_start/rewards/accuracies", "objective/kl", "reward"} <= metrics.keys()


def test_a_warm_start_from_the_champion_takes_new_pairs(ports: Ports) -> None:
    make_champion(ports)
    old = cast(make_tables(), now() - timedelta(days=2))
    new = cast(make_tables(pairs=24, seed=1), now() + timedelta(minutes=1))
    wanted = {"init": "champion", "policy_warm_start": "dpo", "preference_batch": 4}
    cycle_id = make_snapshotted_cycle(ports, together(old, new), **wanted)
    train(ports, cycle_id)
    assert ["warm_start/loss" in step for step in history_of(ports, cycle_id)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("tables", "method", "reason"),
    [
        (thumbs_only(), "kto", "40 lone thumbs (20 up) say more than 0 pairs"),
        (cast(make_tables(), now(), versions={"chosen": "base", "rejected": "base"}), "dpo", "40 pairs"),
        (
            cast(make_tables(), now(), versions={"chosen": "old", "rejected": "old"}),
            "grpo",
            "0% are the champion's own",
        ),
    ],
)
def test_where_it_is_left_to_the_data_the_method_and_its_reason_are_kept(
    ports: Ports, tables: Tables, method: str, reason: str
) -> None:
    cycle_id = make_snapshotted_cycle(ports, tables, method="auto", reward_epochs=3)
    assert train(ports, cycle_id) is CycleState.GATING
    policy, manifest = result_of(ports, cycle_id, CycleState.POLICY), manifest_of(ports, cycle_id)
    assert (policy["method"], manifest.method) == (method, method)
    assert reason in policy["method_reason"]
    assert TrainerSettings.model_validate(manifest.settings).method == method
    assert cycle_row(ports, cycle_id).settings["method"] == "auto"


def test_an_operator_overrules_the_rule(ports: Ports) -> None:
    tables = {**make_tables(), "unpaired": {"train": make_thumbs(200)}}
    cycle_id = make_snapshotted_cycle(ports, tables, method="dpo")
    train(ports, cycle_id)
    policy = result_of(ports, cycle_id, CycleState.POLICY)
    assert (policy["method"], policy["method_reason"]) == ("dpo", "set by name")
