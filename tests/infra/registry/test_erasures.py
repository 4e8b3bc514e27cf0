"""Erasures and exports in the registry: states, tombstones, and who may move them."""

from datetime import timedelta

import pytest

from infra.clock import now
from infra.contracts.events import Erasure
from infra.database.engine import Database
from infra.database.tables import ErasureRow
from infra.ports import Ports
from infra.registry import adapters, erasures, exports, leases
from infra.registry.erasures import ErasureState
from infra.registry.errors import IllegalTransition, LeaseLost, NotFound
from infra.registry.exports import ExportState
from infra.registry.leases import Lease
from tests.support.events import make_erasure
from tests.support.manifests import make_dataset_manifest

TENANT = "default"


@pytest.fixture
def database(ports: Ports) -> Database:
    return ports.database


def accepted(database: Database, body: Erasure | None = None) -> ErasureRow:
    with database.transaction() as session:
        return erasures.accept(session, TENANT, body or make_erasure(), now())


def lease(database: Database) -> Lease:
    with database.transaction() as session:
        found = leases.acquire(session, "eraser", "test", 60)
    assert found is not None
    return found


def move(database: Database, held: Lease, row: ErasureRow, *states: ErasureState) -> None:
    for state in states:
        with database.transaction() as session:
            erasures.advance(session, held, row, state, {"at": str(state)})


def test_the_same_erasure_is_accepted_once(database: Database) -> None:
    body = make_erasure()
    assert accepted(database, body).erasure_id == accepted(database, body).erasure_id
    with database.reading() as session:
        assert erasures.count(session, TENANT) == 1
        assert erasures.count(session, "acme") == 0


def test_an_erasure_goes_its_way_and_stays(database: Database) -> None:
    row, held = accepted(database), lease(database)
    move(database, held, row, ErasureState.ERASING, ErasureState.ERASING, ErasureState.DONE)
    with database.reading() as session:
        found = erasures.get(session, TENANT, row.erasure_id)
        assert (found.state, found.report) == ("done", {"at": "done"})
        assert found.finished_at is not None
        assert erasures.waiting(session, now()) == []
    with pytest.raises(IllegalTransition, match="from done to erasing"):
        move(database, held, row, ErasureState.ERASING)


def test_one_that_failed_waits_before_it_is_tried_again(database: Database) -> None:
    row, held = accepted(database), lease(database)
    move(database, held, row, ErasureState.ERASING, ErasureState.FAILED)
    with database.reading() as session:
        assert erasures.waiting(session, now() - timedelta(hours=1)) == []
        assert [one.erasure_id for one in erasures.waiting(session, now() + timedelta(seconds=1))] == [row.erasure_id]
    move(database, held, row, ErasureState.ERASING)


def test_who_lost_the_lease_moves_nothing(database: Database) -> None:
    row, held = accepted(database), lease(database)
    with database.transaction() as session:
        leases.acquire(session, "eraser", "test", 60)
    with pytest.raises(LeaseLost):
        move(database, held, row, ErasureState.ERASING)


def test_another_tenants_erasure_is_not_there(database: Database) -> None:
    row = accepted(database)
    with database.reading() as session, pytest.raises(NotFound):
        erasures.get(session, "acme", row.erasure_id)


def test_an_export_that_is_gone_does_not_come_back(database: Database) -> None:
    with database.transaction() as session:
        row = exports.request(session, TENANT, "rater-1", "test")
        exports.move(session, TENANT, row.export_id, ExportState.GONE)
        exports.move(session, TENANT, row.export_id, ExportState.GONE)
        with pytest.raises(IllegalTransition, match="from gone to ready"):
            exports.move(session, TENANT, row.export_id, ExportState.READY, "path")
        with pytest.raises(NotFound):
            exports.get(session, "acme", row.export_id)


def test_a_dataset_is_marked_once_and_its_manifest_with_it(database: Database) -> None:
    with database.transaction() as session:
        adapters.register_dataset(session, make_dataset_manifest(dataset_id="d1"), "datasets/default/d1")
        assert not adapters.is_erased(session, TENANT, "d1")
        manifest = adapters.mark_erased(session, TENANT, "d1")
        assert manifest is not None
        assert manifest.erased
        first = adapters.get_dataset(session, TENANT, "d1").erased_at
        adapters.mark_erased(session, TENANT, "d1")
        assert adapters.get_dataset(session, TENANT, "d1").erased_at == first
        assert adapters.is_erased(session, TENANT, "d1")
        assert adapters.mark_erased(session, TENANT, "never") is None
        assert not adapters.is_erased(session, TENANT, None)
