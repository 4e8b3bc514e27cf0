"""Feedback's part of a cycle, and every way in which it can end."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from feedback.datasets.builder import Builder
from feedback.datasets.snapshot import Order, Snapshots
from feedback.holding import held
from infra.contracts.events import Consent
from infra.contracts.manifests import DatasetManifest
from infra.database.tables import CycleRow, LeaseRow
from infra.registry import adapters, cycles, leases
from infra.registry.errors import LeaseLost
from tests.support.events import TENANT
from tests.support.feedback import ALIAS, Event, Room, a_days_events

TTL_S = 5.0


def make_builder(room: Room, *, lease_ttl_s: float = TTL_S, **cutter: float) -> Builder:
    snapshots = room.snapshots(window_days=100_000.0)
    return Builder(room.database, snapshots, room.cutter(**cutter), room.metrics, lease_ttl_s)


def trigger(room: Room, alias: str = ALIAS) -> str:
    with room.database.transaction() as session:
        return cycles.trigger(session, tenant=TENANT, alias=alias, actor="test").cycle_id


def cycle(room: Room, cycle_id: str = "1") -> CycleRow:
    with room.database.reading() as session:
        return cycles.get(session, cycle_id)


def interposed(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> None:
    """Something happens while the dataset is being built."""
    real = Snapshots.build

    def build(self: Snapshots, order: Order, **options: Any) -> DatasetManifest:
        before()
        return real(self, order, **options)

    monkeypatch.setattr(Snapshots, "build", build)


def failing(error: Exception) -> Callable[[], object]:
    def fail() -> None:
        raise error

    return fail


def test_a_queued_cycle_gets_its_dataset_and_goes_to_the_trainer(room: Room) -> None:
    room.append(a_days_events())
    room.consume()
    trigger(room)
    assert make_builder(room).turn() == 1
    row = cycle(room)
    assert row.state == "sft"
    with room.database.reading() as session:
        assert row.dataset_id is not None
        assert adapters.get_dataset(session, TENANT, row.dataset_id).alias == ALIAS
        assert not leases.is_live(session, leases.cycle_lease("1"))


def test_nothing_waits_when_no_cycle_does(room: Room) -> None:
    assert make_builder(room).turn() == 0


def test_the_dataset_holds_what_was_acknowledged_before_the_trigger(room: Room) -> None:
    room.append(a_days_events(4))
    room.consume()
    room.append(a_days_events(8)[10:])
    trigger(room)
    timer = threading.Timer(0.3, room.consume)
    timer.start()
    make_builder(room).turn()
    timer.join()
    with room.database.reading() as session:
        (row,) = adapters.list_datasets(session, TENANT)
    assert row.manifest["counts"]["prompts"]["train"] == 8


def test_a_cycle_without_rows_fails_with_the_reason_and_what_to_set(room: Room) -> None:
    silent = {"consent": Consent(train=False)}
    room.append([Event(event.body, event.name, {**event.header, **silent}) for event in a_days_events(4)])
    room.consume()
    trigger(room)
    make_builder(room).turn()
    row = cycle(room)
    assert row.state == "failed"
    assert "6 no_consent (set gateway.consent_default" in (row.reason or "")


def test_a_cycle_of_an_alias_that_nobody_voted_on_says_so(room: Room) -> None:
    trigger(room, "helper")
    make_builder(room).turn()
    assert cycle(room).reason == "no votes on helper in the last 100000 days: rate some answers first"


def test_a_cycle_that_is_cancelled_meanwhile_ends_cancelled(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.append(a_days_events())
    room.consume()
    trigger(room)

    def cancel() -> None:
        with room.database.transaction() as session:
            cycles.request_cancel(session, "1", tenant=TENANT, actor="test")

    interposed(monkeypatch, cancel)
    make_builder(room).turn()
    assert (cycle(room).state, cycle(room).dataset_id) == ("cancelled", None)


def test_a_cycle_that_somebody_holds_is_left_alone(room: Room) -> None:
    trigger(room)
    with room.database.transaction() as session:
        leases.acquire(session, leases.cycle_lease("1"), "another", 60)
    assert make_builder(room).turn() == 0
    assert cycle(room).state == "queued"


def test_a_cycle_whose_builder_died_is_taken_up_by_the_next(room: Room) -> None:
    room.append(a_days_events())
    room.consume()
    trigger(room)
    with room.database.transaction() as session:
        dead = leases.acquire(session, leases.cycle_lease("1"), "dead", -1)
        assert dead
        cycles.advance(session, dead, "1", cycles.CycleState.SNAPSHOTTING)
    make_builder(room).turn()
    assert cycle(room).state == "sft"


def test_a_builder_that_was_paused_and_wakes_changes_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.append(a_days_events())
    room.consume()
    trigger(room)

    def taken_over() -> None:
        with room.database.transaction() as session:
            name = leases.cycle_lease("1")
            row = session.get(LeaseRow, name)
            assert row is not None
            row.holder, row.epoch = "heir", row.epoch + 1

    interposed(monkeypatch, taken_over)
    make_builder(room).turn()
    assert (cycle(room).state, cycle(room).dataset_id) == ("snapshotting", None)


def test_a_database_that_is_away_postpones_the_snapshot(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.append(a_days_events())
    room.consume()
    trigger(room)
    with monkeypatch.context() as patch:
        interposed(patch, failing(OperationalError("SELECT", {}, Exception("locked"))))
        make_builder(room).turn()
    assert cycle(room).state == "snapshotting"
    make_builder(room).turn()
    assert cycle(room).state == "sft"


def test_a_consumer_that_lags_too_far_postpones_the_snapshot(room: Room) -> None:
    room.append(a_days_events(2))
    trigger(room)
    make_builder(room, timeout_s=0.1).turn()
    assert cycle(room).state == "snapshotting"
    with room.database.reading() as session:
        assert not leases.is_live(session, leases.cycle_lease("1"))


def test_an_unforeseen_error_fails_the_cycle_and_is_not_swallowed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.append(a_days_events())
    room.consume()
    trigger(room)
    interposed(monkeypatch, failing(ZeroDivisionError("nobody thought of this")))
    with pytest.raises(ZeroDivisionError):
        make_builder(room).turn()
    assert cycle(room).reason == "the snapshot failed: ZeroDivisionError: nobody thought of this"


def test_a_process_that_ends_leaves_the_cycle_to_the_next_at_once(room: Room) -> None:
    room.append(a_days_events(2))
    trigger(room)
    room.stop.set()
    make_builder(room).turn()
    with room.database.reading() as session:
        assert not leases.is_live(session, leases.cycle_lease("1"))
    assert cycle(room).state == "snapshotting"


def test_a_long_snapshot_keeps_its_lease(room: Room) -> None:
    with room.database.transaction() as session:
        lease = leases.acquire(session, "long", "me", 0.3)
    assert lease
    with held(room.database, lease, 0.3):
        threading.Event().wait(0.8)
        with room.database.reading() as session:
            assert leases.is_live(session, "long")


def test_a_lost_lease_is_learnt_from_the_next_write(room: Room) -> None:
    with room.database.transaction() as session:
        lease = leases.acquire(session, "lost", "me", 0.1)
        assert lease
        leases.acquire(session, "lost", "me", 60)
    with held(room.database, lease, 0.1):
        threading.Event().wait(0.2)
    with pytest.raises(LeaseLost), room.database.transaction() as session:
        leases.fence(session, lease)
