"""What was published, what became of it, and the datasets and reward models behind it."""

import pytest

from infra.clock import now
from infra.contracts.manifests import GateReport, RewardManifest, Verdict
from infra.database.engine import Database
from infra.ports import Ports
from infra.registry import adapters
from infra.registry.adapters import TRANSITIONS, AdapterState
from infra.registry.errors import IllegalTransition, NotFound
from tests.support.manifests import make_adapter_manifest, make_dataset_manifest

VERSION = "assistant-1-aaaaaaaa"


@pytest.fixture
def database(ports: Ports) -> Database:
    database = ports.database
    with database.transaction() as session:
        adapters.register(session, make_adapter_manifest(version=VERSION), f"adapters/{VERSION}")
    return database


def brought_to(database: Database, *states: AdapterState) -> None:
    with database.transaction() as session:
        for state in states:
            adapters.move(session, VERSION, state, reason=f"now {state}")


def state(database: Database) -> str:
    with database.reading() as session:
        return adapters.get(session, VERSION).state


def test_a_version_goes_its_way_with_the_reason_of_its_last_move(database: Database) -> None:
    brought_to(database, AdapterState.AWAITING_PERSON, AdapterState.ACCEPTED, AdapterState.CHAMPION)
    with database.reading() as session:
        row = adapters.get(session, VERSION)
    assert (row.state, row.reason) == ("champion", "now champion")


def test_moving_to_where_it_is_does_nothing(database: Database) -> None:
    brought_to(database, AdapterState.ACCEPTED)
    with database.transaction() as session:
        adapters.move(session, VERSION, AdapterState.ACCEPTED, reason="again")
    with database.reading() as session:
        assert adapters.get(session, VERSION).reason == "now accepted"


def test_what_was_refused_stays_refused(database: Database) -> None:
    brought_to(database, AdapterState.REFUSED)
    for target in set(AdapterState) - {AdapterState.REFUSED}:
        with pytest.raises(IllegalTransition, match="from refused"):
            brought_to(database, target)
    assert state(database) == "refused"


def test_nothing_becomes_champion_without_having_been_accepted() -> None:
    served_before = {AdapterState.RETIRED, AdapterState.ROLLED_BACK}
    ways = {source for source, targets in TRANSITIONS.items() if AdapterState.CHAMPION in targets}
    assert ways == {AdapterState.ACCEPTED, *served_before}


def test_every_state_has_its_moves_stated() -> None:
    assert set(TRANSITIONS) == set(AdapterState)


def test_another_tenants_version_does_not_exist(database: Database) -> None:
    with database.reading() as session:
        with pytest.raises(NotFound):
            adapters.get(session, VERSION, "other")
        assert adapters.list_adapters(session, "other") == []


def test_versions_are_listed_newest_first_and_by_alias(database: Database) -> None:
    with database.transaction() as session:
        for version, alias in (("helper-1-bbbbbbbb", "helper"), ("assistant-2-cccccccc", "assistant")):
            adapters.register(session, make_adapter_manifest(version=version, alias=alias), version)
    with database.reading() as session:
        every = [row.version for row in adapters.list_adapters(session, "default")]
        one = [row.version for row in adapters.list_adapters(session, "default", alias="assistant", limit=1)]
    assert every == ["assistant-2-cccccccc", "helper-1-bbbbbbbb", VERSION]
    assert one == ["assistant-2-cccccccc"]


def test_a_manifest_comes_back_as_it_was_published(database: Database) -> None:
    manifest = make_adapter_manifest(version="assistant-9-dddddddd", metrics={"objective/kl": 0.5})
    with database.transaction() as session:
        adapters.register(session, manifest, "elsewhere")
    with database.reading() as session:
        assert adapters.manifest_of(adapters.get(session, manifest.version)) == manifest


def test_the_last_gate_report_stands_beside_the_manifest_and_never_in_it(database: Database) -> None:
    with database.transaction() as session:
        for verdict in (Verdict.INCONCLUSIVE, Verdict.PASS):
            report = GateReport(version=VERSION, champion="base", verdict=verdict, gates=[], decided_at=now())
            adapters.store_gates(session, report)
    with database.reading() as session:
        row = adapters.get(session, VERSION)
    assert row.gates is not None
    assert (row.gates["verdict"], "gates" in row.manifest) == ("pass", False)


def test_registering_a_dataset_twice_keeps_the_first(database: Database) -> None:
    with database.transaction() as session:
        adapters.register_dataset(session, make_dataset_manifest(), "datasets/one")
        adapters.register_dataset(session, make_dataset_manifest(), "datasets/two")
    with database.reading() as session:
        assert adapters.get_dataset(session, "default", "dataset-1").path == "datasets/one"
        with pytest.raises(NotFound, match="dataset-1"):
            adapters.get_dataset(session, "other", "dataset-1")


def test_a_reward_model_has_a_row_of_its_own(database: Database) -> None:
    manifest = RewardManifest(
        name="reward-1", base_revision="rev", dataset_sha256=["0" * 64], sha256="1" * 64, features=False, seed=0,
        created_at=now(),
    )  # fmt: skip
    with database.transaction() as session:
        adapters.register_reward_model(session, "default", manifest, "rewards/one", "1")
        adapters.register_reward_model(session, "default", manifest, "rewards/two", "1")
    with database.reading() as session:
        assert adapters.get_reward_model(session, "reward-1").path == "rewards/one"
        with pytest.raises(NotFound, match="reward-1"):
            adapters.get_reward_model(session, "reward-1", "other")
