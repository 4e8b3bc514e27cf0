"""A feedback room with a rollout under way, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.database.engine import open_database
from infra.services.postgres import Postgres
from tests.support.feedback import Room, make_room
from tests.support.servers import emptied_database
from tests.support.trials import put_rollout


@pytest.fixture(params=["sqlite", "postgres"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    made = make_room(tmp_path)
    if request.param == "postgres":
        postgres: Postgres = request.getfixturevalue("postgres")
        made.database.close()
        made = replace(made, database=open_database(emptied_database(postgres)))
    put_rollout(made)
    yield made
    made.close()
