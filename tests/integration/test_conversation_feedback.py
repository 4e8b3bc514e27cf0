"""What feedback writes of a conversation's verdict is what the trainer spreads over its turns."""

from pathlib import Path

import pytest

from tests.support.conversations import thumb, turns, verdict
from tests.support.events import TENANT
from tests.support.feedback import make_room
from trainer.conversations import credited
from trainer.data import read_table, unpaired


def test_one_verdict_on_a_conversation_weighs_as_one_vote_spread_over_its_turns(tmp_path: Path) -> None:
    room = make_room(tmp_path)
    room.append([*turns(count=3), verdict(), *turns("s2", 1), thumb("s2", 1)])
    room.consume()
    dataset = room.artifacts.local_path(f"datasets/{TENANT}/{room.build().dataset_id}")
    rows = credited(unpaired(read_table(dataset, "unpaired", "train")), 0.5)
    one = next(row.weight for row in rows if not row.turn)
    spread = {row.turn: row.weight / one for row in rows if row.turn}
    assert spread == pytest.approx({1: 1 / 7, 2: 2 / 7, 3: 4 / 7})
    room.close()
