"""The tables that the code declares are the ones that the migrations make."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from feedback.tables import InferenceRow
from infra.database.tables import Base
from tests.support.feedback import Room


def test_the_migrations_make_exactly_the_declared_tables(room: Room) -> None:
    with room.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_tenant_leads_every_primary_key_of_the_room() -> None:
    ours = [
        mapper.local_table for mapper in Base.registry.mappers if mapper.class_.__module__ == InferenceRow.__module__
    ]
    assert len(ours) == 8
    for table in ours:
        assert next(iter(table.primary_key.columns)).name == "tenant"
