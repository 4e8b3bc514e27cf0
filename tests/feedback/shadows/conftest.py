"""A feedback room with a rollout in its shadow step, and a judge of other raters; on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.database.engine import open_database
from infra.services.postgres import Postgres
from tests.support.feedback import Room, make_room
from tests.support.mirroring import put_judge, put_versions
from tests.support.servers import emptied_database
from tests.support.trials import put_rollout


def prepared(room: Room) -> Room:
    put_rollout(room)
    put_versions(room.database)
    put_judge(room.database)
    return room


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = prepared(make_room(tmp_path))
    yield made
    made.close()


@pytest.fixture
def full_room(postgres: Postgres, tmp_path: Path) -> Iterator[Room]:
    made = make_room(tmp_path)
    made.database.close()
    made = prepared(replace(made, database=open_database(emptied_database(postgres))))
    yield made
    made.close()
