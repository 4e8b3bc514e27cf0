"""Planted checks: handed out until they are retired, each tenant's to its own."""

import pytest

from infra.checks import make_planting
from infra.database.engine import Database
from infra.ports import Ports
from infra.registry import audit, checks
from infra.registry.errors import NotFound
from tests.support.checks import make_question
from tests.support.stack import ALIAS, TENANT


@pytest.fixture
def database(ports: Ports) -> Database:
    return ports.database


def plant(ports: Ports, tenant: str = TENANT, alias: str = ALIAS, **overrides: object) -> str:
    planting = make_planting(ports.identity, tenant, alias, make_question(**overrides), "ada")
    with ports.database.transaction() as session:
        return checks.add(session, planting.row).check_id


def live(ports: Ports, **wanted: str) -> set[str]:
    with ports.database.reading() as session:
        return set(checks.live(session, **{"tenant": TENANT, "alias": ALIAS, **wanted}))


def test_a_check_is_live_until_it_is_retired_and_stays_listed(ports: Ports) -> None:
    first, second = plant(ports), plant(ports)
    assert live(ports) == {first, second}
    with ports.database.transaction() as session:
        checks.retire(session, tenant=TENANT, check_id=first, actor="bob")
    assert live(ports) == {second}
    with ports.database.reading() as session:
        assert [row.check_id for row in checks.list_checks(session, TENANT)] == [second, first]
        entries = [(entry.action, entry.actor) for entry in audit.list_entries(session, TENANT, subject=first)]
    assert entries == [("check.retire", "bob"), ("check.plant", "ada")]


@pytest.mark.parametrize("tenant", [TENANT, "another"])
def test_what_is_not_there_or_was_retired_before_cannot_be_retired(ports: Ports, tenant: str) -> None:
    check = plant(ports)
    with ports.database.transaction() as session:
        checks.retire(session, tenant=TENANT, check_id=check, actor="bob")
    with pytest.raises(NotFound, match=check), ports.database.transaction() as session:
        checks.retire(session, tenant=tenant, check_id=check, actor="bob")


def test_a_check_is_its_tenants_and_its_aliass(ports: Ports) -> None:
    plant(ports, tenant="another")
    plant(ports, alias="other")
    assert live(ports) == set()
    with ports.database.reading() as session:
        assert [row.alias for row in checks.list_checks(session, TENANT)] == ["other"]
        assert checks.list_checks(session, TENANT, alias=ALIAS) == []


def test_a_segment_leaves_out_the_checks_of_other_segments(ports: Ports) -> None:
    everybodys, german, french = plant(ports), plant(ports, segment="de"), plant(ports, segment="fr")
    assert live(ports, segment="de") == {everybodys, german}
    assert live(ports) == {everybodys, german, french}


def test_an_alias_that_nobody_serves_is_not_planted_for(ports: Ports) -> None:
    with ports.database.reading() as session:
        assert checks.served_alias(session, None, ALIAS) == ALIAS
        with pytest.raises(NotFound, match="unserved"):
            checks.served_alias(session, "unserved", ALIAS)
