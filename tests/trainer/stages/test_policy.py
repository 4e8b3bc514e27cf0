"""How a cycle's policy is trained: from what, held to what, on which rows, by which method."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.clock import now
from infra.contracts.manifests import DatasetManifest, Verdict
from infra.ports import Ports
from infra.registry import adapters
from infra.registry.cycles import CycleState
from infra.settings import ServingSettings, TrainerSettings
from serving.gates import OWN
from serving.gates.subject import Subject
from tests.support.cycles import cycle_row, hold
from tests.support.datasets import Rows, Tables, make_snapshotted_cycle, make_tables
from tests.support.tiny_cycles import end, evidence_of, make_tiny_ports, manifest_of, published, result_of, serve, train
from trainer import warm_start
from trainer.cycle import Holding
from trainer.errors import StageFailed
from trainer.history import Trained
from trainer.methods.policy import PolicyContext
from trainer.raters import is_judges
from trainer.stages import policy
from trainer.stages.material import Material
from trainer.stages.start import Start, unseen_rows
from trainer.workdir import work_dir

pytestmark = pytest.mark.training


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    """Everybody teaches the policy: neither judge nor guard takes raters away."""
    made = make_tiny_ports(tmp_path, judge_share=0, guard_share=0)
    yield made
    made.close()


def make_thumbs(count: int = 40, when: str = "once") -> Rows:
    return [
        {
            "prompt": [{"role": "user", "content": f"What does f{number} do?"}],
            "completion": [{"role": "assistant", "content": "a list" if number % 2 else "cosine of x when called"}],
            "label": bool(number % 2),
            "rater": f"rater-{number % 8}",
            "pair_id": f"{when} thumb {number}",
            "occurred_at": now(),
        }
        for number in range(count)
    ]


def thumbs_only() -> Tables:
    return {"unpaired": {"train": make_thumbs()}, "prompts": make_tables()["prompts"]}


def judged(when: str, pairs: int = 60, thumbs: int = 40, **overrides: Any) -> Tables:
    """Pairs and thumbs of one time, whose names nobody else's have."""
    tables = make_tables(pairs)
    for row in tables["preference"]["train"]:
        row.update({"pair_id": f"{when} {row['pair_id']}", "occurred_at": now(), **overrides})
    return {**tables, "unpaired": {"train": make_thumbs(thumbs, when)}}


def pairs_by(writer: str) -> Tables:
    """Pairs alone, both sides of each by this version."""
    return {**judged("now", versions={"chosen": writer, "rejected": writer}), "unpaired": {"train": []}}


def together(one: Tables, two: Tables) -> Tables:
    """Judgements of both times."""
    tables = ("preference", "unpaired")
    return {**one, **{table: {"train": one[table]["train"] + two[table]["train"]} for table in tables}}


def history_of(ports: Ports, cycle_id: str) -> list[dict[str, float]]:
    path = work_dir(ports.home, cycle_id).at(CycleState.POLICY) / "history.json"
    found: list[dict[str, float]] = json.loads(path.read_text())
    return found


def make_champion(ports: Ports) -> str:
    """The version of a cycle on what was judged before; it serves now."""
    cycle_id = make_snapshotted_cycle(ports, judged("before"))
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
    assert ports.artifacts.read_json(f"reports/{cycle_id}/report.json")["lineage"]["reward_model"] is None


def test_gates_that_need_a_judge_are_undecided_without_one_and_never_fail_for_it(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, thumbs_only(), method="kto")
    train(ports, cycle_id)
    evidence = evidence_of(ports, cycle_id)
    assert evidence.judge_win_rate is None
    assert evidence.kl_anchor is not None
    gates = {one.name: one for one in (gate(Subject(evidence, "base", ServingSettings())) for gate in OWN.values())}
    assert gates["judge"].verdict is gates["reward_accuracy"].verdict is Verdict.INCONCLUSIVE
    assert gates["judge"].reason.startswith("not measured")


def test_dpo_without_a_reward_model_goes_through_the_cycle(ports: Ports) -> None:
    """All pairs are the judge's raters': nothing is left to teach a reward model, and DPO needs none."""
    tables = make_tables()
    for row in tables["preference"]["train"]:
        row["rater"] = "mia"
    cycle_id = make_snapshotted_cycle(ports, tables, judge_share=0.4, method="dpo", data_checks="warn")
    assert train(ports, cycle_id) is CycleState.GATING
    assert manifest_of(ports, cycle_id).reward_model is None


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_from_the_champion_only_what_is_new_to_it_is_learnt_and_it_is_the_reference(ports: Ports, method: str) -> None:
    """A step over the old rows too would be a longer history; what it is held to is where it starts."""
    champion = make_champion(ports)
    tables = together(judged("before"), judged("since", pairs=24, thumbs=16))
    cycle_id = make_snapshotted_cycle(ports, tables, method=method, init="champion", preference_batch=4)
    assert train(ports, cycle_id) is CycleState.GATING
    assert manifest_of(ports, cycle_id).parent == champion
    history = history_of(ports, cycle_id)
    assert len(history) == 4  # 16 new rows, four a step
    assert abs(history[0]["rewards/chosen"]) < 1e-4


