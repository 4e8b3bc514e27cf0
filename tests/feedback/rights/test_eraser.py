"""The eraser's work on files: whatever dies in between, it ends the same, and only one process does it."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest

from feedback.datasets.snapshot import _Making
from feedback.errors import ErasedMeanwhile
from feedback.rights.traces import RATERS
from infra.artifacts import ArtifactStore, dump_json
from infra.clock import now
from infra.contracts.manifests import DatasetManifest, RewardManifest
from infra.contracts.queries import queries_path
from infra.database.tables import AdapterRow, ErasureRow
from infra.registry import adapters, audit, cycles, erasures, exports, leases
from infra.registry.cycles import CycleState
from infra.registry.exports import ExportState
from tests.support.events import TENANT
from tests.support.feedback import ALIAS, Room
from tests.support.manifests import make_adapter_manifest
from tests.support.people import MIA, mias_day, others_day
from tests.support.queries import make_query
from tests.support.search import search

VERSION = "assistant-1-aaaaaaaa"


def lived(room: Room) -> DatasetManifest:
    room.append([*mias_day(), *others_day()])
    room.consume()
    return room.build(as_of=now())


def trained(room: Room, dataset: DatasetManifest, version: str = VERSION, **evidence: Any) -> None:
    directory = room.home / version
    directory.mkdir()
    (directory / "evidence.json").write_bytes(dump_json({"version": version, "champion": "base", **evidence}))
    room.artifacts.publish(f"adapters/{version}", directory)
    manifest = make_adapter_manifest(version=version, dataset_ids=[dataset.dataset_id], alias=ALIAS)
    with room.database.transaction() as session:
        adapters.register(session, manifest, f"adapters/{version}")


def wished(room: Room) -> str:
    erasure_id = room.erase(MIA)
    room.consume()
    return erasure_id


def erasure(room: Room, erasure_id: str) -> ErasureRow:
    with room.database.reading() as session:
        return erasures.get(session, TENANT, erasure_id)


def directory(dataset: DatasetManifest) -> str:
    return f"datasets/{TENANT}/{dataset.dataset_id}"


def dying(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> None:
    """The artifact store fails at the so many-th call."""
    real: Callable[..., Any] = getattr(ArtifactStore, name)
    calls = iter(range(1, 10_000))

    def failing(self: ArtifactStore, *arguments: Any) -> Any:
        if next(calls) == at:
            raise OSError("the disk is gone")
        return real(self, *arguments)

    monkeypatch.setattr(ArtifactStore, name, failing)


def test_only_files_that_hold_the_person_go(room: Room) -> None:
    dataset = lived(room)
    before = set(room.artifacts.files(directory(dataset)))
    row = erasure(room, wished(room))
    assert room.eraser().turn() == 1
    gone = before - set(room.artifacts.files(directory(dataset)))
    assert gone
    assert RATERS in gone
    assert {name for name in gone if name.startswith("prompts/")} != {n for n in before if n.startswith("prompts/")}
    assert erasure(room, row.erasure_id).report["datasets"] == {dataset.dataset_id: len(gone)}


def test_nothing_to_erase_is_done_at_once(room: Room) -> None:
    room.append(others_day())
    room.consume()
    dataset = room.build(as_of=now())
    erasure_id = wished(room)
    assert room.eraser().turn() == 1
    assert room.eraser().turn() == 0
    row = erasure(room, erasure_id)
    assert (row.state, row.report["datasets"], row.report["adapters"]) == ("done", {}, [])
    with room.database.reading() as session:
        assert adapters.get_dataset(session, TENANT, dataset.dataset_id).erased_at is None


@pytest.mark.parametrize(("step", "at"), [("files", 1), ("delete", 1), ("redact", 1), ("redact", 2), ("read", 1)])
def test_after_a_failure_anywhere_the_next_turn_ends_the_same(
    room: Room, monkeypatch: pytest.MonkeyPatch, step: str, at: int
) -> None:
    dataset = lived(room)
    trained(room, dataset, samples=[{"prompt_id": "hers", "prompt": []}])
    erasure_id = wished(room)
    with monkeypatch.context() as patch:
        dying(patch, step, at)
        room.eraser().turn()
    room.eraser().turn()
    row = erasure(room, erasure_id)
    assert (row.state, row.report["adapters"]) == ("done", [VERSION])
    assert row.report["datasets"].keys() == {dataset.dataset_id}
    assert room.artifacts.read_json(f"adapters/{VERSION}/evidence.json")["samples"] == []
    assert search(room, ["Mia is told"]) == {"Mia is told": set()}
    room.artifacts.fetch(f"adapters/{VERSION}", room.home / "fetched")


def test_a_dataset_that_was_being_made_meanwhile_is_not_registered(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.append([*mias_day(), *others_day()])
    room.consume()
    real = _Making.run

    def erased_meanwhile(self: _Making) -> DatasetManifest:
        manifest = real(self)
        wished(room)
        return manifest

    monkeypatch.setattr(_Making, "run", erased_meanwhile)
    with pytest.raises(ErasedMeanwhile, match="made again"):
        room.build(as_of=now())
    assert room.artifacts.names(f"datasets/{TENANT}") == []


def test_files_of_a_dataset_that_was_never_registered_go_too(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.append([*mias_day(), *others_day()])
    room.consume()
    with monkeypatch.context() as patch:
        patch.setattr(adapters, "register_dataset", lambda *_: (_ for _ in ()).throw(InterruptedError))
        with pytest.raises(InterruptedError):
            room.build(as_of=now())
    wished(room)
    room.eraser().turn()
    assert search(room, ["Mia is told"]) == {"Mia is told": set()}


def test_while_another_process_erases_nothing_is_done(room: Room) -> None:
    lived(room)
    erasure_id = wished(room)
    with room.database.transaction() as session:
        leases.acquire(session, "eraser", "another", 60)
    assert room.eraser().turn() == 0
    assert erasure(room, erasure_id).state == "accepted"


def test_by_default_touched_versions_are_named_and_stay(room: Room) -> None:
    dataset = lived(room)
    trained(room, dataset)
    with room.database.transaction() as session:
        reward = RewardManifest(
            name="reward-1", base_revision="b", dataset_sha256=[dataset.sha256], sha256="0" * 64, features=False,
            seed=0, created_at=now(),
        )  # fmt: skip
        adapters.register_reward_model(session, TENANT, reward, "rewards/reward-1", None)
    row = erasure(room, wished(room))
    room.eraser().turn()
    report = erasure(room, row.erasure_id).report
    assert (report["adapters"], report["reward_models"], report["cycles"]) == ([VERSION], ["reward-1"], {})
    with room.database.reading() as session:
        version = session.get(AdapterRow, VERSION)
        assert version is not None
        assert version.erasure is not None
        assert version.erasure.keys() == {row.erasure_id}
        assert cycles.list_cycles(session, TENANT) == []


def test_with_the_policy_retrain_a_cycle_starts_from_the_anchor(room: Room) -> None:
    trained(room, lived(room))
    erasure_id = wished(room)
    assert room.eraser(erasure_policy="retrain").turn() == 1
    with room.database.reading() as session:
        (cycle,) = cycles.list_cycles(session, TENANT)
    assert (cycle.settings, cycle.alias) == ({"init": "anchor"}, ALIAS)
    assert erasure(room, erasure_id).report["cycles"] == {ALIAS: cycle.cycle_id}


def test_a_retraining_waits_for_the_cycle_that_runs(room: Room) -> None:
    trained(room, lived(room))
    with room.database.transaction() as session:
        running = cycles.trigger(session, tenant=TENANT, alias=ALIAS, actor="test").cycle_id
    erasure_id = wished(room)
    assert room.eraser(erasure_policy="retrain").turn() == 0
    waits = erasure(room, erasure_id)
    assert waits.state == "erasing"
    assert f"cycle {running}" in waits.report["waits_for"]
    assert search(room, ["Mia is told"]) == {"Mia is told": set()}
    with room.database.transaction() as session:
        cycles.request_cancel(session, running, tenant=TENANT, actor="test")
        assert cycles.get(session, running).state == CycleState.CANCELLED
    assert room.eraser(erasure_policy="retrain").turn() == 1
    assert "waits_for" not in erasure(room, erasure_id).report


def test_what_does_not_pass_by_itself_fails_with_its_reason_and_is_tried_again_later(room: Room) -> None:
    trained(room, lived(room))
    room.artifacts.write(f"adapters/{VERSION}/evidence.json", b"{")
    erasure_id = wished(room)
    assert room.eraser().turn() == 0
    row = erasure(room, erasure_id)
    assert row.state == "failed"
    assert "JSONDecodeError" in row.report["reason"]
    assert room.eraser().turn() == 0
    room.artifacts.write(f"adapters/{VERSION}/evidence.json", b"{}")
    with room.database.transaction() as session:
        stored = erasures.get(session, TENANT, erasure_id)
        stored.finished_at = now() - timedelta(hours=2)
    assert room.eraser().turn() == 1
    assert "reason" not in erasure(room, erasure_id).report


def test_exports_of_the_person_are_removed(room: Room) -> None:
    lived(room)
    with room.database.transaction() as session:
        mine, other = (exports.request(session, TENANT, rater, "test") for rater in (MIA, "rater-0"))
        for row in (mine, other):
            room.artifacts.write(f"exports/{TENANT}/{row.export_id}.jsonl", b"{}")
            exports.move(session, TENANT, row.export_id, ExportState.READY, f"exports/{TENANT}/{row.export_id}.jsonl")
    erasure_id = wished(room)
    room.eraser().turn()
    assert room.artifacts.names(f"exports/{TENANT}") == [f"{other.export_id}.jsonl"]
    assert erasure(room, erasure_id).report["exports"] == 1
    with room.database.reading() as session:
        assert exports.of_rater(session, TENANT, MIA) == []


def test_the_end_is_audited_with_its_report(room: Room) -> None:
    lived(room)
    erasure_id = wished(room)
    room.eraser().turn()
    with room.database.reading() as session:
        actions: Iterable[str] = [entry.action for entry in audit.list_entries(session, TENANT, subject=erasure_id)]
    assert list(actions) == ["rater.erased", "rater.erase"]


def test_questions_of_an_erased_prompt_are_taken_out_and_others_stay(room: Room) -> None:
    dataset = lived(room)
    trained(room, dataset)
    table = pq.read_table(room.artifacts.fetch(directory(dataset), room.home / "before") / "prompts")
    asked = [make_query(row["prompt_id"], owner=row["rater"], prompt_id=row["prompt_id"]) for row in table.to_pylist()]
    room.artifacts.write(queries_path(VERSION), dump_json({"queries": [one.model_dump(mode="json") for one in asked]}))
    row = erasure(room, wished(room))
    assert room.eraser().turn() == 1
    left = room.artifacts.read_json(queries_path(VERSION))["queries"]
    assert {one["owner"] for one in left} == {one.owner for one in asked} - {MIA}
    assert 0 < len(left) < len(asked)
    assert erasure(room, row.erasure_id).report["evidence"] == {VERSION: len(asked) - len(left)}
