"""The registry is the same on both databases: every test of it runs on each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.ports import Ports
from tests.support.home import make_ports
from tests.support.servers import emptied_database


@pytest.fixture(params=["sqlite", "postgres"])
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ports]:
    url = emptied_database(request.getfixturevalue("postgres")) if request.param == "postgres" else ""
    made = make_ports(tmp_path, THUMBWHEEL_INFRA__DATABASE_URL=url)
    yield made
    made.close()