def test_the_same_cycle_from_the_anchor_takes_all_rows(ports: Ports) -> None:
    make_champion(ports)
    tables = together(judged("before"), judged("since", pairs=24))
    cycle_id = make_snapshotted_cycle(ports, tables, method="dpo", preference_batch=4)
    train(ports, cycle_id)
    assert manifest_of(ports, cycle_id).parent is None
    assert len(history_of(ports, cycle_id)) == 14


@pytest.mark.parametrize(("method", "what"), [("dpo", "preference pairs"), ("kto", "lone thumbs")])
def test_without_anything_new_a_cycle_from_the_champion_says_so(ports: Ports, method: str, what: str) -> None:
    champion = make_champion(ports)
    cycle_id = make_snapshotted_cycle(ports, judged("before"), method=method, init="champion")
    with pytest.raises(
        StageFailed, match=rf"has 0 {what} to train on that {champion} hasn't learnt from .*init=anchor"
    ):
        train(ports, cycle_id)
    assert cycle_row(ports, cycle_id).state == CycleState.SFT


@pytest.mark.parametrize(("cast_at", "unseen"), [("before the cut", 0), ("after it", 40)])
def test_of_an_erased_dataset_all_that_was_cast_before_its_cut_counts_as_learnt(
    ports: Ports, cast_at: str, unseen: int
) -> None:
    """Its files are gone in part, so that nobody can tell by name."""
    champion = make_champion(ports)
    with ports.database.transaction() as session:
        (dataset_id,) = adapters.manifest_of(adapters.get(session, champion)).dataset_ids
        cut = DatasetManifest.model_validate(adapters.get_dataset(session, "default", dataset_id).manifest).as_of
        adapters.mark_erased(session, "default", dataset_id)
    at = cut - timedelta(seconds=1) if cast_at == "before the cut" else cut + timedelta(seconds=1)
    cycle_id = make_snapshotted_cycle(ports, judged("since", occurred_at=at), method="dpo", init="champion")
    holding = Holding(ports.database, cycle_id, hold(ports, cycle_id, "trainer"), work_dir(ports.home, cycle_id))
    assert len(unseen_rows(Material(ports, holding), Start(champion), "preference")) == unseen


def test_samples_are_drawn_from_the_champion_on_all_prompts_though_nothing_is_new(ports: Ports) -> None:
    champion = make_champion(ports)
    cycle_id = make_snapshotted_cycle(ports, judged("before"), init="champion")
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
    tables = together(judged("before"), judged("since", pairs=24))
    wanted = {"init": "champion", "policy_warm_start": "dpo", "preference_batch": 4}
    cycle_id = make_snapshotted_cycle(ports, tables, **wanted)
    train(ports, cycle_id)
    assert ["warm_start/loss" in step for step in history_of(ports, cycle_id)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("tables", "method", "reason"),
    [
        (thumbs_only(), "kto", "40 lone thumbs (20 up) say more than 0 pairs"),
        (pairs_by("base"), "dpo", "40 pairs, 100% fresh"),
        (pairs_by("old"), "grpo", "40 pairs of which 0% are the champion's own"),
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


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_votes_that_made_the_judge_or_the_guard_never_teach_the_policy(
    ports: Ports, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[PolicyContext] = []

    def noting(context: PolicyContext, *, reference: str | None) -> Trained:
        taught.append(context)
        return warm_start.train_policy(context, reference=reference)

    monkeypatch.setattr(policy, "train_policy", noting)
    tables = judged("now", pairs=300, thumbs=200)
    cycle_id = make_snapshotted_cycle(ports, tables, method=method, judge_share=0.3, guard_share=0.2)
    train(ports, cycle_id)
    models = result_of(ports, cycle_id, CycleState.REWARD)["models"]
    raters = {row.rater for row in (*taught[0].pairs, *taught[0].unpaired)}
    assert models.keys() >= {"reward", "judge"}
    assert raters
    assert not any(is_judges(rater, 0.5 if "guard" in models else 0.3) for rater in raters)
