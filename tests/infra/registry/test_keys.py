"""API keys: a tenant and scopes, of which only a hash is kept."""

from pathlib import Path

import pytest

from infra.database.engine import Database
from infra.identity import key_hash, new_key
from infra.ports import Ports
from infra.registry import audit, keys
from infra.registry.errors import NotFound
from infra.registry.keys import Principal, Scope


@pytest.fixture
def database(ports: Ports) -> Database:
    return ports.database


def add(database: Database, name: str = "web", tenant: str = "default", key: str | None = None) -> str:
    key = key or new_key()
    with database.transaction() as session:
        keys.add(session, key, tenant=tenant, name=name, scopes=[Scope.CHAT, Scope.FEEDBACK], actor="ada")
    return key


def live(database: Database) -> dict[str, Principal]:
    with database.reading() as session:
        return keys.principals(session)


def test_a_key_speaks_for_its_tenant_with_its_scopes(database: Database) -> None:
    key = add(database)
    assert live(database) == {
        key_hash(key): Principal("default", "web", frozenset({Scope.CHAT, Scope.FEEDBACK})),
    }


def test_the_key_itself_is_nowhere_in_the_database(database: Database, tmp_path: Path) -> None:
    key = add(database)
    database.close()
    assert [path.name for path in tmp_path.glob("state.db*") if key.encode() in path.read_bytes()] == []


def test_adding_the_same_key_again_changes_nothing(database: Database) -> None:
    key = add(database)
    add(database, name="other", key=key)
    assert [principal.name for principal in live(database).values()] == ["web"]


def test_a_revoked_key_speaks_for_nobody_and_stays_listed(database: Database) -> None:
    add(database)
    with database.transaction() as session:
        keys.revoke(session, tenant="default", name="web", actor="ada")
    assert live(database) == {}
    with database.reading() as session:
        (row,) = keys.list_keys(session, "default")
        assert row.revoked_at is not None
        assert [entry.action for entry in audit.list_entries(session, "default")] == ["key.revoke", "key.create"]


@pytest.mark.parametrize(("tenant", "name"), [("default", "unknown"), ("other", "web")])
def test_what_is_not_there_cannot_be_revoked(database: Database, tenant: str, name: str) -> None:
    add(database)
    with pytest.raises(NotFound, match=name), database.transaction() as session:
        keys.revoke(session, tenant=tenant, name=name, actor="ada")
    assert len(live(database)) == 1
