"""What is traced is the same on both databases: every test of it runs on each."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.database.engine import open_database
from tests.support.feedback import Room, make_room
from tests.support.servers import emptied_database


@pytest.fixture(params=["sqlite", "postgres"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    made = make_room(tmp_path)
    if request.param == "postgres":
        url = emptied_database(request.getfixturevalue("postgres"))
        made.database.close()
        made = replace(made, database=open_database(url))
    yield made
    made.close()
