"""Versions that were made of datasets, and the traces of answers and events in a room."""

from typing import Any

from feedback.tracing.tracing import Tracing
from infra.clock import now
from infra.contracts.manifests import DatasetManifest, GateReport, GateResult, RewardManifest, Verdict
from infra.contracts.traces import EventTrace, Question, ResponseTrace
from infra.registry import adapters, cycles
from tests.support.events import TENANT
from tests.support.feedback import ALIAS, Room
from tests.support.manifests import make_adapter_manifest

VERSION = "assistant-1-aaaaaaaa"


def make_tracing(room: Room) -> Tracing:
    return Tracing(room.database, room.sealer, room.artifacts)


def trace_answer(room: Room, response_id: str, *, tenant: str = TENANT, **asked: Any) -> ResponseTrace:
    found = make_tracing(room).answer(tenant, Question(response_id=response_id, **asked))
    assert isinstance(found, ResponseTrace)
    return found


def trace_event(room: Room, event_id: str, *, tenant: str = TENANT) -> EventTrace:
    found = make_tracing(room).answer(tenant, Question(event_id=event_id))
    assert isinstance(found, EventTrace)
    return found


def train(room: Room, *datasets: DatasetManifest, version: str = VERSION, **manifest: Any) -> str:
    """A cycle that took the last of these, and the version and reward model that it made; returns the cycle's id."""
    with room.database.transaction() as session:
        cycle = cycles.trigger(session, tenant=TENANT, alias=ALIAS, actor="test")
        cycle.dataset_id, cycle.state = datasets[-1].dataset_id, cycles.CycleState.ACCEPTED
        reward = RewardManifest(
            name=f"{version}-reward", base_revision="0123456789ab", dataset_sha256=[datasets[-1].sha256],
            sha256="2" * 64, features=False, seed=0, created_at=now(),
        )  # fmt: skip
        adapters.register_reward_model(session, TENANT, reward, f"rewards/{version}", cycle.cycle_id)
        made = make_adapter_manifest(
            version=version, cycle_id=cycle.cycle_id, reward_model=reward.name,
            dataset_ids=[one.dataset_id for one in datasets], dataset_sha256=[one.sha256 for one in datasets],
            **manifest,
        )  # fmt: skip
        adapters.register(session, made, f"adapters/{version}")
        gate = GateResult(name="judge", blocking=True, verdict=Verdict.PASS, reason="better")
        report = GateReport(version=version, champion="base", verdict=Verdict.PASS, gates=[gate], decided_at=now())
        adapters.store_gates(session, report)
        return cycle.cycle_id
