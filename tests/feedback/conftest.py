"""A feedback room on a directory of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.feedback import Room, make_room


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = make_room(tmp_path)
    yield made
    made.close()
